//! The evidence from one way to divide the requests into batches: whether the canary is worse than stable, and whether
//! it is shown to fail at most `max_ratio` times as often.

use serde::{Deserialize, Serialize};

use crate::{
    Batch, Counts, alpha,
    by_ratio::ByRatio,
    divided::DividedTest,
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
}

impl Tables {
    /// A batch of requests of the same time.
    pub(crate) fn of_batch(batch: &Batch) -> Self {
        Self {
            worse: Table { reference: batch.stable, suspect: batch.canary },
            ratio: Table { reference: batch.stable, suspect: batch.canary_at_worst() },
            share_moved: (0.0, 0.0),
        }
    }

    /// The table for the roll-back if the canary had failed all of its requests, and stable none.
    fn of_a_dead_canary(&self) -> Table {
        let Self { worse: Table { reference, suspect }, ratio, .. } = self;
        let failures = suspect.requests.min(ratio.suspect.requests);
        Table {
            reference: Counts { requests: reference.requests, ..Counts::default() },
            suspect: Counts { requests: suspect.requests, failures, slow: 0 },
        }
    }
}

/// What the batches are, and in which of the strata.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Within {
    /// The place of the stratum; 0 if requests are not divided.
    pub(crate) stratum: usize,
    /// The number of strata that are known.
    pub(crate) known: usize,
    /// Whether there was an incident of the whole service during the batch.
    pub(crate) has_incident: bool,
}

/// A dead canary that has this much evidence against it has enough, whatever the part of its stratum is.
const ENOUGH: f64 = 50.0;

/// The tests on one sequence of batches, or on one of each stratum.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Comparison {
    /// The logarithm of the part of α that belongs to this sequence.
    ln_part: f64,
    worse: DividedTest,
    ratio: ByRatio,
    /// Stable's answers in batches in which the canary answered, too.
    stable_beside_canary: u64,
    /// The test of each stratum, if the canary had failed all of its requests there. Empty if requests are not divided.
    dead: Vec<OddsTest>,
    is_divided: bool,
}

impl Comparison {
    /// Without batches. `part` is its part of α: the parts of all comparisons of a judge add up to 1.
    pub(crate) fn new(settings: Settings, part: f64) -> Self {
        Self {
            ln_part: part.ln(),
            worse: DividedTest::new(OddsTest::new(1.0, GREATER)),
            ratio: ByRatio::new(settings, part),
            stable_beside_canary: 0,
            dead: Vec::new(),
            is_divided: false,
        }
    }

    /// Call this before the first batch if requests are divided into strata.
    pub(crate) fn divide(&mut self) {
        self.worse.divide();
        self.is_divided = true;
    }

    /// Adds all requests of the whole service in some time, of both sides, in parts of about the same time. Whether there
    /// was an incident in it, in which nothing counts for the ratio.
    pub(crate) fn see_totals(&mut self, totals: &[Counts]) -> bool {
        self.ratio.see_totals(totals)
    }

    /// Whether there is an incident with these requests, which are not complete yet.
    pub(crate) fn is_incident_with(&self, total: Counts) -> bool {
        self.ratio.is_incident_with(total)
    }

    /// Adds the next batch of a stratum.
    pub(crate) fn observe(&mut self, within: Within, tables: &Tables) {
        let Tables { worse, ratio, share_moved: (up, down) } = tables;
        let Within { stratum, known, has_incident } = within;
        if worse.suspect.requests > 0 {
            self.stable_beside_canary += worse.reference.requests;
        }
        self.worse.observe(stratum, known, *worse, *up);
        if !has_incident {
            self.ratio.observe(stratum, known, *ratio, -down);
        }
        if self.is_divided {
            while self.dead.len() <= stratum {
                self.dead.push(OddsTest::new(1.0, GREATER));
            }
            let dead = &mut self.dead[stratum];
            if dead.peak_ln_e_value() < ENOUGH {
                dead.observe_with_share(tables.of_a_dead_canary(), *up);
            }
        }
    }

    /// The logarithm of the greatest e-value so far, times the part of α: at ln(1/α), the canary is worse.
    pub(crate) fn peak_ln_e_value(&self) -> f64 {
        self.worse.peak_ln_e_value() + self.ln_part
    }

    /// The same for one stratum alone, and times its part: at ln(1/α), the canary is worse there.
    pub(crate) fn peak_of(&self, stratum: usize, known: usize) -> [f64; 2] {
        let peak = self.worse.peak_of(stratum) + self.ln_part;
        [peak, peak + self.worse.part_of(stratum, known).ln()]
    }

    /// The evidence of these strata together at the moment.
    pub(crate) fn ln_common_e_value(&self, takes: impl Fn(usize) -> bool) -> f64 {
        self.worse.ln_common_e_value(takes)
    }

    /// The evidence of one stratum, as far as it counts for a roll-back, if the canary had failed all of its requests there.
    pub(crate) fn of_a_dead_canary(&self, stratum: usize, known: usize) -> f64 {
        let peak = self.dead.get(stratum).map_or(0.0, OddsTest::peak_ln_e_value);
        peak + self.ln_part + ((1.0 - alpha::COMMON) * self.worse.part_of(stratum, known)).ln()
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
