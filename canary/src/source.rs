//! Where outcomes come from: a module for each source. Whatever the source, one type comes out of it, an
//! [`Observation`], which is also where it is decided who the request is attributed to and whether it failed.
//!
//! - [`probe`]: requests of our own.

pub mod probe;

use std::{
    fmt,
    time::{Duration, Instant},
};

use appinfo::app_info::AppInfo;
use serde::Serialize;

use crate::release::Attribution;

/// What came of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    /// When it ended.
    pub at: Instant,
    /// How long it took, up to the last byte of its answer or the moment it was given up.
    pub latency: Duration,
    /// What the client got.
    pub outcome: Outcome,
}

impl Observation {
    /// Who the request is attributed to, and whether it failed; none of a request that was never sent, which
    /// says nothing about the other side.
    pub fn attributed(&self) -> Option<(&Attribution, bool)> {
        match &self.outcome {
            Outcome::Answer(answer) => Some((&answer.attribution, !answer.succeeded())),
            Outcome::NoAnswer(_) => Some((&Attribution::NoAnswer, true)),
            Outcome::Unsent(_) => None,
        }
    }
}

/// What a client got for its request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// An answer, good or bad.
    Answer(Answer),
    /// None.
    NoAnswer(NoAnswer),
    /// The request never left: this machine lacks the means (open files, ports), which says nothing about the
    /// other side.
    Unsent(String),
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// Who answered, by the release that the answer names.
    pub attribution: Attribution,
    /// The pod that answered: the header `x-served-by`, or else the body's `PodName`.
    pub served_by: Option<String>,
    /// What the pod says of itself, where it does.
    pub info: Option<AppInfo>,
    /// Why the answer ended before its end, if it did.
    pub broke_off: Option<String>,
}

impl Answer {
    /// Whether it is a whole one with a status of 2xx.
    pub fn succeeded(&self) -> bool {
        (200..300).contains(&self.status) && self.broke_off.is_none()
    }
}

/// Why there was no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoAnswer {
    /// What kind of reason.
    pub cause: Cause,
    /// The whole of it.
    pub detail: String,
}

/// A kind of reason for there being no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// The name does not resolve.
    UnknownName,
    /// Nobody listens there.
    Refused,
    /// The connection cannot be made for another reason.
    Unreachable,
    /// It took too long.
    TimedOut,
    /// The connection ended before there was an answer, or what came was not HTTP.
    BrokeOff,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UnknownName => "name does not resolve",
            Self::Refused => "connection refused",
            Self::Unreachable => "cannot connect",
            Self::TimedOut => "timed out",
            Self::BrokeOff => "connection broke off",
        })
    }
}
