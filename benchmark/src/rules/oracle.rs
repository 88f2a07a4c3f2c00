//! An oracle that knows both rates.

use canary_judge::Release;

use super::ALPHA;
use crate::{
    rule::{Call, Entry, Rule},
    stream::Ended,
};

pub const ENTRY: Entry = Entry {
    name: "oracle",
    description: "Knows stable's rate and the rate that a bad canary has, and looks only at the canary's answers: Wald's \
                  sequential test of one rate against the other (A. Wald, \"Sequential tests of statistical hypotheses\", \
                  Annals of Mathematical Statistics 16, 1945). No rule can know this. Only in worlds with constant rates that differ.",
    begin: |world| {
        let (stable, canary) = world.rates.filter(|(stable, canary)| stable != canary)?;
        Some(Box::new(Oracle { stable, canary, ln_ratio: 0.0 }))
    },
};

struct Oracle {
    stable: f64,
    canary: f64,
    ln_ratio: f64,
}

impl Rule for Oracle {
    fn ended(&mut self, request: &Ended) {
        if request.sent.release == Release::Canary {
            let probability = |rate: f64| if request.answer.failed { rate } else { 1.0 - rate };
            self.ln_ratio += probability(self.canary).ln() - probability(self.stable).ln();
        }
    }

    fn call(&self) -> Option<Call> {
        if self.ln_ratio >= -ALPHA.ln() {
            return Some(Call::RollBack);
        }
        (self.ln_ratio <= ALPHA.ln()).then_some(Call::Promote)
    }
}
