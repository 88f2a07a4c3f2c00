//! What may be said of a canary: the decision, with the numbers it rests on, and what the canary has cost.
//!
//! It is pure: failures and successes go into the [`Judge`], a [`Verdict`] comes out, and neither clock nor
//! network is asked.
//!
//! - `decision`: the judge, and the rules by which a canary is promoted or rolled back.
//! - `comparison` and `bounds`: the statistics that the rules rest on. Both stay valid however often one looks,
//!   by Ville's inequality (J. Ville, "Étude critique de la notion de collectif", 1939): a nonnegative
//!   supermartingale that starts at 1 ever reaches 1/α with probability at most α. Whoever looks after every
//!   answer, and stops when the answer suits, is therefore wrong no more often than α.
//! - `sentences`: how a verdict and its price are told. `price`: what a canary has cost.
//! - `numbers`: what a judge is given.

mod bounds;
mod comparison;
mod decision;
mod numbers;
mod price;
mod sentences;

pub use self::{
    bounds::{ConfidenceSequence, Interval},
    comparison::SequentialTest,
    decision::{Decision, Estimate, Evidence, Judge, Settings, Verdict},
    numbers::{Fraction, InvalidNumber, Traffic},
    price::{Budget, Price},
};

/// What the tests of the statistics share.
#[cfg(test)]
mod testing {
    use crate::release::Counts;

    pub(super) fn counts(failures: u64, requests: u64) -> Counts {
        Counts { requests, failures }
    }

    #[track_caller]
    pub(super) fn assert_close(value: f64, expected: f64) {
        assert!((value - expected).abs() <= 1e-9 * expected.abs().max(1.0), "{value} is not {expected}");
    }
}
