//! An oracle that knows both rates, and must not use that it knows stable's.

use canary_judge::Release;

use super::ALPHA;
use crate::{
    rule::{Call, Entry, Rule},
    stream::{Ended, SHARE},
};

pub const ENTRY: Entry = Entry {
    name: "fair oracle",
    description: "Knows the two rates as the alternative, and tests them against any rate that both have: the e-variable with \
                  the fastest growth for two samples (the article of the safe test, above, with the true rates in place of \
                  estimates). This is what two samples can show at best. Only in worlds with constant rates that differ.",
    begin: |world| {
        let (stable, canary) = world.rates.filter(|(stable, canary)| stable != canary)?;
        Some(Box::new(FairOracle { stable, canary, ln_e_value: 0.0 }))
    },
};

struct FairOracle {
    stable: f64,
    canary: f64,
    ln_e_value: f64,
}

impl Rule for FairOracle {
    fn ended(&mut self, request: &Ended) {
        let rate = match request.sent.release {
            Release::Stable => self.stable,
            Release::Canary => self.canary,
        };
        let both = SHARE * self.canary + (1.0 - SHARE) * self.stable;
        let probability = |rate: f64| if request.answer.failed { rate } else { 1.0 - rate };
        self.ln_e_value += probability(rate).ln() - probability(both).ln();
    }

    fn call(&self) -> Option<Call> {
        (self.ln_e_value >= -ALPHA.ln()).then_some(Call::RollBack)
    }
}
