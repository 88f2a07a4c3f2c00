//! Two confidence sequences that no longer overlap.

use canary_judge::{Batch, ConfidenceSequence, Release};

use super::ALPHA;
use crate::{
    rule::{Call, Entry, Rule},
    stream::{Ended, count},
};

pub const ENTRY: Entry = Entry {
    name: "Robbins",
    description: "A confidence sequence for each release at 2.5 % (H. Robbins, \"Statistical methods related to the law of \
                  the iterated logarithm\", Annals of Mathematical Statistics 41, 1970; with Beta mixtures). It rolls back when \
                  the canary's lies above stable's, and promotes when the canary's lies below 1 %. It looks after each answer of the canary.",
    begin: |_| Some(Box::new(Robbins::default())),
};

/// The failure rate that is allowed.
const LIMIT: f64 = 0.01;

#[derive(Default)]
struct Robbins {
    counts: Batch,
    call: Option<Call>,
}

impl Rule for Robbins {
    fn ended(&mut self, request: &Ended) {
        let counts = match request.sent.release {
            Release::Stable => &mut self.counts.stable,
            Release::Canary => &mut self.counts.canary,
        };
        count(counts, request);
        if request.sent.release == Release::Stable {
            return; // what it shows is seen with the canary's next answer
        }
        let Batch { stable, canary, .. } = self.counts;
        let sequence = ConfidenceSequence::new(ALPHA / 2.0);
        let interval = sequence.interval(canary);
        self.call = if interval.upper < LIMIT {
            Some(Call::Promote)
        } else {
            // without a failure, nothing lies above anything
            let is_above = canary.failures > 0 && interval.lower > sequence.interval(stable).upper;
            is_above.then_some(Call::RollBack)
        };
    }

    fn call(&self) -> Option<Call> {
        self.call
    }
}
