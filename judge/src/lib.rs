//! The verdict on a canary: the decision, the numbers behind it, and the cost of the canary.
//!
//! This library is pure: it uses neither clock nor network. Outcomes go into the [`Judge`], and a [`Verdict`] comes
//! out. `docs/verdict.md` explains the mathematics and the assumptions.
//!
//! - `release`: the two sides of a rollout, outcomes, and counts.
//! - `order`: the order of sending. `batch`: which requests are compared with each other. `scrapes`: the same for counters
//!   that are scraped at different moments.
//! - `odds`: the test whether one side fails more often. `comparison`: the tests on one sequence of batches.
//! - `decision`: the rules for promotion and roll-back. `by_limit` and `by_ratio`: the two ways to a promotion. `alpha`:
//!   how α is divided.
//! - `pods`: which pods of a release fail more often than its other pods.
//! - `bounds`: confidence intervals for failure rates.
//! - `verdict`: the result. `sentences`: a verdict and its price in words. `price`: the cost of a canary.
//! - `settings`, and `numbers` in them.

mod alpha;
mod batch;
mod bounds;
mod by_limit;
mod by_ratio;
mod comparison;
mod decision;
mod numbers;
mod odds;
mod order;
mod pods;
mod price;
mod release;
mod scrapes;
mod sentences;
mod settings;
mod verdict;

pub use self::{
    bounds::{ConfidenceSequence, Interval},
    decision::Judge,
    numbers::{Fraction, InvalidNumber, Ratio, Traffic},
    order::Request,
    pods::FailingPod,
    price::{Budget, Price},
    release::{Batch, Counts, Outcome, Release},
    scrapes::Window,
    sentences::{count, percent},
    settings::Settings,
    verdict::{Absence, Decision, Estimate, Evidence, FailingPods, Reason, Verdict},
};

pub(crate) use self::release::real;

#[cfg(test)]
mod testing {
    use crate::Counts;

    pub(super) fn counts(failures: u64, requests: u64) -> Counts {
        Counts { requests, failures, slow: 0 }
    }

    #[track_caller]
    pub(super) fn assert_close(value: f64, expected: f64) {
        assert!((value - expected).abs() <= 1e-9 * expected.abs().max(1.0), "{value} is not {expected}");
    }
}
