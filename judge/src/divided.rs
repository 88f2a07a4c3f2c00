//! The test of one null hypothesis in each stratum: one for all strata together, and one for each of them.
//!
//! A stratum is a kind of request, such as a path. Only requests of the same stratum are compared with each other, each
//! stratum has batches of its own, and all of them together are never a table. Otherwise a canary whose clients use a bad
//! path more often would look worse than it is (Simpson's paradox).
//!
//! ```text
//! E = 0.65 · mean over θ of Π over strata of Π over batches of LR(θ)  +  0.35 · Σ over strata of w · mean over θ of Π of LR(θ)
//! ```
//!
//! The first part is the sequential form of Mantel's and Haenszel's common odds ratio. It finds a canary that is worse
//! everywhere. The second finds one that is worse in one stratum. Batches of different strata have no request in common, so
//! all of these are e-processes in one filtration, and so is their mean (docs/verdict.md has the proof). The weights w are
//! those of [`crate::alpha::of_each`]: what is left of them waits for strata that appear later.

use serde::{Deserialize, Serialize};

use crate::{
    alpha,
    odds::{OddsTest, Table, ln_sum},
};

/// One test for each stratum, with the same null hypothesis and the same alternatives.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct DividedTest {
    tests: Vec<OddsTest>,
    /// Whether requests are divided. If they are not, there is one test, and all of the evidence is its own.
    is_divided: bool,
    /// The number of strata that were known in the first batch with information.
    first: Option<usize>,
    peak_ln_e_value: f64,
}

impl DividedTest {
    /// Without strata yet. `test` has no batches.
    pub(crate) fn new(test: OddsTest) -> Self {
        Self { tests: vec![test], is_divided: false, first: None, peak_ln_e_value: 0.0 }
    }

    /// Call this before the first batch if requests are divided into strata.
    pub(crate) fn divide(&mut self) {
        self.is_divided = true;
    }

    /// Adds the next batch of a stratum, of which `known` are known (see [`OddsTest::observe_with_share`]).
    pub(crate) fn observe(&mut self, stratum: usize, known: usize, table: Table, moved: f64) {
        if !table.is_informative() {
            return;
        }
        self.first.get_or_insert(known);
        while self.tests.len() < known.max(stratum + 1) {
            self.tests.push(self.tests[0].without_batches());
        }
        self.tests[stratum].observe_with_share(table, moved);
        self.peak_ln_e_value = self.peak_ln_e_value.max(self.ln_e_value());
    }

    /// The natural logarithm of the e-value.
    pub(crate) fn ln_e_value(&self) -> f64 {
        if !self.is_divided {
            return self.tests[0].ln_e_value();
        }
        let parts = (0..self.tests.len()).map(|stratum| self.part(stratum));
        let left: f64 = 1.0 - parts.clone().sum::<f64>();
        let alone = parts.zip(&self.tests).map(|(part, test)| part.ln() + test.ln_e_value());
        // what is left is a bet on strata that have not appeared
        let alone =
            alone.chain([left.max(0.0).ln()]).map(|ln_e_value| ln_e_value + (1.0 - alpha::COMMON).ln());
        let common = self.ln_common_e_value(|_| true) + alpha::COMMON.ln();
        ln_sum(alone.chain([common]))
    }

    /// The natural logarithm of the greatest e-value so far; at least 0.
    pub(crate) fn peak_ln_e_value(&self) -> f64 {
        self.peak_ln_e_value
    }

    /// The natural logarithm of the e-value of these strata together.
    pub(crate) fn ln_common_e_value(&self, takes: impl Fn(usize) -> bool) -> f64 {
        OddsTest::ln_common_e_value(
            self.tests.iter().enumerate().filter(|(stratum, _)| takes(*stratum)).map(|one| one.1),
        )
    }

    /// The natural logarithm of the greatest e-value so far of one stratum alone; at least 0.
    pub(crate) fn peak_of(&self, stratum: usize) -> f64 {
        self.tests.get(stratum).map_or(0.0, OddsTest::peak_ln_e_value)
    }

    /// The part of a stratum, among those alone. Before the first batch with information, as if it came now.
    pub(crate) fn part_of(&self, stratum: usize, known: usize) -> f64 {
        alpha::of_each(stratum, self.first.unwrap_or(known).max(1))
    }

    fn part(&self, stratum: usize) -> f64 {
        self.part_of(stratum, self.tests.len())
    }
}
