//! Sources of outcomes. A source yields [`Observation`]s of single requests, or [`Interval`]s with the counts of all
//! requests in some time.
//!
//! - [`probe`]: requests that canary sends to a URL.
//! - [`pods`]: requests that canary sends to the pods of workloads in Kubernetes.
//! - [`prometheus`]: the service's own counters, as Prometheus has them.
//! - [`lines`]: outcomes that others have collected, as lines of JSON.
//! - `http` is what the first three share. `shown`: how text of others is shown. `strata`: the kinds of requests.
//!
//! Each source has its flags in its own `flags` module. [`flags`] lists the sources, and opens the one that the flags of
//! a command choose. [`opened`] is what all of these flags share. Commands use the trait [`Source`], so that they work
//! with each source.

mod attribution;
mod boxed;
mod canary_flag;
mod failures;
pub mod flags;
mod http;
pub mod lines;
pub mod opened;
pub mod pods;
pub mod probe;
pub mod prometheus;
pub mod shortage;
pub(crate) mod shown;
pub(crate) mod strata;

use std::{
    collections::BTreeMap,
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use appinfo::app_info::AppInfo;
use serde::{Deserialize, Serialize};

use self::failures::LastFailure;
pub use self::{attribution::Attribution, boxed::AnySource, failures::FailingAnswer};

use canary_judge::{Batch, Counts, Fraction, Outcome, Release, Window};

/// The part of the service's requests that a source yields.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
pub enum Coverage {
    /// Requests that canary itself sends. They stand for all requests that the service gets in the same time.
    Sample,
    /// All requests that the price is about.
    All,
    /// All that the service gets, so that they tell its traffic, too. With the service level objective.
    Counted(Fraction),
}

/// A source of outcomes.
pub trait Source: Send {
    /// The next outcome; `None` at the end. Cancel-safe.
    fn next(&mut self) -> impl Future<Output = Option<Seen>> + Send;

    /// Pauses or resumes the source. What happens during a pause does not count.
    fn pause(&self, paused: bool);

    /// Whether the source works, as far as it can tell even without an outcome.
    fn has_answered(&self) -> bool {
        false
    }

    /// The last answer that was a failure, if the source sees answers.
    fn last_failure(&self) -> Option<FailingAnswer> {
        None
    }

    /// Why a release was never seen, and what to do about it, if the outcomes show a mistake in the flags.
    fn hint(&self) -> Option<String> {
        None
    }

    /// What was asked so far, if the source chooses that itself and so a verdict must name it.
    fn asked(&self) -> Option<Asked> {
        None
    }
}

/// What a source has asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Asked {
    /// Whether that is only what the readiness probe asks.
    pub only_probe: bool,
    /// What it is, in sentences.
    pub text: String,
}

/// What a source yields.
#[derive(Clone, Debug, PartialEq)]
pub enum Seen {
    /// The result of one request.
    Request(Observation),
    /// The counts since the last round.
    Interval(Interval),
    /// The canary's pods have changed, as Kubernetes tells.
    Health(Health),
    /// There is no outcome at the moment: the cause, in words.
    Trouble(String),
}

/// What Kubernetes tells about the canary's pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// When it was told.
    pub at: Instant,
    /// How often they have restarted since the last time.
    pub restarts: u64,
    /// Since when one of them is not ready, or there is none; `None` if all are ready.
    pub unready: Option<Instant>,
    /// The one that is not ready; `None` if all are ready, or there is none.
    pub pod: Option<String>,
}

/// What was counted since the last round, if single requests are not known: the increases of the counters of pods, each
/// from one scrape to the next.
#[derive(Clone, Debug, PartialEq)]
pub struct Interval {
    /// The time of the round.
    pub at: Instant,
    /// The same, by the clock of the windows: in seconds.
    pub clock: f64,
    /// When counting began, by the clock of the windows.
    pub began: f64,
    /// The windows of both releases. Those of one pod are in the order of time.
    pub windows: Vec<CountedWindow>,
}

/// A window of a pod.
#[derive(Clone, Debug, PartialEq)]
pub struct CountedWindow {
    /// The hash of the pod's template; empty if no label tells it.
    pub version: String,
    /// What was counted.
    pub window: Window,
    /// When the pod has started, by the same clock, as far as that is known: it may be older.
    pub started: Option<f64>,
}

impl Interval {
    /// The windows of stable, and of those versions of the canary for which `takes` is true.
    pub fn windows<'a>(
        &'a self,
        takes: impl Fn(&str) -> bool + 'a,
    ) -> impl Iterator<Item = &'a CountedWindow> {
        let is_taken =
            move |one: &&CountedWindow| one.window.release == Release::Stable || takes(&one.version);
        self.windows.iter().filter(is_taken)
    }

    /// When a window began. What was counted shortly before the first round counts from its beginning.
    pub fn since(&self, window: &Window) -> Option<Instant> {
        let age = (self.clock - window.since.max(self.began)).max(0.0);
        self.at.checked_sub(Duration::try_from_secs_f64(age).ok()?)
    }

    /// The canary's answers by version.
    pub fn canary(&self) -> BTreeMap<&str, Counts> {
        let mut versions: BTreeMap<&str, Counts> = BTreeMap::new();
        for CountedWindow { version, window, .. } in &self.windows {
            if window.release == Release::Canary && window.counts.requests > 0 {
                *versions.entry(version).or_default() += window.counts;
            }
        }
        versions
    }

    /// The counts of both sides.
    pub fn batch(&self) -> Batch {
        let of = |release| {
            let windows = self.windows.iter().filter(move |one| one.window.release == release);
            windows.map(|one| one.window.counts).sum()
        };
        Batch { stable: of(Release::Stable), canary: of(Release::Canary), unattributed: 0 }
    }
}

/// The result of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    /// Its place in the order of sending, from 0. Each number occurs once.
    pub number: u64,
    /// When it was sent.
    pub sent: Instant,
    /// When its pod has started, if the source knows.
    pub started: Option<Instant>,
    /// The kind of request that it is compared within, such as its path; `None` if requests are not divided.
    pub stratum: Option<Arc<str>>,
    /// What the client got.
    pub response: Response,
}

impl Observation {
    /// The request's attribution and outcome; `None` if it was never sent, because that does not tell about the service.
    pub fn attributed(&self) -> Option<(&Attribution, Outcome)> {
        match &self.response {
            Response::Answer(answer) => Some((&answer.attribution, answer.outcome)),
            Response::NoAnswer(reason) => Some((&reason.attribution, Outcome::Failure)),
            Response::Unsent(_) => None,
        }
    }

    /// The time to the last byte of the answer, if there is one, and if known.
    pub fn latency(&self) -> Option<Duration> {
        match &self.response {
            Response::Answer(answer) => answer.latency,
            Response::NoAnswer(_) | Response::Unsent(_) => None,
        }
    }

    /// The pod that answered, or was asked, if known.
    pub fn pod(&self) -> Option<&str> {
        match &self.response {
            Response::Answer(answer) => answer.pod.as_deref(),
            Response::NoAnswer(reason) => reason.pod.as_deref(),
            Response::Unsent(_) => None,
        }
    }
}

/// What a client got for its request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response {
    /// An answer, good or bad.
    Answer(Answer),
    /// No answer.
    NoAnswer(NoAnswer),
    /// The request has not reached the service, because this machine lacks open files or ports, or because the API
    /// server on the way to the pods refuses it. That does not tell about the service.
    Unsent(String),
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The release that the answer names.
    pub attribution: Attribution,
    /// Whether it was a success, and in time.
    pub outcome: Outcome,
    /// The status code, if known.
    pub status: Option<u16>,
    /// The time to its last byte, if known.
    pub latency: Option<Duration>,
    /// The pod that answered, if known.
    pub pod: Option<String>,
    /// The pod's own description, if the answer has one.
    pub info: Option<AppInfo>,
}

/// Why there was no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoAnswer {
    /// The release of the address that the request went to, if known, or else [`Attribution::NoAnswer`].
    pub attribution: Attribution,
    /// The kind of cause.
    pub cause: Cause,
    /// The cause in words.
    pub detail: String,
    /// The pod that was asked, if known.
    pub pod: Option<String>,
    /// What is known of this pod from elsewhere.
    pub info: Option<AppInfo>,
}

/// A kind of cause why there was no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// The name does not resolve.
    UnknownName,
    /// No process listens on the port.
    Refused,
    /// The connection cannot be made for another reason.
    Unreachable,
    /// The server's certificate is not trusted, or is for another name.
    Certificate,
    /// There is no TLS connection for another reason, such as a server that speaks plain HTTP.
    Tls,
    /// It took too long.
    TimedOut,
    /// The connection ended before the answer was complete, or the answer was not HTTP.
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
