//! The flags of `canary judge`.

use std::{path::PathBuf, time::Duration};

use clap::{ArgMatches, Args, Id, ValueEnum, parser::ValueSource};

use crate::{
    source::{
        flags::SourceFlags,
        lines::LinesFlags,
        opened::{Bounds, count, duration, ids},
    },
    trial::TrialFlags,
};

/// What `--help` says at the end.
pub(crate) const HELP: &str = "\
Examples:
  canary judge http://shop.example.com/ --for 10m && kubectl apply -f promote.yaml
  canary judge --max-failure-rate 0.5% --slower-by 20%
  canary judge --prometheus http://127.0.0.1:9090
  canary judge --input outcomes.jsonl
  canary judge deployment/shop deployment/shop-canary

Exit codes:
  0    promote: the canary fails at most --max-failure-rate, or stable fails more than that
       and the canary at most --max-ratio times as often
  1    roll back: the canary is worse than stable, or slower than --slower-by allows
  2    not yet: there were too few answers within --for, --count or the input
  3    a mistake in the command line, or in a line of --input
  4    no request was answered
  5    no answer named the stable release, or none named the canary
  6    the input cannot be read, the output cannot be written, or there are too few open files
       (ulimit -n)
  7    hold: as 2, but both releases fail more than --max-failure-rate, without a clear
       difference between them: look for the cause elsewhere
  128+n  ended by signal n

With --aa, 0 means fit: either half of stable's pods would be promoted beside the other. 1 means
not fit: one half is worse. 2 means not yet. 5 means that fewer than two pods were named.

The probability of rolling back a canary that is no worse than stable is at most --alpha. So is
the probability of promoting one that fails more than --max-failure-rate and more than
--max-ratio times as often as stable. This holds for one run, however often it looks. Each
further run has the same probability again.";

/// `canary judge`.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Requests")]
pub struct JudgeFlags {
    /// How long to judge at most
    #[arg(long = "for", value_name = "TIME", default_value = "5m", value_parser = duration)]
    #[arg(conflicts_with = "input")]
    pub time: Duration,

    /// The maximum number of requests to send, or of outcomes of --input to judge
    #[arg(long, value_name = "NUMBER", value_parser = |text: &str| count(text, 1..=u64::MAX))]
    #[arg(conflicts_with = "prometheus")]
    pub count: Option<u64>,

    /// Compare two halves of stable's pods, to see whether the traffic is fit to be judged
    #[arg(long, help_heading = "Judge")]
    #[arg(conflicts_with_all = ["share", "max_burn", "soak", "warm_up", "episodes", "min_answers", "traffic", "record"])]
    pub aa: bool,

    /// Collected outcomes.
    #[command(flatten)]
    pub lines: LinesFlags,

    /// How to judge.
    #[command(flatten)]
    pub trial: TrialFlags,

    /// Those flags of `trial` that the command line has.
    #[arg(skip)]
    pub trial_flags_given: Vec<String>,

    /// text: a few sentences at the end; or json: a line a second and a summary (with --input, the summary alone)
    #[arg(long, value_name = "FORM", default_value = "text", hide_possible_values = true)]
    #[arg(help_heading = "Output")]
    pub output: JudgeOutput,

    /// Write what is counted, and the settings, to this file: `canary judge --input FILE` then says the same again
    #[arg(long, value_name = "FILE", conflicts_with = "input", help_heading = "Output")]
    pub record: Option<PathBuf>,

    /// Where outcomes come from.
    #[command(flatten)]
    pub source: SourceFlags,
}

impl JudgeFlags {
    /// The same, with the flags of `trial` that the command line has.
    pub(crate) fn with_given(mut self, matches: &ArgMatches) -> Self {
        let is_given = |id: &Id| matches.value_source(id.as_str()) == Some(ValueSource::CommandLine);
        let given = ids::<TrialFlags>().into_iter().filter(is_given);
        self.trial_flags_given = given.map(|id| format!("--{}", id.as_str().replace('_', "-"))).collect();
        self
    }

    /// How long it judges at most, at so many requests a second.
    pub(super) fn time_at(&self, rate: f64) -> Duration {
        let counted = self.count.map(|count| Duration::try_from_secs_f64(count as f64 / rate));
        counted.and_then(Result::ok).map_or(self.time, |counted| counted.min(self.time))
    }

    pub(super) fn bounds(&self) -> Bounds {
        Bounds {
            time: Some(self.time),
            count: self.count,
            max_latency: self.trial.max_latency,
            compares_latency: self.trial.slower_by.is_some(),
            compares_pods: self.trial.episodes.is_some(),
            share: self.trial.share,
        }
    }
}

/// The output of `canary judge`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum JudgeOutput {
    /// A few sentences.
    Text,
    /// A line of JSON a second, and one for all of it at the end.
    Json,
}
