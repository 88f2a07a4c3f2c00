//! The flags of `canary watch`.

use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::{
    source::{
        flags::SourceFlags,
        opened::{Bounds, count, duration},
    },
    trial::TrialFlags,
};

/// What `--help` says at the end.
pub(crate) const HELP: &str = "\
Examples:
  canary watch                                       appinfo on this machine, at port 8080
  canary watch http://shop.example.com/ --rate 20    another service, 20 times a second
  canary watch --for 1m --output json                a line of JSON a second, for a minute
  canary watch service/shop --canary track=canary    its pods in Kubernetes, those with the label

Keys: q or Ctrl-C quit, p pause, r reset, Ctrl-Z suspend.

If a name has several addresses, each request goes to one of them at random. A request without an
answer is attributed to the release that this address named last, unless it names several.

Exit codes:
  0    ended by a key or Ctrl-C, or after --for or --count
  3    a mistake in the command line
  4    no request was answered within --for or --count
  6    no terminal, the output cannot be written, or there are too few open files (ulimit -n)
  128+n  ended by signal n (but 0 on Ctrl-C)";

/// `canary watch`.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Requests")]
pub struct WatchFlags {
    /// How long to watch; without it, until Ctrl-C
    #[arg(long = "for", value_name = "TIME", value_parser = duration)]
    pub time: Option<Duration>,

    /// The maximum number of requests to send
    #[arg(long, value_name = "NUMBER", value_parser = |text: &str| count(text, 1..=u64::MAX))]
    #[arg(conflicts_with = "prometheus")]
    pub count: Option<u64>,

    /// How to judge.
    #[command(flatten)]
    pub trial: TrialFlags,

    /// picture, or json: a line a second and a summary. The default is a picture if standard output is a terminal
    #[arg(long, value_name = "FORM", hide_possible_values = true, help_heading = "Output")]
    pub output: Option<WatchOutput>,

    /// Where outcomes come from.
    #[command(flatten)]
    pub source: SourceFlags,
}

impl WatchFlags {
    pub(super) fn bounds(&self) -> Bounds {
        Bounds {
            time: self.time,
            count: self.count,
            max_latency: self.trial.max_latency,
            compares_latency: self.trial.slower_by.is_some(),
            compares_pods: self.trial.episodes.is_some(),
            share: self.trial.share,
        }
    }
}

/// The output of `canary watch`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum WatchOutput {
    /// A live picture, in a terminal.
    Picture,
    /// A line of JSON a second, and one for all of it at the end.
    Json,
}
