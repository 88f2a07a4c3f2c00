//! The two sides of a rollout, who a request is attributed to, and how many requests failed.

use std::{
    fmt,
    iter::Sum,
    ops::{Add, AddAssign, Sub},
};

use serde::Serialize;

/// One of the two sides of a rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Release {
    /// The one that serves already.
    Stable,
    /// The one on trial.
    Canary,
}

impl Release {
    /// Both of them.
    pub const BOTH: [Self; 2] = [Self::Stable, Self::Canary];
}

impl fmt::Display for Release {
    /// As the label `release` has it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Stable => "stable",
            Self::Canary => "canary",
        })
    }
}

/// Who a request is attributed to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Attribution {
    /// One of the two sides.
    Release(Release),
    /// A release of another name.
    Other(String),
    /// An answer that names no release, such as a proxy's 502.
    Unnamed,
    /// There was no answer.
    NoAnswer,
}

impl Attribution {
    /// Who an answer is attributed to that names this release, or none.
    pub fn of_answer(release: Option<&str>) -> Self {
        match release {
            Some("stable") => Self::Release(Release::Stable),
            Some("canary") => Self::Release(Release::Canary),
            Some(other) => Self::Other(other.to_owned()),
            None => Self::Unnamed,
        }
    }

    /// Which of the two sides it is, if it is one.
    pub fn release(&self) -> Option<Release> {
        match self {
            Self::Release(release) => Some(*release),
            Self::Other(_) | Self::Unnamed | Self::NoAnswer => None,
        }
    }
}

impl fmt::Display for Attribution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Release(release) => release.fmt(f),
            Self::Other(name) => f.pad(name),
            Self::Unnamed => f.pad("unnamed"),
            Self::NoAnswer => f.pad("no answer"),
        }
    }
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// With a whole answer with a status of 2xx, in time.
    Success,
    /// With such an answer, but later than `--max-latency` allows. It counts as a failure.
    Slow,
    /// With anything else, or with no answer.
    Failure,
}

impl Outcome {
    /// Whether it counts as a failure.
    pub fn failed(self) -> bool {
        self != Self::Success
    }
}

/// How many requests there were, and how many of them failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// All requests, failures among them.
    #[serde(rename = "answers")] // as scripts know it from the verdict
    pub requests: u64,
    /// Those that failed, at most `requests`.
    pub failures: u64,
    /// Those that failed by being slow alone, at most `failures`.
    pub slow: u64,
}

impl Counts {
    /// This many requests, all of which failed.
    pub fn all_failed(requests: u64) -> Self {
        Self { requests, failures: requests, slow: 0 }
    }

    /// Counts one more request.
    pub fn record(&mut self, outcome: Outcome) {
        self.requests += 1;
        self.failures += u64::from(outcome.failed());
        self.slow += u64::from(outcome == Outcome::Slow);
    }

    /// How many requests did not fail.
    pub fn successes(self) -> u64 {
        self.requests - self.failures
    }

    /// The observed failure rate, between 0 and 1; `None` before the first request.
    pub fn rate(self) -> Option<f64> {
        share(self.failures, self.requests)
    }
}

impl Add for Counts {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            requests: self.requests + other.requests,
            failures: self.failures + other.failures,
            slow: self.slow + other.slow,
        }
    }
}

impl Sub for Counts {
    type Output = Self;

    fn sub(self, part: Self) -> Self {
        Self {
            requests: self.requests - part.requests,
            failures: self.failures - part.failures,
            slow: self.slow - part.slow,
        }
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sum for Counts {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), Self::add)
    }
}

/// What both releases answered in the same time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// The stable release's answers.
    pub stable: Counts,
    /// The canary's answers.
    pub canary: Counts,
    /// Failures that name neither release. (Successes that name neither say nothing.)
    pub unattributed: u64,
}

impl Batch {
    /// The canary's answers if every failure that names no release was its own.
    pub(crate) fn canary_at_worst(&self) -> Counts {
        self.canary + Counts::all_failed(self.unattributed)
    }

    /// All requests that say something.
    pub(crate) fn total(&self) -> Counts {
        self.stable + self.canary_at_worst()
    }
}

impl AddAssign for Batch {
    fn add_assign(&mut self, other: Self) {
        self.stable += other.stable;
        self.canary += other.canary;
        self.unattributed += other.unattributed;
    }
}

/// A part of a whole, from 0 to 1; `None` where the whole is 0.
pub(crate) fn share(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| real(part) / real(whole))
}

/// A count as a real number.
#[expect(clippy::cast_precision_loss, reason = "no run counts up to 2^53")]
pub(crate) fn real(count: u64) -> f64 {
    count as f64
}
