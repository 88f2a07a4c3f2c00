//! Where outcomes come from. Whatever the source, two types come out of it: [`Observation`], of one request, and
//! [`Interval`], of all requests in a time.
//!
//! - [`probe`]: requests of our own.
//! - [`prometheus`]: counters of what really serves.
//! - [`lines`]: outcomes that others have collected, as lines of JSON.
//!
//! A [`Source`] is what a command follows that does not care where its outcomes come from.

pub mod lines;
pub mod probe;
pub mod prometheus;

use std::{
    collections::BTreeMap,
    fmt,
    time::{Duration, Instant},
};

use appinfo::app_info::AppInfo;
use serde::Serialize;

use crate::release::{Attribution, Batch, Counts, Outcome};

/// The labels that tell one pod template from another: Argo Rollouts', those of Deployments, and those of
/// `StatefulSet`s and `DaemonSet`s. In Prometheus each `-` is a `_`.
pub(crate) const HASH_LABELS: [&str; 3] =
    ["rollouts-pod-template-hash", "pod-template-hash", "controller-revision-hash"];

/// Where outcomes come from while time passes.
pub trait Source: Send {
    /// What is seen next; none once no more will come. Cancel-safe.
    fn next(&mut self) -> impl Future<Output = Option<Seen>> + Send;

    /// Asks for nothing until told otherwise; what happens meanwhile does not count.
    fn pause(&self, paused: bool);
}

/// What a source yields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// What came of one request.
    Request(Observation),
    /// What was counted in one interval of time.
    Interval(Interval),
    /// Nothing, and why.
    Trouble(String),
}

/// What was counted in one interval of time, where single requests are not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interval {
    /// Nothing in it happened before; none if all of it counts, whenever it happened.
    pub since: Option<Instant>,
    /// How much longer the time is now that has been counted in.
    pub length: Duration,
    /// The stable release's answers.
    pub stable: Counts,
    /// The canary's answers by the hash of its pod template, which is empty where no label tells it.
    pub canary: BTreeMap<String, Counts>,
}

impl Interval {
    /// Both sides, the canary's of those versions.
    pub fn batch(&self, takes: impl Fn(&str) -> bool) -> Batch {
        let canary = self.canary.iter().filter(|(version, _)| takes(version)).map(|(_, counts)| *counts);
        Batch { stable: self.stable, canary: canary.sum(), unattributed: 0 }
    }
}

/// What came of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    /// Its place in the order of sending, from 0. Each number is there once.
    pub number: u64,
    /// When it was sent.
    pub sent: Instant,
    /// What the client got.
    pub response: Response,
}

impl Observation {
    /// Who the request is attributed to, and how it ended; none of a request that was never sent, which says
    /// nothing about the other side.
    pub fn attributed(&self) -> Option<(&Attribution, Outcome)> {
        match &self.response {
            Response::Answer(answer) => Some((&answer.attribution, answer.outcome)),
            Response::NoAnswer(reason) => Some((&reason.attribution, Outcome::Failure)),
            Response::Unsent(_) => None,
        }
    }

    /// The pod that answered, where it is known.
    pub fn pod(&self) -> Option<&str> {
        match &self.response {
            Response::Answer(answer) => answer.pod.as_deref(),
            Response::NoAnswer(_) | Response::Unsent(_) => None,
        }
    }
}

/// What a client got for its request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response {
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
    /// Who answered, by the release that the answer names.
    pub attribution: Attribution,
    /// Whether it was good, and in time.
    pub outcome: Outcome,
    /// How long it took to its last byte, where that is known.
    pub latency: Option<Duration>,
    /// The pod that answered, where it is known.
    pub pod: Option<String>,
    /// What the pod says of itself, where it does.
    pub info: Option<AppInfo>,
}

/// Why there was no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoAnswer {
    /// Who the request is attributed to: the release of the address that it went to, where that is known, or
    /// [`Attribution::NoAnswer`].
    pub attribution: Attribution,
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
    /// The certificate of the other side is not trusted, or is for another name.
    Certificate,
    /// There is no TLS connection for another reason, such as a server that speaks plain HTTP.
    Tls,
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
            Self::Certificate => "certificate not trusted",
            Self::Tls => "no TLS connection",
            Self::TimedOut => "timed out",
            Self::BrokeOff => "connection broke off",
        })
    }
}
