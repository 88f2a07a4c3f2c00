//! The two sides of a rollout, who a request is attributed to, and how many requests failed.

use std::{
    fmt,
    iter::Sum,
    ops::{Add, AddAssign},
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

    /// The other side.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Stable => Self::Canary,
            Self::Canary => Self::Stable,
        }
    }
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

/// A pair of values, one for each side.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct PerRelease<T> {
    pub(crate) stable: T,
    pub(crate) canary: T,
}

impl<T> PerRelease<T> {
    pub(crate) fn of(&self, release: Release) -> &T {
        match release {
            Release::Stable => &self.stable,
            Release::Canary => &self.canary,
        }
    }

    pub(crate) fn of_mut(&mut self, release: Release) -> &mut T {
        match release {
            Release::Stable => &mut self.stable,
            Release::Canary => &mut self.canary,
        }
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

/// How many requests there were, and how many of them failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// All requests, failures among them.
    #[serde(rename = "answers")] // as scripts know it from the verdict
    pub requests: u64,
    /// Those that failed, at most `requests`: whatever is not a whole answer with a status of 2xx.
    pub failures: u64,
}

impl Counts {
    /// Counts one more request.
    pub fn record(&mut self, failed: bool) {
        self.requests += 1;
        self.failures += u64::from(failed);
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
        Self { requests: self.requests + other.requests, failures: self.failures + other.failures }
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

/// A part of a whole, from 0 to 1; `None` where the whole is 0.
pub(crate) fn share(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| real(part) / real(whole))
}

/// A count as a real number.
#[expect(clippy::cast_precision_loss, reason = "no run counts up to 2^53")]
pub(crate) fn real(count: u64) -> f64 {
    count as f64
}
