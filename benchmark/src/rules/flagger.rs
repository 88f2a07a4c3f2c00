//! Flagger, as its tutorial sets it.

use canary_judge::{Counts, Release};

use crate::{
    rule::{Call, Entry, Rule},
    stream::{Ended, count},
};

pub const ENTRY: Entry = Entry {
    name: "Flagger",
    description: "Flagger as in its documentation: `request-success-rate` with a minimum of 99 % and an interval of one \
                  minute. Five failed checks roll back (`threshold: 5`), ten good ones are enough (\"Metrics Analysis\", \
                  docs.flagger.app).",
    begin: |_| Some(Box::new(Flagger::default())),
};

/// The lowest success rate.
const SUCCESS_RATE: f64 = 0.99;
/// So many failed checks roll back.
const THRESHOLD: u32 = 5;
/// So many good checks promote.
const ITERATIONS: u32 = 10;

#[derive(Default)]
struct Flagger {
    canary: Counts,
    failed: u32,
    passed: u32,
}

impl Rule for Flagger {
    fn ended(&mut self, request: &Ended) {
        if request.sent.release == Release::Canary {
            count(&mut self.canary, request);
        }
    }

    fn minute(&mut self, _: u64) -> Option<Call> {
        let rate = std::mem::take(&mut self.canary).rate()?;
        if 1.0 - rate < SUCCESS_RATE {
            self.failed += 1;
        } else {
            self.passed += 1;
        }
        if self.failed >= THRESHOLD {
            return Some(Call::RollBack);
        }
        (self.passed >= ITERATIONS).then_some(Call::Promote)
    }
}
