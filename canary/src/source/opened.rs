//! What the flags of all sources share: what bounds a source, and an open source.

use std::{ops::RangeInclusive, time::Duration};

use canary_judge::Fraction;
use clap::{Args, Command, Id};
use humantime::DurationError;

use super::AnySource;

/// The group of the flags that choose another source than the probe. Only one of them may be there.
pub(super) const OTHER: &str = "other_source";

/// What bounds a source.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bounds {
    /// How long it yields outcomes.
    pub time: Option<Duration>,
    /// The maximum number of requests to send.
    pub count: Option<u64>,
    /// A slower answer to a request counts as a failure.
    pub max_latency: Option<Duration>,
    /// Whether latencies decide, so that the source must have them.
    pub compares_latency: bool,
    /// Whether the pods of a release are compared, so that counters must be those of single pods.
    pub compares_pods: bool,
    /// The canary's share of the requests, if it is given.
    pub share: Option<Fraction>,
}

/// An open source, and what commands say about it.
#[derive(Debug)]
pub struct Opened {
    /// The source. It may be paused.
    pub source: AnySource,
    /// Its name.
    pub title: String,
    /// Where that name has its meaning, such as a namespace of a cluster; empty if it has one meaning.
    pub place: String,
    /// Its name, and how often it is asked if canary sends the requests.
    pub how: String,
    /// Requests a second, if canary sends them. Otherwise, the source counts all requests that the service gets.
    pub rate: Option<f64>,
    /// The canary's share of the requests, if it is given or the source decides it.
    pub share: Option<Fraction>,
    /// The time after which a service without any answer counts as unreachable; `None` if that may take any time.
    pub patience: Option<Duration>,
    /// How a message begins that says which releases were never seen.
    pub unseen: String,
    /// How a message begins that says why there was no answer.
    pub(super) no_answer: String,
    /// Why there was no answer if no trouble was told.
    pub(super) no_trouble: &'static str,
}

impl Opened {
    /// The message if there was no answer at all, with the last trouble.
    pub fn no_answer(&self, trouble: Option<&str>) -> String {
        format!("{}{}", self.no_answer, trouble.unwrap_or(self.no_trouble))
    }
}

/// The ids of these flags, for conflicts.
pub(crate) fn ids<F: Args>() -> Vec<Id> {
    F::augment_args(Command::new("")).get_arguments().map(|flag| flag.get_id().clone()).collect()
}

/// Parses a time in the form of appinfo's flags. It must be more than zero.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    const WANTED: &str = "want a time of more than 0, such as 30s, 5m or 500ms";
    match appinfo::config::duration(text) {
        Ok(Duration::ZERO) | Err(DurationError::NumberExpected(_) | DurationError::Empty) => {
            Err(WANTED.to_owned())
        }
        Ok(time) => Ok(time),
        Err(error) => Err(format!("{WANTED}: {error}")),
    }
}

/// Parses a number of things.
pub(crate) fn count(text: &str, range: RangeInclusive<u64>) -> Result<u64, String> {
    text.parse().ok().filter(|number| range.contains(number)).ok_or_else(|| match range.into_inner() {
        (least, u64::MAX) => format!("want a whole number of at least {least}"),
        (least, most) => format!("want a whole number from {least} to {most}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_must_be_more_than_nothing() {
        assert_eq!(duration("90"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("0.5"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert!(duration("0s").is_err() && duration("0.0").is_err() && duration("soon").is_err());
    }
}
