//! What the picture shows of the time before: a value of each second.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::nearness::Nearness;
use crate::trial::Trial;

/// The number of seconds that are kept: more than the columns of a chart.
const KEPT: usize = 300;

/// The state at the end of a second.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    pub(crate) nearness: Nearness,
    /// The 99th percentile of the last latencies, if there are any.
    pub(crate) latency: Option<Duration>,
}

/// The last seconds of a trial.
#[derive(Clone, Debug, Default)]
pub struct History {
    samples: VecDeque<Sample>,
    last: Option<Instant>,
}

impl History {
    /// Keeps the state of the trial, at most once a second.
    pub(crate) fn observe(&mut self, trial: &Trial, now: Instant) {
        if self.last.is_some_and(|last| now.saturating_duration_since(last) < Duration::from_secs(1)) {
            return;
        }
        self.last = Some(now);
        if self.samples.len() == KEPT {
            self.samples.pop_front();
        }
        let nearness = Nearness::of(&trial.verdict(now));
        self.samples.push_back(Sample { nearness, latency: trial.tally().recent_latencies().percentile(99) });
    }

    /// Forgets all.
    pub(crate) fn reset(&mut self) {
        *self = Self::default();
    }

    /// The kept states, oldest first.
    pub(crate) fn samples(&self) -> &VecDeque<Sample> {
        &self.samples
    }
}
