//! The flags of `canary serve`.

use std::path::PathBuf;

use appinfo::config::Listen;
use clap::Args;

use crate::{
    serve::HostName,
    source::{flags::SourceFlags, opened::Bounds},
    trial::TrialFlags,
};

/// What `--help` says at the end.
pub(crate) const HELP: &str = "\
Examples:
  canary serve                                           appinfo on this machine, at port 8080
  canary serve http://shop.example.com/ --listen :8090   for other machines, too
  canary serve --prometheus http://prometheus:9090       by the service's own counters

Exit codes:
  0    ended by a signal, after all requests were answered
  3    a mistake in the command line
  6    the port cannot be used, or there are too few open files (ulimit -n)
  128+n  ended by a second signal n, before all requests were answered

docs/serve.md describes the paths, the JSON, and when a trial begins.";

/// `canary serve`.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Server")]
pub struct ServeFlags {
    /// Where to serve; :8090 means port 8090 of every address of this machine
    #[arg(long, value_name = "[ADDRESS]:PORT", default_value = "127.0.0.1:8090")]
    pub listen: Listen,

    /// Where to serve /healthz, /readyz and /metrics as well, for probes that must not wait behind clients
    #[arg(long, value_name = "[ADDRESS]:PORT")]
    pub admin_listen: Option<Listen>,

    /// A host name that clients may use, besides localhost and IP addresses; may be repeated
    #[arg(long, value_name = "NAME")]
    pub allow_host: Vec<HostName>,

    /// Let other machines reset a trial; each reset is another chance to err
    #[arg(long)]
    pub allow_reset: bool,

    /// A file with a secret. Who shows it may reset a trial, and end a rollout at once
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,

    /// How to judge.
    #[command(flatten)]
    pub trial: TrialFlags,

    /// Write what is counted, and the settings, to this file, up to 256 MiB: `canary judge --input FILE` reads it
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub record: Option<PathBuf>,

    /// Keep the trials in this file, so that they go on after a restart, even after kill -9
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub state: Option<PathBuf>,

    /// Where outcomes come from.
    #[command(flatten)]
    pub source: SourceFlags,
}

impl ServeFlags {
    pub(super) fn bounds(&self) -> Bounds {
        let TrialFlags { max_latency, share, slower_by, episodes, .. } = self.trial;
        let (compares_latency, compares_pods) = (slower_by.is_some(), episodes.is_some());
        Bounds { max_latency, compares_latency, compares_pods, share, ..Bounds::default() }
    }
}
