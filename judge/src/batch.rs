//! Splits requests into batches: contiguous, in the order of sending, each with a length that is fixed beforehand.

use serde::{Deserialize, Serialize};

use crate::{Batch, real};

/// The length of the next batch: about [`ANSWERS`] answers of the release that answers less.
///
/// In a short batch, all requests are from about the same time. A longer batch has more information about a
/// difference. With two answers, the test finds 10 % against 1 % after about as many requests as with four
/// answers.
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
const SHORTEST: f64 = 4.0;
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
        self.requests_with(ANSWERS)
    }

    /// The number of requests in the next batch, if it is to have about so many answers of the release that answers less.
    pub(super) fn requests_with(&self, answers: f64) -> u64 {
        let rarer = self.stable.min(self.canary) / (self.stable + self.canary);
        let (shortest, longest) = (SHORTEST * answers / ANSWERS, LONGEST * answers / ANSWERS);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between the two bounds")]
        let requests = (answers / rarer).round().clamp(shortest, longest) as u64;
        requests
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
    fn a_batch_has_about_two_answers_of_the_rarer_release() {
        assert_eq!(BatchLength::UNKNOWN.requests(), 8, "one canary beside three pods");
        for (stable, canary, requests) in [(6, 2, 8), (38, 2, 40), (2, 2, 4), (2, 6, 8), (1999, 1, 256)] {
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
        assert_eq!(length.requests(), 8);
    }
}
