//! Argo Rollouts, as its tutorial sets it.

use canary_judge::{Counts, Release};

use crate::{
    rule::{Call, Entry, Rule},
    stream::{Ended, count},
};

pub const ENTRY: Entry = Entry {
    name: "Argo",
    description: "Argo Rollouts as in its documentation: the canary's success rate is measured, here each minute, and must \
                  be 95 % or more. With `failureLimit: 3`, the fourth failed measurement aborts the rollout. It is complete \
                  after ten measurements (\"Analysis & Progressive Delivery\", argo-rollouts.readthedocs.io).",
    begin: |_| Some(Box::new(Argo::default())),
};

/// The lowest success rate.
const SUCCESS_RATE: f64 = 0.95;
/// More failed measurements than this abort.
const FAILURE_LIMIT: u32 = 3;
/// The number of measurements of a rollout.
const MEASUREMENTS: u64 = 10;

#[derive(Default)]
struct Argo {
    canary: Counts,
    failed: u32,
}

impl Rule for Argo {
    fn ended(&mut self, request: &Ended) {
        if request.sent.release == Release::Canary {
            count(&mut self.canary, request);
        }
    }

    fn minute(&mut self, minutes: u64) -> Option<Call> {
        let rate = std::mem::take(&mut self.canary).rate();
        self.failed += u32::from(rate.is_some_and(|rate| 1.0 - rate < SUCCESS_RATE));
        if self.failed > FAILURE_LIMIT {
            return Some(Call::RollBack);
        }
        (minutes >= MEASUREMENTS).then_some(Call::Promote)
    }
}
