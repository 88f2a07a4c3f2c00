//! The result of a judge: the decision, and the numbers behind it.

use std::time::Duration;

use serde::{Deserialize, Serialize, Serializer};

use crate::{Batch, Counts};
use crate::{bounds::Interval, pods::FailingPod, settings::Settings, share};

/// What to do with a canary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "decision", rename_all = "snake_case")]
pub enum Decision {
    /// Send all traffic to the canary.
    Promote {
        /// Why.
        reason: Reason,
        /// The counts at which this was first clear.
        clear_after: Evidence,
    },
    /// Remove the canary: it is worse than stable.
    RollBack {
        /// The counts at which this was first clear.
        clear_after: Evidence,
    },
    /// There are too few answers for a decision.
    NotYet,
    /// Both releases fail more than the limit, with no clear difference between them. It ends when the failures end.
    Hold,
}

/// A verdict on a canary, with the numbers behind it. `Display` writes it as a few sentences.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Verdict {
    /// What to do.
    #[serde(flatten)]
    pub decision: Decision,
    /// The canary's answers.
    pub canary: Estimate,
    /// The stable release's answers.
    pub stable: Estimate,
    /// Failures that name neither release: none, or a third one.
    pub unattributed: u64,
    /// What was counted, and is not judged yet: it waits for requests that were sent before it, or for the rest of its
    /// batch. All other counts of a verdict are without it.
    pub waiting: Batch,
    /// What was counted, and is left out because its pods had just started (see [`Settings::warm_up`]). All other counts of a
    /// verdict are without it.
    pub warm_up: Batch,
    /// Whether the canary answers at the moment; `None` if it does, or if that is unknown. There is no promotion while
    /// it does not.
    pub absence: Option<Absence>,
    /// How often the canary's pods have restarted, where that is known. What a pod counted between the last scrape and
    /// its end is lost.
    pub restarts: u64,
    /// Whether the outcomes are counters of pods, so that a restart loses a part of them.
    #[serde(skip)]
    pub restarts_lose_counts: bool,
    /// The answers of the canary on which the promotion by the limit rests at the moment.
    pub by_limit: Basis,
    /// The upper bound of the canary's failure rate at confidence 1 − 0.9 α, valid however often you look. All
    /// failures that name no release count against the canary. After an incident, it is the rate outside of incidents.
    pub promotion_bound: f64,
    /// The greatest share of the traffic for the canary at the moment, from 0 to 1: with more, the worst canary that is still
    /// possible would burn the error budget faster than [`Settings::max_burn`] allows. At most 1/2 before a promotion, 1
    /// after it, and 0 after a roll-back. It can fall. It rests on complete batches only, so that weights may follow it. The
    /// bound of those is this share's: it can be greater than [`Verdict::promotion_bound`].
    pub max_share: f64,
    /// If it is less than the evidence allows: the time for which this share must be held first.
    #[serde(skip)]
    pub soak: Option<Duration>,
    /// The upper bound of the canary's failure rate on which `max_share` rests.
    #[serde(skip)]
    pub share_bound: f64,
    /// The number of further answers of the canary until a promotion, if all of them succeed and none is during an
    /// incident; `None` if it is more than 100,000.
    pub more_answers: Option<u64>,
    /// The number of further answers of stable that a promotion needs for the comparison.
    pub more_stable_answers: u64,
    /// The number of further scrapes of both that a promotion needs; 0 for a source that is not scraped.
    pub more_scrapes: u64,
    /// The number of further requests until both are reached, if the releases keep their shares; `None` if
    /// unknown.
    pub more_requests: Option<u64>,
    /// The natural logarithm of the greatest e-value so far in the test whether the canary is worse than stable.
    /// At ln(1/α), the decision becomes a roll-back. With [`Settings::slower_by`], the test whether it is slower is part of
    /// it: it is the greater of both, each times its part of α.
    pub ln_e_value: f64,
    /// The smallest α at which the decision would be a roll-back: an anytime-valid p-value (A. Ramdas et al.,
    /// "Game-theoretic statistics and safe anytime-valid inference", Statistical Science 38, 2023).
    pub p_value: f64,
    /// The latencies of both releases; `None` if none is known.
    pub latency: Option<Latency>,
    /// The strata, in the order in which they appeared; empty if requests are not divided.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub strata: Vec<StratumEvidence>,
    /// Whether the strata in which the canary is not worse alone show no difference together.
    #[serde(skip)]
    pub is_alike_elsewhere: bool,
    /// Pods that fail more often than the other pods of their release.
    pub failing_pods: FailingPods,
    /// What is seen of failures that come in episodes; `None` without [`Settings::episodes`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub episodes: Option<Episodes>,
    /// The judge's settings.
    pub settings: Settings,
}

/// Why there is no promotion at the moment, although the evidence is enough for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Absence {
    /// The canary has not answered for this long. In JSON, in whole seconds.
    Silent(#[serde(serialize_with = "seconds")] Duration),
    /// One of its pods has just restarted.
    Restarted,
    /// One of its pods has not been ready for this long, or it has had none. In JSON, in whole seconds.
    Unready(#[serde(serialize_with = "seconds")] Duration),
}

fn milliseconds<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    (time.as_secs_f64() * 1e3).serialize(serializer)
}

fn seconds<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    time.as_secs().serialize(serializer)
}

impl Verdict {
    /// The verdict if the canary may not get more than this share before it has been held for this time.
    #[must_use]
    pub fn with_share_held(self, share: f64, time: Duration) -> Self {
        if share < self.max_share { Self { max_share: share, soak: Some(time), ..self } } else { self }
    }

    /// The verdict while the canary is absent: a promotion would rest on answers from before.
    #[must_use]
    pub fn during(self, absence: Option<Absence>) -> Self {
        let decision = match self.decision {
            Decision::Promote { .. } if absence.is_some() => Decision::NotYet,
            decision => decision,
        };
        let max_share = share::max_share(self.settings, &decision, self.share_bound);
        Self { decision, absence, max_share, ..self }
    }
}

/// The counts of one release, and its estimated failure rate.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// Its answers.
    #[serde(flatten)]
    pub counts: Counts,
    /// The confidence interval of its failure rate at level 1 − α, valid however often you look.
    #[serde(flatten)]
    pub bounds: Interval,
}

/// What the verdict says of one stratum, such as a path.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StratumEvidence {
    /// Its name; `None` for all requests that name none, and for all strata after the first 64.
    pub name: Option<String>,
    /// The canary's answers there.
    pub canary: Counts,
    /// Stable's answers there.
    pub stable: Counts,
    /// Failures that name neither release: none, or a third one.
    pub unattributed: u64,
    /// The natural logarithm of the greatest e-value so far in the test whether the canary is worse than stable in this
    /// stratum alone.
    pub ln_e_value: f64,
    /// Whether the canary is worse there. The probability that this is true of any stratum, although the canary is no worse
    /// than stable in any, is at most α.
    pub worse: bool,
    /// Whether a promotion says anything about it: it has [`Settings::min_answers`], and a canary that fails all of its
    /// requests there would have been rolled back.
    pub covered: bool,
    /// The number of further answers of the canary there that a promotion needs, because of [`Settings::min_answers`].
    pub more_answers: u64,
}

/// Pods that fail more often than the other pods of their release.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct FailingPods {
    /// The canary's pods.
    pub canary: Vec<FailingPod>,
    /// Stable's pods.
    pub stable: Vec<FailingPod>,
    /// Whether the canary looks worse than stable, but stable's own pods differ as much. Then there is no
    /// roll-back.
    pub explain_the_difference: bool,
}

/// Failures that come in episodes of single pods. Time is divided into spans.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Episodes {
    /// The canary's pods.
    pub canary: PodSpans,
    /// Stable's pods.
    pub stable: PodSpans,
    /// The length of a span: [`Settings::episodes`], or the time between two scrapes, or several of them, if counters
    /// are scraped and that is longer. In JSON `span_ms`, in milliseconds.
    #[serde(rename = "span_ms", serialize_with = "milliseconds")]
    pub span: Duration,
    /// The natural logarithm of the greatest e-value so far in the test whether the canary fails in more spans. At ln(1/α), it
    /// does. A roll-back takes this and the test of requests.
    pub ln_e_value: f64,
    /// Whether requests alone would make the canary worse, and episodes do not.
    pub decide: bool,
}

/// The spans of time of one release's pods.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PodSpans {
    /// The number of its pods that are known by name.
    pub pods: usize,
    /// The number of spans in which a pod has answered, of all pods together.
    pub spans: u64,
    /// Those in which more requests have failed than usual. A span into which an episode goes on does not count again.
    pub failing: u64,
}

/// The counts at the time of a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Evidence {
    /// The canary's answers.
    pub canary: Counts,
    /// Stable's answers.
    pub stable: Counts,
    /// Failures that name neither release: none, or a third one.
    pub unattributed: u64,
    /// The answers of the canary on which a promotion by the limit rests.
    pub by_limit: Basis,
    /// If the canary is rolled back because it has failed all answers of its warm-up: these answers.
    pub warm_up: Option<Counts>,
}

/// The answers of the canary on which a promotion by the limit rests, with all failures that name no release: all of them,
/// or those outside of incidents, in which stable fails much more than the limit. Both counts together are all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Basis {
    /// What it rests on.
    pub counts: Counts,
    /// What it leaves out, because of incidents. It counts for everything else.
    pub during_incidents: Counts,
}

impl Basis {
    /// Whether it leaves out nothing.
    pub fn is_of_all(&self) -> bool {
        self.during_incidents.requests == 0
    }
}

/// Why a canary may be promoted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// It fails at most [`Settings::max_failure_rate`].
    Limit,
    /// It fails at most [`Settings::max_ratio`] times as often as stable, which fails more than the limit.
    Ratio,
}

/// How long both releases take for their good answers, and whether the canary is slower.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Latency {
    /// The canary's good answers.
    pub canary: Percentiles,
    /// Stable's good answers.
    pub stable: Percentiles,
    /// The number of the canary's good answers that were compared with answers of stable, of the same time and stratum.
    pub compared: u64,
    /// Where the difference is clearest; `None` while no threshold tells answers apart.
    pub slower: Option<Slower>,
    /// The natural logarithm of the greatest e-value so far in the test whether the canary is slower than stable, by more
    /// than [`Settings::slower_by`] if that is set. It is times the part of α, so it is significant at ln(1/α).
    pub ln_e_value: f64,
    /// The anytime-valid p-value of the same test.
    pub p_value: f64,
    /// Whether a canary that is slower is rolled back: whether [`Settings::slower_by`] is set.
    pub decides: bool,
    /// Whether the decision is a roll-back because the canary is slower, and not because it fails more.
    pub rolled_back: bool,
}

/// The latencies of a release, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Percentiles {
    /// The number of good answers whose latency is known, with those that wait for the rest of their batch.
    pub answers: u64,
    /// Half of them take at most this long. Each percentile is exact to 1 %.
    pub p50_ms: Option<f64>,
    /// 90 % of them take at most this long.
    pub p90_ms: Option<f64>,
    /// 99 % of them take at most this long.
    pub p99_ms: Option<f64>,
}

/// The shares of good answers that take longer than a threshold.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Slower {
    /// The threshold for stable, in milliseconds.
    pub threshold_ms: f64,
    /// The threshold for the canary: later by [`Settings::slower_by`], if that is set.
    pub canary_threshold_ms: f64,
    /// The share of the canary's answers that take longer.
    pub canary_share: f64,
    /// The share of stable's answers that take longer, at the same times and of the same strata as the canary's.
    pub stable_share: f64,
}
