//! What may be said of a canary: the decision, with the numbers it rests on, and what the canary has cost.
//!
//! It is pure: outcomes go into the [`Judge`] in the order of sending, a [`Verdict`] comes out, and neither clock
//! nor network is asked. `docs/verdict.md` has the mathematics in one piece, and what is assumed.
//!
//! - `decision`: the rules by which a canary is promoted or rolled back.
//! - `batch`: which requests are compared with each other.
//! - `odds`: whether the canary is worse than stable, given how many failed. A roll-back rests on it.
//! - `promotion`: the two ways to a promotion.
//! - `pods`: in which pods of a release its failures sit.
//! - `bounds`: between which bounds a failure rate lies.
//! - `verdict`: what comes out.
//! - `sentences`: how a verdict and its price are told. `price`: what a canary has cost.
//! - `numbers`: what a judge is given.

mod batch;
mod bounds;
mod decision;
mod numbers;
mod odds;
mod pods;
mod price;
mod promotion;
mod sentences;
mod verdict;

pub use self::{
    bounds::{ConfidenceSequence, Interval},
    decision::{Judge, Settings},
    numbers::{Fraction, InvalidNumber, Ratio, Traffic},
    pods::FailingPod,
    price::{Budget, Price},
    verdict::{Decision, Estimate, Evidence, FailingPods, Reason, Verdict},
};

pub(crate) use self::sentences::percent;

#[cfg(test)]
mod testing {
    use crate::release::Counts;

    pub(super) fn counts(failures: u64, requests: u64) -> Counts {
        Counts { requests, failures, slow: 0 }
    }

    #[track_caller]
    pub(super) fn assert_close(value: f64, expected: f64) {
        assert!((value - expected).abs() <= 1e-9 * expected.abs().max(1.0), "{value} is not {expected}");
    }
}
