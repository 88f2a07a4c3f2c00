//! What a judge says: the decision, and the numbers that it rests on.

use serde::Serialize;

use super::{bounds::Interval, decision::Settings, pods::FailingPod};
use crate::release::Counts;

/// What to do with a canary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "decision", rename_all = "snake_case")]
pub enum Decision {
    /// It may take all traffic.
    Promote {
        /// Why.
        reason: Reason,
        /// When that was first clear.
        clear_after: Evidence,
    },
    /// Take it away: it is worse than stable.
    RollBack {
        /// When that was first clear.
        clear_after: Evidence,
    },
    /// Too little is known.
    NotYet,
    /// Both releases fail more than the limit, and nothing tells them apart.
    Hold,
}

/// A verdict on a canary, with the numbers it rests on. Shown, it is a few sentences.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Verdict {
    /// What to do.
    #[serde(flatten)]
    pub decision: Decision,
    /// The canary's answers.
    pub canary: Estimate,
    /// The stable release's answers.
    pub stable: Estimate,
    /// Failures that name no release.
    pub unattributed: u64,
    /// The bound that the canary's failure rate is below with probability 1 − 0.9 α, however often one looks,
    /// with all failures that name no release counted against it.
    pub promotion_bound: f64,
    /// After how many more answers of the canary it could be promoted if all of them succeed; `None` where that
    /// would be more than 100,000.
    pub more_answers: Option<u64>,
    /// How many more answers of stable a promotion wants to compare with.
    pub more_stable_answers: u64,
    /// How many more requests that takes, if the releases keep their shares; `None` where it is not known.
    pub more_requests: Option<u64>,
    /// The natural logarithm of the greatest e-value so far of the test whether the canary is worse than stable.
    /// The decision is a roll-back once it has reached ln(1/α).
    pub ln_e_value: f64,
    /// The smallest α at which the decision would be a roll-back: an anytime-valid p-value (A. Ramdas et al.,
    /// "Game-theoretic statistics and safe anytime-valid inference", Statistical Science 38, 2023).
    pub p_value: f64,
    /// Pods in which a release's failures sit.
    pub failing_pods: FailingPods,
    /// What the judge goes by.
    pub settings: Settings,
}

/// What has been seen of one release.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// Its answers.
    #[serde(flatten)]
    pub counts: Counts,
    /// Between which bounds its failure rate lies with probability 1 − α, however often one looks.
    #[serde(flatten)]
    pub bounds: Interval,
}

/// Pods that fail more often than the other pods of their release.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct FailingPods {
    /// Of the canary.
    pub canary: Vec<FailingPod>,
    /// Of stable.
    pub stable: Vec<FailingPod>,
    /// The canary looks worse than stable, but stable's own pods differ as much. So there is no roll-back.
    pub explain_the_difference: bool,
}

/// The answers on which a decision was first taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Evidence {
    /// The canary's answers at that time.
    pub canary: Counts,
    /// Stable's answers at that time.
    pub stable: Counts,
    /// Failures without a release at that time.
    pub unattributed: u64,
}

/// Why a canary may be promoted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// It fails at most [`Settings::max_failure_rate`].
    Limit,
    /// It fails at most [`Settings::max_ratio`] times as often as stable, which fails more than the limit.
    Ratio,
}
