//! Splits requests into batches: contiguous, in the order of sending, each with a length that is fixed beforehand.

use serde::{Deserialize, Serialize};

use crate::{Batch, odds::GREATER, real};

/// The length of the next batch: the shortest in which a canary that always fails can be shown to be worse, and at least
/// [`ANSWERS`] answers of the release that answers less.
///
/// In a short batch, all requests are from about the same time. A longer batch has more information about a
/// difference: if the failures of a batch are all the canary's, the likelihood ratio is at most the number of ways to choose
/// the canary's answers out of the batch.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(super) struct BatchLength {
    /// Recent answers of stable, weighted by [`DECAY`].
    stable: f64,
    /// The same for the canary.
    canary: f64,
    /// Stable's answers since the canary last answered.
    without_canary: u64,
}

const ANSWERS: f64 = 2.0;
/// The number of ways that makes one batch enough: 1/α for the usual α of 5 %, times the number of alternatives, since the
/// e-value is their mean.
const WAYS: f64 = 20.0 * GREATER.len() as f64;
const LONGEST: f64 = 256.0;
/// The factor by which the weight of an answer falls with each batch.
const DECAY: f64 = 0.95;
/// After this many answers of stable without one of the canary, the canary's share is unknown again.
const FORGET_AFTER: u64 = 1024;

impl BatchLength {
    /// The start, before the canary has answered: assumes one canary pod beside three stable pods.
    pub(super) const UNKNOWN: Self = Self { stable: 3.0, canary: 1.0, without_canary: FORGET_AFTER };

    /// The number of requests in the next batch.
    pub(super) fn requests(&self) -> u64 {
        let mut requests = (ANSWERS / self.rarer()).round();
        while ways_to_choose(requests * self.rarer(), requests) < WAYS {
            requests += 1.0;
        }
        whole(requests.min(LONGEST))
    }

    /// The number of requests in the next batch, if it is to have about so many answers of the release that answers less.
    pub(super) fn requests_with(&self, answers: f64) -> u64 {
        whole((answers / self.rarer()).round().min(LONGEST * answers / ANSWERS))
    }

    /// The share of the release that answers less.
    fn rarer(&self) -> f64 {
        self.stable.min(self.canary) / (self.stable + self.canary)
    }

    /// Updates the length after a batch. It depends only on the number of answers: failures must not influence
    /// which requests are compared.
    pub(super) fn update(&mut self, batch: &Batch) {
        self.update_sizes(batch.stable.requests, batch.canary.requests);
    }

    /// The same, with the numbers of answers of both sides.
    pub(super) fn update_sizes(&mut self, stable: u64, canary: u64) {
        if canary > 0 {
            self.without_canary = 0;
        } else {
            self.without_canary = self.without_canary.saturating_add(stable);
        }
        if self.without_canary >= FORGET_AFTER {
            *self = Self::UNKNOWN;
        } else {
            self.stable = self.stable * DECAY + real(stable);
            self.canary = self.canary * DECAY + real(canary);
        }
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a number of requests")]
fn whole(requests: f64) -> u64 {
    requests as u64
}

/// C(n, k), with k rounded.
fn ways_to_choose(k: f64, n: f64) -> f64 {
    let mut ways = 1.0;
    let mut chosen = 0.0;
    while chosen < k.round() {
        ways *= (n - chosen) / (chosen + 1.0);
        chosen += 1.0;
    }
    ways
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::counts;

    fn length_after_batches_of(stable: u64, canary: u64) -> BatchLength {
        let mut length = BatchLength::UNKNOWN;
        for _ in 0..200 {
            length.update(&Batch { stable: counts(0, stable), canary: counts(0, canary), unattributed: 0 });
        }
        length
    }

    #[test]
    fn one_batch_is_enough_for_a_canary_that_always_fails() {
        assert_eq!(BatchLength::UNKNOWN.requests(), 11, "one canary beside three pods");
        for (stable, canary, requests) in [(6, 2, 11), (38, 2, 40), (2, 2, 10), (2, 6, 11), (1999, 1, 256)] {
            assert_eq!(length_after_batches_of(stable, canary).requests(), requests, "{stable}, {canary}");
        }
    }

    #[test]
    fn failures_do_not_change_the_length() {
        let mut failing = BatchLength::UNKNOWN;
        for _ in 0..200 {
            failing.update(&Batch { stable: counts(38, 38), canary: counts(1, 2), unattributed: 7 });
        }
        assert_eq!(failing.requests(), length_after_batches_of(38, 2).requests());
    }

    #[test]
    fn batches_are_short_again_after_a_long_time_without_a_canary() {
        let mut length = length_after_batches_of(38, 2);
        (0..1000).for_each(|_| length.update(&Batch { stable: counts(0, 40), ..Batch::default() }));
        assert_eq!(length.requests(), 11);
    }
}
