//! The safe test for 2×2 tables.

use canary_judge::Release;

use super::ALPHA;
use crate::{
    rule::{Call, Entry, Rule},
    stream::Ended,
};

pub const ENTRY: Entry = Entry {
    name: "safe 2×2",
    description: "The safe test for two proportions (R. Turner, A. Ly and P. Grünwald, \"Generic E-variables for exact \
                  sequential k-sample tests that allow for optional stopping\", Journal of Statistical Planning and Inference \
                  230, 2024): blocks of one answer of the canary and three of stable, in the order in which they end, and \
                  estimates with a Beta(0.18, 0.18) prior. It rolls back at an e-value of 20, if the canary fails more. It \
                  never promotes.",
    begin: |_| Some(Box::new(Safe::default())),
};

/// Answers of stable in a block with one of the canary.
const STABLE: usize = 3;
/// Both parameters of the prior.
const PRIOR: f64 = 0.18;

#[derive(Default)]
struct Side {
    waiting: std::collections::VecDeque<bool>,
    failures: f64,
    answers: f64,
}

impl Side {
    fn rate(&self) -> f64 {
        (self.failures + PRIOR) / (self.answers + 2.0 * PRIOR)
    }

    /// Takes the block's next answers out of those that wait.
    fn take(&mut self, answers: usize) -> Vec<bool> {
        self.waiting.drain(..answers).collect()
    }

    fn learn(&mut self, block: &[bool]) {
        self.answers += block.len() as f64;
        self.failures += block.iter().filter(|failed| **failed).count() as f64;
    }
}

#[derive(Default)]
struct Safe {
    stable: Side,
    canary: Side,
    ln_e_value: f64,
}

fn ln_probability(failed: bool, rate: f64) -> f64 {
    if failed { rate.ln() } else { (1.0 - rate).ln() }
}

impl Rule for Safe {
    fn ended(&mut self, request: &Ended) {
        match request.sent.release {
            Release::Stable => self.stable.waiting.push_back(request.answer.failed),
            Release::Canary => self.canary.waiting.push_back(request.answer.failed),
        }
        while self.stable.waiting.len() >= STABLE && !self.canary.waiting.is_empty() {
            let (stable_rate, canary_rate) = (self.stable.rate(), self.canary.rate());
            let pooled = (STABLE as f64 * stable_rate + canary_rate) / (STABLE as f64 + 1.0);
            let (stable, canary) = (self.stable.take(STABLE), self.canary.take(1));
            for (block, rate) in [(&stable, stable_rate), (&canary, canary_rate)] {
                for failed in block {
                    self.ln_e_value += ln_probability(*failed, rate) - ln_probability(*failed, pooled);
                }
            }
            self.stable.learn(&stable);
            self.canary.learn(&canary);
        }
    }

    fn call(&self) -> Option<Call> {
        let is_worse = self.canary.rate() > self.stable.rate();
        (is_worse && self.ln_e_value >= -ALPHA.ln()).then_some(Call::RollBack)
    }
}
