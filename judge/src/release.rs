//! The two sides of a rollout, the outcomes of their requests, and the counts of failures.

use std::{
    fmt,
    iter::Sum,
    ops::{Add, AddAssign, Sub},
};

use serde::{Deserialize, Serialize};

/// One of the two sides of a rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Release {
    /// The release that is in use.
    Stable,
    /// The new release on trial.
    Canary,
}

impl Release {
    /// Both sides.
    pub const BOTH: [Self; 2] = [Self::Stable, Self::Canary];
}

impl fmt::Display for Release {
    /// The value of the label `release`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Stable => "stable",
            Self::Canary => "canary",
        })
    }
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A complete answer with a 2xx status, in time.
    Success,
    /// A complete answer with a 2xx status, but later than [`Settings::max_latency`](crate::Settings::max_latency)
    /// allows. It counts as a failure.
    Slow,
    /// Any other answer, or no answer.
    Failure,
}

impl Outcome {
    /// Whether this counts as a failure.
    pub fn failed(self) -> bool {
        self != Self::Success
    }
}

/// The number of requests, and of failures among them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Counts {
    /// All requests, including failures.
    #[serde(rename = "answers")] // scripts read this key in the verdict
    pub requests: u64,
    /// Failed requests, at most `requests`.
    pub failures: u64,
    /// Requests that failed only because they were slow, at most `failures`.
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

    /// The number of requests that did not fail.
    pub fn successes(self) -> u64 {
        self.requests - self.failures
    }

    /// The observed failure rate, between 0 and 1; `None` before the first request.
    pub fn rate(self) -> Option<f64> {
        (self.requests > 0).then(|| real(self.failures) / real(self.requests))
    }
}

impl Counts {
    pub(crate) fn checked_add(self, other: Self) -> Option<Self> {
        Some(Self {
            requests: self.requests.checked_add(other.requests)?,
            failures: self.failures.checked_add(other.failures)?,
            slow: self.slow.checked_add(other.slow)?,
        })
    }

    pub(crate) fn is_part_of(self, all: Self) -> bool {
        self.requests <= all.requests && self.failures <= all.failures && self.slow <= all.slow
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

/// The counts of both releases in the same time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Batch {
    /// The stable release's answers.
    pub stable: Counts,
    /// The canary's answers.
    pub canary: Counts,
    /// Failures that name neither release. (Successes that name neither release are ignored.)
    pub unattributed: u64,
}

impl Batch {
    /// Counts one more request. Successes without a release are ignored.
    pub fn record(&mut self, release: Option<Release>, outcome: Outcome) {
        match release {
            None => self.unattributed += u64::from(outcome.failed()),
            Some(Release::Stable) => self.stable.record(outcome),
            Some(Release::Canary) => self.canary.record(outcome),
        }
    }

    /// Adds counts to one side.
    pub fn add(&mut self, release: Release, counts: Counts) {
        match release {
            Release::Stable => self.stable += counts,
            Release::Canary => self.canary += counts,
        }
    }

    /// The counts of one side.
    pub fn of(&self, release: Release) -> Counts {
        match release {
            Release::Stable => self.stable,
            Release::Canary => self.canary,
        }
    }

    pub(crate) fn checked_add(self, other: Self) -> Option<Self> {
        Some(Self {
            stable: self.stable.checked_add(other.stable)?,
            canary: self.canary.checked_add(other.canary)?,
            unattributed: self.unattributed.checked_add(other.unattributed)?,
        })
    }

    pub(crate) fn is_part_of(self, all: Self) -> bool {
        self.stable.is_part_of(all.stable)
            && self.canary.is_part_of(all.canary)
            && self.unattributed <= all.unattributed
    }

    /// The canary's counts in the worst case: all failures that name no release are the canary's.
    pub(crate) fn canary_at_worst(&self) -> Counts {
        self.canary + Counts::all_failed(self.unattributed)
    }

    /// All requests that count: those that name a release, and all failures.
    pub fn total(&self) -> Counts {
        self.stable + self.canary_at_worst()
    }
}

impl Sub for Batch {
    type Output = Self;

    fn sub(self, part: Self) -> Self {
        Self {
            stable: self.stable - part.stable,
            canary: self.canary - part.canary,
            unattributed: self.unattributed - part.unattributed,
        }
    }
}

impl AddAssign for Batch {
    fn add_assign(&mut self, other: Self) {
        self.stable += other.stable;
        self.canary += other.canary;
        self.unattributed += other.unattributed;
    }
}

/// A count as a real number.
#[expect(clippy::cast_precision_loss, reason = "no run counts up to 2^53")]
pub(crate) fn real(count: u64) -> f64 {
    count as f64
}
