//! The test of an odds ratio, conditional on the number of failures: an e-process that stays valid through
//! outages, drift and bursts that hit both sides.
//!
//! # The distribution
//!
//! Take a batch of requests that were sent at about the same time: `m` went to the suspect and `n` to the
//! reference, and `k` of all of them failed. If a failure does not depend on the side, any `k` of the `m + n`
//! requests are equally likely to be the failed ones. This is true for any common failure rate, even if the
//! rate changes within the batch. So the number `x` of the suspect's failures has the hypergeometric
//! distribution. If the odds of a failure are θ times as high at the suspect, `x` has Fisher's noncentral
//! hypergeometric distribution:
//!
//! ```text
//! P(x; θ) = w(x; θ) / Σ w(y; θ) over all possible y,   w(x; θ) = C(m, x) C(n, k − x) θ^x
//! ```
//!
//! R. A. Fisher, "The logic of inductive inference", Journal of the Royal Statistical Society 98 (1935);
//! A. Agresti, "Categorical Data Analysis", 3rd edition (2013), section 3.5 and 16.5.
//!
//! # The e-process
//!
//! For a null hypothesis θ ≤ θ₀ and an alternative θ₁ > θ₀, the likelihood ratio P(x; θ₁) / P(x; θ₀) rises with
//! x, and as θ rises, P(x; θ) shifts to higher x. So the expectation of the ratio is 1 at θ₀ and at most 1
//! below θ₀. (The same is true for θ ≥ θ₀ and θ₁ < θ₀, with the order reversed.) The product over batches is a
//! test supermartingale, as long as the sizes of a batch do not depend on its own outcomes. The mean of such
//! products over a fixed grid of alternatives is a test supermartingale, too. By Ville's inequality ("Étude
//! critique de la notion de collectif", 1939), if the null hypothesis is true, the probability that the mean
//! ever reaches 1/α is at most α.

use std::sync::LazyLock;

use libm::lgamma;
use serde::{Deserialize, Serialize};

use crate::{Counts, real};

/// The answers of two sides at the same time: a 2×2 table of side and outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Table {
    /// The side to compare with.
    pub(super) reference: Counts,
    /// The side under suspicion.
    pub(super) suspect: Counts,
}

impl Table {
    fn failures(&self) -> u64 {
        self.reference.failures + self.suspect.failures
    }

    /// Whether x can have more than one value, given the sizes and the number of failures.
    pub(super) fn is_informative(&self) -> bool {
        let Self { reference, suspect } = *self;
        let failures = self.failures();
        reference.requests > 0
            && suspect.requests > 0
            && 0 < failures
            && failures < reference.requests + suspect.requests
    }

    /// ln w(x; θ).
    fn ln_weight(&self, x: u64, ln_odds: f64) -> f64 {
        ln_choose(self.suspect.requests, x)
            + ln_choose(self.reference.requests, self.failures() - x)
            + real(x) * ln_odds
    }

    /// ln Σ w(y; θ). The sum starts at the mode and goes outwards until a term no longer changes it. It covers
    /// about twenty standard deviations: a few terms for small batches, 10⁵ terms for 10⁹ answers.
    fn ln_total_weight(&self, ln_odds: f64) -> f64 {
        let (m, n, k) = (self.suspect.requests, self.reference.requests, self.failures());
        let (least, most) = (k.saturating_sub(n), k.min(m));
        let mode = self.mode(ln_odds).clamp(least, most);
        let odds = ln_odds.exp();
        // w(x + 1; θ) / w(x; θ)
        let step = |x: u64| (real(m - x) / real(x + 1)) * (real(k - x) / real(n + x + 1 - k)) * odds;
        let mut sum = 1.0;
        let mut add = |term: f64| {
            sum += term;
            term >= sum * f64::EPSILON / 8.0
        };
        let mut term = 1.0;
        for x in mode..most {
            term *= step(x);
            if !add(term) {
                break;
            }
        }
        term = 1.0;
        for x in (least..mode).rev() {
            term /= step(x);
            if !add(term) {
                break;
            }
        }
        self.ln_weight(mode, ln_odds) + sum.ln()
    }

    /// The x at which w(x; θ) is greatest, or a neighbour of it: the solution of w(x + 1; θ) = w(x; θ), a
    /// quadratic equation (J. G. Liao and O. Rosen, "Fast and stable algorithms for computing and sampling from
    /// the noncentral hypergeometric distribution", The American Statistician 55, 2001).
    fn mode(&self, ln_odds: f64) -> u64 {
        let (m, n, k) = (real(self.suspect.requests), real(self.reference.requests), real(self.failures()));
        let odds = ln_odds.exp();
        // (θ − 1) x² + linear x + constant = 0
        let linear = k - n - (m + k + 2.0) * odds;
        let constant = (m + 1.0) * (k + 1.0) * odds;
        let discriminant = linear * linear - 4.0 * (odds - 1.0) * constant;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and m + 1")]
        let mode = (-2.0 * constant / (linear - discriminant.max(0.0).sqrt())).max(0.0) as u64;
        mode
    }

    /// ln P(x; θ) of the observed x, without the factor C(m, x) C(n, k − x), which is the same for every θ.
    pub(super) fn ln_probability(&self, ln_odds: f64) -> f64 {
        real(self.suspect.failures) * ln_odds - self.ln_total_weight(ln_odds)
    }

    /// ln P(x; θ) / P(x; 1) for each θ in [`GREATER`], without the factor θ^x. It depends only on the sizes and on the
    /// number of failures.
    pub(super) fn ln_weights_of_alternatives(&self) -> [f64; GREATER.len()] {
        let null = self.ln_total_weight(0.0);
        GREATER.map(|odds| null - self.ln_total_weight(odds.ln()))
    }
}

/// ln C(n, k).
fn ln_choose(n: u64, k: u64) -> f64 {
    ln_factorial(n) - ln_factorial(k) - ln_factorial(n - k)
}

fn ln_factorial(n: u64) -> f64 {
    static SMALL: LazyLock<Vec<f64>> =
        LazyLock::new(|| (0..1024).map(|n| lgamma(f64::from(n) + 1.0)).collect());
    let small = usize::try_from(n).ok().and_then(|n| SMALL.get(n));
    small.copied().unwrap_or_else(|| lgamma(real(n) + 1.0))
}

/// The alternatives for the test whether one side fails more often than the other. Small odds ratios find a
/// canary that fails twice as often. Large ones find a broken canary within a few answers.
pub(super) const GREATER: [f64; 7] = [1.5, 2.5, 5.0, 10.0, 30.0, 150.0, 1000.0];

/// The e-process of one null hypothesis: the mean over some alternatives.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct OddsTest {
    ln_null: f64,
    /// For each alternative: ln θ₁, and ln of the product of likelihood ratios so far.
    alternatives: Vec<(f64, f64)>,
    ln_e_value: f64,
    peak_ln_e_value: f64,
}

impl OddsTest {
    /// If all `alternatives` are greater than `null`, the null hypothesis is that the odds ratio is at most
    /// `null`. If all are smaller, it is that the odds ratio is at least `null`.
    pub(super) fn new(null: f64, alternatives: impl IntoIterator<Item = f64>) -> Self {
        let alternatives = alternatives.into_iter().map(|odds| (odds.ln(), 0.0)).collect();
        Self { ln_null: null.ln(), alternatives, ln_e_value: 0.0, peak_ln_e_value: 0.0 }
    }

    /// The same test, without batches.
    pub(super) fn without_batches(&self) -> Self {
        let alternatives = self.alternatives.iter().map(|(ln_odds, _)| (*ln_odds, 0.0)).collect();
        Self { ln_null: self.ln_null, alternatives, ln_e_value: 0.0, peak_ln_e_value: 0.0 }
    }

    /// Adds the next batch.
    pub(super) fn observe(&mut self, table: Table) {
        self.observe_with_share(table, 0.0);
    }

    /// Adds the next batch, in which the suspect's share of the requests moved: at its most favourable moment for the
    /// alternatives, the odds of the share were `exp(|moved|)` times those of the whole batch. The null hypothesis for this
    /// batch is wider by that factor. `moved` may depend on the sizes of the batch only. It is positive if the
    /// alternatives are greater than the null hypothesis, and negative if they are smaller.
    pub(super) fn observe_with_share(&mut self, table: Table, moved: f64) {
        if !table.is_informative() || !moved.is_finite() {
            return; // every likelihood ratio is 1, or no alternative is left
        }
        let ln_null = self.ln_null + moved;
        let ln_null_probability = table.ln_probability(ln_null);
        for (ln_odds, ln_product) in &mut self.alternatives {
            let is_alternative = (*ln_odds > self.ln_null) == (*ln_odds > ln_null);
            if is_alternative {
                *ln_product += table.ln_probability(*ln_odds) - ln_null_probability;
            }
        }
        self.ln_e_value = ln_mean(self.alternatives.iter().map(|(_, ln_product)| *ln_product));
        self.peak_ln_e_value = self.peak_ln_e_value.max(self.ln_e_value);
    }

    /// The natural logarithm of the e-value, which is the mean of the products.
    pub(super) fn ln_e_value(&self) -> f64 {
        self.ln_e_value
    }

    /// The natural logarithm of the e-value of several tests together, which have the same alternatives, and batches of
    /// different requests: for each alternative the product of all their products, and of these the mean.
    pub(super) fn ln_common_e_value<'a, I: IntoIterator<Item = &'a Self>>(tests: I) -> f64 {
        let mut tests = tests.into_iter();
        let Some(first) = tests.next() else { return 0.0 };
        let mut products: Vec<_> = first.alternatives.iter().map(|(_, ln_product)| *ln_product).collect();
        for test in tests {
            for (product, (_, ln_product)) in products.iter_mut().zip(&test.alternatives) {
                *product += ln_product;
            }
        }
        ln_mean(products.iter().copied())
    }

    /// The natural logarithm of the greatest e-value so far; at least 0.
    pub(super) fn peak_ln_e_value(&self) -> f64 {
        self.peak_ln_e_value
    }
}

/// The logarithm of the mean of exp(x).
fn ln_mean(logarithms: impl ExactSizeIterator<Item = f64> + Clone) -> f64 {
    let count = logarithms.len();
    ln_sum(logarithms) - (count as f64).ln()
}

/// ln Σ exp(x), even if exp(x) overflows.
pub(super) fn ln_sum(logarithms: impl Iterator<Item = f64> + Clone) -> f64 {
    let greatest = logarithms.clone().fold(f64::NEG_INFINITY, f64::max);
    if greatest == f64::NEG_INFINITY {
        return greatest;
    }
    greatest + logarithms.map(|logarithm| (logarithm - greatest).exp()).sum::<f64>().ln()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{assert_close, counts};

    fn table(reference: Counts, suspect: Counts) -> Table {
        Table { reference, suspect }
    }

    /// All tables with these sizes and this number of failures. P(x; θ) adds up to 1 over them.
    fn tables(reference: u64, suspect: u64, failures: u64) -> impl Iterator<Item = Table> {
        let possible = failures.saturating_sub(reference)..=failures.min(suspect);
        possible.map(move |x| table(counts(failures - x, reference), counts(x, suspect)))
    }

    fn probability(table: &Table, odds: f64) -> f64 {
        (table.ln_weight(table.suspect.failures, odds.ln()) - table.ln_total_weight(odds.ln())).exp()
    }

    fn all_small_tables() -> impl Iterator<Item = (u64, u64, u64)> {
        (0..=12).flat_map(|reference| {
            (0..=8).flat_map(move |suspect| {
                (0..=reference + suspect).map(move |failures| (reference, suspect, failures))
            })
        })
    }

    #[test]
    fn the_probabilities_follow_the_formula() {
        // 1 of 2 failures among 1 suspect and 3 others: C(1, 1) C(3, 1) θ / (C(1, 0) C(3, 2) + C(1, 1) C(3, 1) θ)
        let seen = table(counts(1, 3), counts(1, 1));
        assert_close(probability(&seen, 1.0), 0.5);
        assert_close(probability(&seen, 3.0), 9.0 / 12.0);
        for (reference, suspect, failures) in all_small_tables() {
            for odds in [0.01, 0.5, 1.0, 2.0, 1000.0] {
                let sum: f64 =
                    tables(reference, suspect, failures).map(|table| probability(&table, odds)).sum();
                assert_close(sum, 1.0);
            }
        }
    }

    /// The expectation of a batch's e-value, over all possible tables.
    fn expectation(
        null: f64,
        alternatives: &[f64],
        truth: f64,
        (reference, suspect, failures): (u64, u64, u64),
    ) -> f64 {
        let e_value = |table| {
            let mut test = OddsTest::new(null, alternatives.iter().copied());
            test.observe(table);
            test.ln_e_value().exp()
        };
        tables(reference, suspect, failures).map(|table| probability(&table, truth) * e_value(table)).sum()
    }

    #[test]
    fn the_expectation_is_at_most_one_under_the_null_hypothesis_and_above_one_under_an_alternative() {
        let smaller = [0.125, 0.5, 1.3];
        for sizes in all_small_tables() {
            for truth in [0.01, 0.3, 0.9, 1.0] {
                assert!(expectation(1.0, &GREATER, truth, sizes) <= 1.0 + 1e-9, "{sizes:?} at {truth}");
            }
            for truth in [2.0, 2.1, 5.0, 1000.0] {
                assert!(expectation(2.0, &smaller, truth, sizes) <= 1.0 + 1e-9, "{sizes:?} at {truth}");
            }
            let (reference, suspect, failures) = sizes;
            if reference > 0 && suspect > 0 && 0 < failures && failures < reference + suspect {
                assert!(expectation(1.0, &GREATER, 30.0, sizes) > 1.0, "{sizes:?}");
                assert!(expectation(2.0, &smaller, 0.5, sizes) > 1.0, "{sizes:?}");
            }
        }
    }

    /// The test of the ratio counts failures that name no release as the suspect's. This must never be evidence
    /// for a smaller ratio, whoever really failed.
    #[test]
    fn a_failure_moved_to_the_suspect_is_never_evidence_for_a_smaller_ratio() {
        let e_value = |table| {
            let mut test = OddsTest::new(2.0, [0.125, 0.25, 0.5, 1.0, 1.3]);
            test.observe(table);
            test.ln_e_value()
        };
        for (reference, suspect, failures) in all_small_tables() {
            for seen in tables(reference, suspect, failures).filter(|seen| seen.reference.failures > 0) {
                let moved =
                    table(seen.reference - Counts::all_failed(1), seen.suspect + Counts::all_failed(1));
                assert!(e_value(moved) <= e_value(seen) + 1e-9, "{seen:?}");
            }
        }
    }

    #[test]
    fn a_total_outage_is_no_evidence() {
        let mut test = OddsTest::new(1.0, GREATER);
        for _ in 0..1000 {
            test.observe(table(counts(27, 27), counts(3, 3)));
            test.observe(table(counts(0, 27), counts(0, 3)));
        }
        assert_close(test.ln_e_value(), 0.0);
    }

    #[test]
    fn the_peak_e_value_never_falls() {
        let mut test = OddsTest::new(1.0, GREATER);
        test.observe(table(counts(0, 6), counts(2, 2)));
        let peak = test.ln_e_value();
        (0..100).for_each(|_| test.observe(table(counts(2, 6), counts(0, 2))));
        assert!(peak > 1.0 && test.ln_e_value() < -1.0);
        assert_close(test.peak_ln_e_value(), peak);
    }

    fn any_counts(most: u64) -> impl Strategy<Value = Counts> {
        (0..=most)
            .prop_flat_map(|requests| (Just(requests), 0..=requests))
            .prop_map(|(requests, failures)| counts(failures, requests))
    }

    proptest! {
        #[test]
        fn large_and_one_sided_tables_give_numbers(
            reference in prop_oneof![any_counts(10), any_counts(1_000_000_000)],
            suspect in prop_oneof![any_counts(10), any_counts(1_000_000_000)],
        ) {
            let mut test = OddsTest::new(1.0, GREATER);
            test.observe(table(reference, suspect));
            prop_assert!(test.ln_e_value().is_finite(), "{:?}", test);
            prop_assert!(test.peak_ln_e_value() >= 0.0);
        }

        /// The sum from the mode outwards leaves out only negligible terms.
        #[test]
        fn the_total_weight_is_the_sum_of_all_weights(
            (reference, suspect, failures) in (0..3000_u64, 1..3000_u64).prop_flat_map(|(n, m)| (Just(n), Just(m), 0..=n + m)),
            ln_odds in -7.0..7.0_f64,
        ) {
            let seen = tables(reference, suspect, failures).next().expect("one");
            let weights: Vec<_> = tables(reference, suspect, failures)
                .map(|table| table.ln_weight(table.suspect.failures, ln_odds))
                .collect();
            let sum = ln_sum(weights.iter().copied());
            prop_assert!((seen.ln_total_weight(ln_odds) - sum).abs() < 1e-6 * sum.abs().max(1.0));
        }
    }
}
