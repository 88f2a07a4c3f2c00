//! What has been seen so far: counts by release, the last requests one by one, latencies, pods.

mod latencies;
mod pods;

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    time::{Duration, Instant},
};

pub use latencies::Latencies;
pub use pods::{Pod, Pods};
use serde::Serialize;

use crate::{
    release::Release,
    sample::{Cause, Observation, Outcome},
};

/// How many of the last requests are kept one by one. A share of 1/4 is seen in as many with a standard error
/// of √(1/4 · 3/4 / 300) = 2.5 %.
pub const RECENT: usize = 300;

/// Who a request is put down to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// The release `stable`.
    Stable,
    /// The release `canary`.
    Canary,
    /// A release of another name.
    Other(String),
    /// An answer that names no release, such as a proxy's 502.
    Unnamed,
    /// Nobody: there was no answer.
    Nobody,
}

impl Source {
    /// The source of that release; no release is [`Source::Unnamed`].
    pub fn of_release(release: Option<&str>) -> Self {
        match release {
            Some("stable") => Self::Stable,
            Some("canary") => Self::Canary,
            Some(other) => Self::Other(other.to_owned()),
            None => Self::Unnamed,
        }
    }

    /// Which of the two that are judged it is.
    pub fn judged(&self) -> Option<Release> {
        match self {
            Self::Stable => Some(Release::Stable),
            Self::Canary => Some(Release::Canary),
            Self::Other(_) | Self::Unnamed | Self::Nobody => None,
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Stable => "stable",
            Self::Canary => "canary",
            Self::Other(name) => name,
            Self::Unnamed => "unnamed",
            Self::Nobody => "no answer",
        })
    }
}

/// How many requests came to what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Outcomes {
    /// Whole answers with a status of 2xx.
    pub success: u64,
    /// Everything else.
    pub failure: u64,
}

impl Outcomes {
    /// How many there were.
    pub fn total(self) -> u64 {
        self.success + self.failure
    }

    fn add(&mut self, failed: bool) {
        if failed {
            self.failure += 1;
        } else {
            self.success += 1;
        }
    }
}

/// One of the last requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recent {
    /// Who it is put down to.
    pub source: Source,
    /// Whether it failed; without an answer, it did.
    pub failed: bool,
    /// How long its answer took, if it had one.
    pub latency: Option<Duration>,
}

/// What has been seen since a moment.
#[derive(Clone, Debug)]
pub struct Tally {
    began: Instant,
    counts: BTreeMap<Source, Outcomes>,
    causes: BTreeMap<Cause, u64>,
    unsent: u64,
    last_trouble: Option<String>,
    latencies: Latencies,
    pods: Pods,
    recent: VecDeque<Recent>,
}

impl Tally {
    /// Nothing seen yet, as of `now`.
    pub fn new(now: Instant) -> Self {
        Self {
            began: now,
            counts: BTreeMap::new(),
            causes: BTreeMap::new(),
            unsent: 0,
            last_trouble: None,
            latencies: Latencies::default(),
            pods: Pods::default(),
            recent: VecDeque::with_capacity(RECENT),
        }
    }

    /// Takes in what came of one request.
    pub fn observe(&mut self, observation: &Observation) {
        let (source, failed, latency) = match &observation.outcome {
            Outcome::Answer(answer) => {
                self.latencies.add(observation.latency);
                self.pods.observe(observation.at, answer);
                (
                    Source::of_release(answer.release.as_deref()),
                    !answer.succeeded(),
                    Some(observation.latency),
                )
            }
            Outcome::NoAnswer(reason) => {
                *self.causes.entry(reason.cause).or_default() += 1;
                self.last_trouble = Some(reason.detail.clone());
                (Source::Nobody, true, None)
            }
            Outcome::Unsent(why) => {
                self.unsent += 1;
                self.last_trouble = Some(why.clone());
                return;
            }
        };
        self.counts.entry(source.clone()).or_default().add(failed);
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(Recent { source, failed, latency });
    }

    /// When it began.
    pub fn began(&self) -> Instant {
        self.began
    }

    /// Outcomes by source; [`Source::Nobody`] counts what had no answer.
    pub fn counts(&self) -> &BTreeMap<Source, Outcomes> {
        &self.counts
    }

    /// The counts of one source.
    pub fn of(&self, source: &Source) -> Outcomes {
        self.counts.get(source).copied().unwrap_or_default()
    }

    /// Everything together.
    pub fn total(&self) -> Outcomes {
        self.counts.values().fold(Outcomes::default(), |sum, counts| Outcomes {
            success: sum.success + counts.success,
            failure: sum.failure + counts.failure,
        })
    }

    /// How many requests were answered.
    pub fn answered(&self) -> u64 {
        self.total().total() - self.of(&Source::Nobody).total()
    }

    /// Why there was no answer, and how often.
    pub fn causes(&self) -> &BTreeMap<Cause, u64> {
        &self.causes
    }

    /// How many requests this machine could not send.
    pub fn unsent(&self) -> u64 {
        self.unsent
    }

    /// Why the last request that was not answered, or not sent, was not.
    pub fn last_trouble(&self) -> Option<&str> {
        self.last_trouble.as_deref()
    }

    /// How long answers took.
    pub fn latencies(&self) -> &Latencies {
        &self.latencies
    }

    /// How long the last answers took.
    pub fn recent_latencies(&self) -> Latencies {
        self.recent.iter().filter_map(|one| one.latency).collect()
    }

    /// The pods seen.
    pub fn pods(&self) -> &Pods {
        &self.pods
    }

    /// The last [`RECENT`] requests, oldest first.
    pub fn recent(&self) -> &VecDeque<Recent> {
        &self.recent
    }

    /// The share of the last requests that a source has, from 0 to 1; none while there are no requests.
    pub fn recent_share(&self, source: &Source) -> Option<f64> {
        share(self.recent.iter().filter(|one| one.source == *source).count(), self.recent.len())
    }
}

/// A part of a whole, from 0 to 1; none of nothing.
#[allow(clippy::cast_precision_loss, reason = "counts stay far below 2^52")]
fn share(part: usize, whole: usize) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{Answer, NoAnswer};

    fn answered(status: u16, release: Option<&str>) -> Observation {
        let answer = Answer {
            status,
            release: release.map(str::to_owned),
            served_by: release.map(|release| format!("{release}-pod")),
            info: None,
            broke_off: None,
        };
        observed(Outcome::Answer(answer))
    }

    fn observed(outcome: Outcome) -> Observation {
        Observation { at: Instant::now(), latency: Duration::from_millis(3), outcome }
    }

    #[test]
    fn every_request_is_put_down_to_somebody() {
        let mut tally = Tally::new(Instant::now());
        let timed_out = NoAnswer { cause: Cause::TimedOut, detail: "no answer within 2s".to_owned() };
        for observation in [
            answered(200, Some("stable")),
            answered(204, Some("stable")),
            answered(500, Some("canary")),
            answered(302, Some("canary")),
            answered(200, Some("experiment")),
            answered(502, None),
            observed(Outcome::NoAnswer(timed_out)),
            observed(Outcome::Unsent("Too many open files".to_owned())),
        ] {
            tally.observe(&observation);
        }
        let counts = |success, failure| Outcomes { success, failure };
        assert_eq!(
            Vec::from_iter(tally.counts().clone()),
            [
                (Source::Stable, counts(2, 0)),
                (Source::Canary, counts(0, 2)),
                (Source::Other("experiment".to_owned()), counts(1, 0)),
                (Source::Unnamed, counts(0, 1)),
                (Source::Nobody, counts(0, 1)),
            ]
        );
        assert_eq!((tally.total(), tally.answered(), tally.unsent()), (counts(3, 4), 6, 1));
        assert_eq!(Vec::from_iter(tally.causes().clone()), [(Cause::TimedOut, 1)]);
        assert_eq!(tally.last_trouble(), Some("Too many open files"));
        assert_eq!(tally.recent_share(&Source::Stable), Some(2.0 / 7.0));
    }

    #[test]
    fn an_answer_that_broke_off_failed_and_still_tells_whose_it_was() {
        let mut tally = Tally::new(Instant::now());
        let mut observation = answered(200, Some("canary"));
        if let Outcome::Answer(answer) = &mut observation.outcome {
            answer.broke_off = Some("its end did not come in time".to_owned());
        }
        tally.observe(&observation);
        assert_eq!(tally.of(&Source::Canary), Outcomes { success: 0, failure: 1 });
    }

    #[test]
    fn shares_are_those_of_the_last_requests_alone() {
        let mut tally = Tally::new(Instant::now());
        assert_eq!(tally.recent_share(&Source::Stable), None);
        for release in std::iter::repeat_n("canary", 50).chain(std::iter::repeat_n("stable", RECENT)) {
            tally.observe(&answered(200, Some(release)));
        }
        assert_eq!(tally.recent().len(), RECENT);
        assert_eq!(tally.recent_share(&Source::Stable), Some(1.0));
        assert_eq!(tally.of(&Source::Canary).total(), 50);
    }
}
