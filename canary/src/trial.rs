//! A canary on trial: what has been seen of it, and what may be said of that.

use std::time::Instant;

use crate::{
    judge::{Budget, Judge, Price, Settings, Verdict},
    source::Observation,
    tally::Tally,
};

/// A tally and a judge who have seen the same requests.
#[derive(Clone, Debug)]
pub struct Trial {
    settings: Settings,
    budget: Budget,
    tally: Tally,
    judge: Judge,
}

impl Trial {
    /// One in which nothing has been seen yet, as of `now`.
    pub fn new(settings: Settings, budget: Budget, now: Instant) -> Self {
        Self { settings, budget, tally: Tally::new(now), judge: Judge::new(settings) }
    }

    /// Forgets what was seen: from `now` on it is another canary's trial.
    pub fn reset(&mut self, now: Instant) {
        *self = Self::new(self.settings, self.budget, now);
    }

    /// Takes in what came of one request.
    pub fn observe(&mut self, observation: &Observation) {
        self.tally.observe(observation);
        if let Some((attribution, failed)) = observation.attributed() {
            self.judge.observe(attribution.release(), failed);
        }
    }

    /// What was seen.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// What may be said.
    pub fn verdict(&self) -> Verdict {
        self.judge.verdict()
    }

    /// What the canary has cost until `now`; none before stable has answered.
    pub fn price(&self, now: Instant) -> Option<Price> {
        self.judge.price(self.budget, now.saturating_duration_since(self.tally.began()))
    }
}
