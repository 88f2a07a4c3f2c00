//! The evidence from one way to divide the requests into batches: whether the canary is worse than stable, and whether
//! it is shown to fail at most `max_ratio` times as often.

use serde::{Deserialize, Serialize};

use crate::{
    Batch, Counts, alpha,
    by_ratio::ByRatio,
    odds::{GREATER, OddsTest, Table},
    settings::Settings,
};

/// What a batch says. Both tables are the same for requests that are known one by one. With counters of pods that are
/// scraped at different moments, each is a bound (see [`crate::scrapes`]).
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Tables {
    /// For the roll-back.
    pub(crate) worse: Table,
    /// For the promotion by the ratio.
    pub(crate) ratio: Table,
    /// How far the canary's share of the requests moved up within the batch, and how far down: the logarithm of the ratio
    /// of its odds. Both are at least 0.
    pub(crate) share_moved: (f64, f64),
    /// All requests of both sides, in parts of about the same time.
    pub(crate) totals: Vec<Counts>,
}

impl Tables {
    /// A batch of requests of the same time.
    pub(crate) fn of_batch(batch: &Batch) -> Self {
        Self {
            worse: Table { reference: batch.stable, suspect: batch.canary },
            ratio: Table { reference: batch.stable, suspect: batch.canary_at_worst() },
            share_moved: (0.0, 0.0),
            totals: vec![batch.total()],
        }
    }
}

/// The tests on one sequence of batches.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Comparison {
    /// The logarithm of the part of α that belongs to this sequence.
    ln_part: f64,
    worse: OddsTest,
    ratio: ByRatio,
    /// Stable's answers in batches in which the canary answered, too.
    stable_beside_canary: u64,
}

impl Comparison {
    /// Without batches. `part` is its part of α: the parts of all comparisons of a judge add up to 1.
    pub(crate) fn new(settings: Settings, part: f64) -> Self {
        Self {
            ln_part: (part * alpha::failures(settings)).ln(),
            worse: OddsTest::new(1.0, GREATER),
            ratio: ByRatio::new(settings, part),
            stable_beside_canary: 0,
        }
    }

    /// Adds the next batch.
    pub(crate) fn observe(&mut self, tables: &Tables) {
        let Tables { worse, ratio, share_moved: (up, down), totals } = tables;
        if worse.suspect.requests > 0 {
            self.stable_beside_canary += worse.reference.requests;
        }
        self.worse.observe_with_share(*worse, *up);
        self.ratio.observe(*ratio, -down, totals);
    }

    /// The logarithm of the greatest e-value so far, times the part of α: at ln(1/α), the canary is worse.
    pub(crate) fn peak_ln_e_value(&self) -> f64 {
        self.worse.peak_ln_e_value() + self.ln_part
    }

    /// Whether the promotion by the ratio is shown.
    pub(crate) fn shows_ratio(&self) -> bool {
        self.ratio.is_shown()
    }

    /// Stable's answers in batches in which the canary answered, too.
    pub(crate) fn stable_beside_canary(&self) -> u64 {
        self.stable_beside_canary
    }
}
