//! The requests so far: counts by release, the last requests one by one, latencies, pods.

mod latencies;
mod pods;
mod statuses;

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

pub use latencies::Latencies;
pub use pods::{Pods, SeenPod};
pub use statuses::Statuses;

use serde::{Deserialize, Serialize};

use crate::source::{Attribution, Cause, Observation, Response};
use canary_judge::{Batch, Counts, Release};

/// The number of last requests that are kept one by one. A share of 1/4, estimated from 300 requests, has a
/// standard error of √(1/4 · 3/4 / 300) = 2.5 %.
pub const RECENT: usize = 300;

/// One of the last requests.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Recent {
    /// Its release, if known.
    pub attribution: Attribution,
    /// Whether it was answered.
    pub answered: bool,
    /// Whether it failed. A request without an answer has failed.
    pub failed: bool,
    /// The latency of its answer, if there was one.
    pub latency: Option<Duration>,
}

/// The requests since a start time.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Tally {
    #[serde(with = "crate::moment")]
    began: Instant,
    counts: BTreeMap<Attribution, Counts>,
    causes: BTreeMap<Cause, u64>,
    unsent: u64,
    last_trouble: Option<String>,
    #[serde(skip)]
    last_shortage: Option<String>,
    statuses: Statuses,
    /// Those of failures.
    #[serde(skip)]
    failing: Statuses,
    latencies: Latencies,
    pods: Pods,
    recent: VecDeque<Recent>,
}

impl Tally {
    /// An empty tally that starts `now`.
    pub fn new(now: Instant) -> Self {
        Self {
            began: now,
            counts: BTreeMap::new(),
            causes: BTreeMap::new(),
            unsent: 0,
            last_trouble: None,
            last_shortage: None,
            statuses: Statuses::default(),
            failing: Statuses::default(),
            latencies: Latencies::default(),
            pods: Pods::default(),
            recent: VecDeque::with_capacity(RECENT),
        }
    }

    /// An empty tally that starts `now`, after this one. Labels that differ from those before count as changed.
    pub(super) fn anew(&self, now: Instant) -> Self {
        Self { pods: self.pods.anew(), ..Self::new(now) }
    }

    /// Counts the result of one request.
    pub fn observe(&mut self, observation: &Observation) {
        let (mut latency, mut answered) = (None, false);
        match &observation.response {
            Response::Answer(answer) => {
                (latency, answered) = (answer.latency, true);
                if let Some(status) = answer.status {
                    self.statuses.count(status);
                    if answer.outcome.failed() {
                        self.failing.count(status);
                    }
                }
                self.latencies.extend(latency);
                self.pods.observe(Instant::now(), answer);
            }
            Response::NoAnswer(reason) => {
                *self.causes.entry(reason.cause).or_default() += 1;
                self.last_trouble = Some(reason.detail.clone());
            }
            Response::Unsent(why) => {
                self.unsent += 1;
                self.last_trouble = Some(why.clone());
                self.last_shortage = Some(why.clone());
            }
        }
        let Some((attribution, outcome)) = observation.attributed() else { return };
        self.counts.entry(attribution.clone()).or_default().record(outcome);
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        let failed = outcome.failed();
        self.recent.push_back(Recent { attribution: attribution.clone(), answered, failed, latency });
    }

    /// Remembers why the source has no data at the moment.
    pub fn observe_trouble(&mut self, why: &str) {
        self.last_trouble = Some(why.to_owned());
    }

    /// Adds the counts of one interval of time.
    pub fn observe_batch(&mut self, batch: &Batch) {
        self.last_trouble = None; // what hindered it is over
        for (attribution, counts) in [
            (Attribution::Release(Release::Stable), batch.stable),
            (Attribution::Release(Release::Canary), batch.canary),
            (Attribution::Unnamed, Counts::all_failed(batch.unattributed)),
        ] {
            if counts.requests > 0 {
                *self.counts.entry(attribution).or_default() += counts;
            }
        }
    }

    /// The counts of both sides, and the number of failures attributed to neither.
    pub fn sides(&self) -> Batch {
        let (stable, canary) = (self.of_release(Release::Stable), self.of_release(Release::Canary));
        let unattributed = self.total().failures - stable.failures - canary.failures;
        Batch { stable, canary, unattributed }
    }

    /// Whether the counts are such that can be: failures are requests, and all of them can be added.
    pub(crate) fn is_sound(&self) -> bool {
        let valid = |counts: &Counts| counts.slow <= counts.failures && counts.failures <= counts.requests;
        let all = self.counts.values().try_fold(0_u64, |sum, counts| sum.checked_add(counts.requests));
        let causes = self.causes.values().try_fold(0_u64, |sum, count| sum.checked_add(*count));
        self.counts.values().all(valid) && causes.zip(all).is_some_and(|(causes, all)| causes <= all)
    }

    /// The start time.
    pub fn began(&self) -> Instant {
        self.began
    }

    /// The counts by attribution.
    pub fn counts(&self) -> &BTreeMap<Attribution, Counts> {
        &self.counts
    }

    /// The counts of one attribution.
    pub fn of(&self, attribution: &Attribution) -> Counts {
        self.counts.get(attribution).copied().unwrap_or_default()
    }

    /// The counts of one side.
    pub fn of_release(&self, release: Release) -> Counts {
        self.of(&Attribution::Release(release))
    }

    /// The counts of all requests that were sent.
    pub fn total(&self) -> Counts {
        self.counts.values().copied().sum()
    }

    /// The number of requests that were answered.
    pub fn answered(&self) -> u64 {
        self.total().requests - self.unanswered()
    }

    /// The number of requests without an answer, whatever their attribution.
    pub fn unanswered(&self) -> u64 {
        self.causes.values().sum()
    }

    /// The causes of missing answers, each with its number of requests.
    pub fn causes(&self) -> &BTreeMap<Cause, u64> {
        &self.causes
    }

    /// The number of requests that this machine could not send.
    pub fn unsent(&self) -> u64 {
        self.unsent
    }

    /// The reason of the last request that was not answered or not sent.
    pub fn last_trouble(&self) -> Option<&str> {
        self.last_trouble.as_deref()
    }

    /// Why no request was sent, if none was.
    pub fn none_sent(&self) -> Option<&str> {
        self.last_shortage().filter(|_| self.total().requests == 0)
    }

    /// The shortage of this machine because of which the last of the requests that were not sent was not sent.
    pub fn last_shortage(&self) -> Option<&str> {
        self.last_shortage.as_deref()
    }

    /// The status codes of all answers, where they are known.
    pub fn statuses(&self) -> &Statuses {
        &self.statuses
    }

    /// The status codes of answers that were failures, since this process counts them.
    pub fn failing(&self) -> &Statuses {
        &self.failing
    }

    /// The latencies of all answers.
    pub fn latencies(&self) -> &Latencies {
        &self.latencies
    }

    /// The latencies of the last answers.
    pub fn recent_latencies(&self) -> Latencies {
        self.recent.iter().filter_map(|one| one.latency).collect()
    }

    /// The pods that have answered.
    pub fn pods(&self) -> &Pods {
        &self.pods
    }

    /// The last [`RECENT`] requests, oldest first.
    pub fn recent(&self) -> &VecDeque<Recent> {
        &self.recent
    }

    /// The share of one attribution in the last requests, from 0 to 1; `None` while there are no requests. For
    /// [`Attribution::NoAnswer`]: the share of all requests without an answer, whatever their attribution. With
    /// counters, which do not tell single requests, it is the share of all requests.
    pub fn recent_share(&self, attribution: &Attribution) -> Option<f64> {
        if self.recent.is_empty() {
            return share(self.of(attribution).requests, self.total().requests);
        }
        let matching = self.recent.iter().filter(|one| match attribution {
            Attribution::NoAnswer => !one.answered,
            _ => one.attribution == *attribution,
        });
        share(count_of(matching.count()), count_of(self.recent.len()))
    }
}

/// `part / whole`, from 0 to 1; `None` if `whole` is 0.
pub(crate) fn share(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

fn count_of(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::{Answer, NoAnswer};
    use canary_judge::Outcome;

    fn answered(outcome: Outcome, release: Option<&str>) -> Observation {
        let answer = Answer {
            attribution: Attribution::of_answer(release),
            outcome,
            status: None,
            latency: Some(Duration::from_millis(3)),
            pod: release.map(|release| format!("{release}-pod")),
            info: None,
        };
        observed(Response::Answer(answer))
    }

    fn observed(response: Response) -> Observation {
        Observation { number: 0, sent: Instant::now(), started: None, stratum: None, response }
    }

    #[test]
    fn every_request_that_was_sent_is_attributed() {
        let mut tally = Tally::new(Instant::now());
        let timed_out = |attribution| {
            Response::NoAnswer(NoAnswer {
                attribution,
                cause: Cause::TimedOut,
                detail: "no answer".to_owned(),
                pod: None,
                info: None,
            })
        };
        let canary = Attribution::Release(Release::Canary);
        for observation in [
            answered(Outcome::Success, Some("stable")),
            answered(Outcome::Success, Some("stable")),
            answered(Outcome::Failure, Some("canary")),
            answered(Outcome::Slow, Some("canary")),
            answered(Outcome::Success, Some("experiment")),
            answered(Outcome::Failure, None),
            observed(timed_out(Attribution::NoAnswer)),
            observed(timed_out(canary.clone())),
            observed(Response::Unsent("Too many open files".to_owned())),
        ] {
            tally.observe(&observation);
        }
        let counts = |success, failures| Counts { requests: success + failures, failures, slow: 0 };
        assert_eq!(
            Vec::from_iter(tally.counts().clone()),
            [
                (Attribution::Release(Release::Stable), counts(2, 0)),
                (canary, Counts { requests: 3, failures: 3, slow: 1 }),
                (Attribution::Other("experiment".to_owned()), counts(1, 0)),
                (Attribution::Unnamed, counts(0, 1)),
                (Attribution::NoAnswer, counts(0, 1)),
            ]
        );
        assert_eq!(
            (tally.total(), tally.answered(), tally.unanswered(), tally.unsent()),
            (Counts { requests: 8, failures: 5, slow: 1 }, 6, 2, 1)
        );
        assert_eq!(Vec::from_iter(tally.causes().clone()), [(Cause::TimedOut, 2)]);
        assert_eq!(tally.recent_share(&Attribution::NoAnswer), Some(2.0 / 8.0));
        assert_eq!(tally.last_trouble(), Some("Too many open files"));
        assert_eq!(tally.recent_share(&Attribution::Release(Release::Stable)), Some(2.0 / 8.0));
        tally.observe(&observed(timed_out(Attribution::NoAnswer)));
        assert_ne!(tally.last_trouble(), tally.last_shortage());
        assert_eq!(tally.last_shortage(), Some("Too many open files"), "a later cause does not hide it");
    }

    #[test]
    fn counters_of_an_interval_are_added_by_side() {
        let mut tally = Tally::new(Instant::now());
        let counts = |failures, requests| Counts { requests, failures, slow: 0 };
        let batch = Batch { stable: counts(1, 30), canary: counts(2, 10), unattributed: 3 };
        tally.observe_batch(&batch);
        tally.observe(&answered(Outcome::Failure, Some("experiment")));
        assert_eq!(tally.sides(), Batch { unattributed: 4, ..batch });
        assert_eq!(tally.total(), counts(7, 44));
    }

    #[test]
    fn shares_count_only_the_last_requests() {
        let mut tally = Tally::new(Instant::now());
        assert_eq!(tally.recent_share(&Attribution::Release(Release::Stable)), None);
        for release in std::iter::repeat_n("canary", 50).chain(std::iter::repeat_n("stable", RECENT)) {
            tally.observe(&answered(Outcome::Success, Some(release)));
        }
        assert_eq!(tally.recent().len(), RECENT);
        assert_eq!(tally.recent_share(&Attribution::Release(Release::Stable)), Some(1.0));
        assert_eq!(tally.of_release(Release::Canary).requests, 50);
    }
}
