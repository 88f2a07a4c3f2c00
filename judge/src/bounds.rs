//! Confidence intervals for a failure rate: [`ConfidenceSequence`], valid however often you look.

use libm::lgamma;
use serde::Serialize;

use crate::{Counts, odds::ln_sum, real};

/// An interval that contains a failure rate.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Interval {
    /// The lower bound, at least 0.
    pub lower: f64,
    /// The upper bound, at most 1.
    pub upper: f64,
}

/// A confidence sequence for one failure rate: one interval after each answer. With probability at least 1 − α,
/// all of these intervals contain the true rate.
///
/// Robbins' mixture ("Statistical methods related to the law of the iterated logarithm", Annals of
/// Mathematical Statistics 41, 1970; with a Beta mixture, the beta-binomial confidence sequence). After k
/// failures in n answers the interval is
///
/// ```text
/// { p : B(a + k, b + n − k) / B(a, b) / (p^k (1 − p)^(n − k)) < 1/α },
/// ```
///
/// where B is the beta function, and the mixture is Beta(a, b). At the true p, the ratio is the likelihood of the answers
/// under a mixture of rates, divided by their likelihood under the true rate. It is a martingale that starts at 1, so
/// Ville's inequality applies.
///
/// The same is true for the mean of several such mixtures. The choice of the mixture decides for which rates the interval
/// becomes narrow soon. Here it is the mean of Beta(½, 20), which has most of its mass on rates of a few per cent and
/// below, and of Beta(½, ½), which has much on high rates.
#[derive(Clone, Copy, Debug)]
pub struct ConfidenceSequence {
    ln_threshold: f64,
}

/// a and b of the mixtures. Each has the same weight.
const MIXTURES: [(f64, f64); 2] = [(0.5, 20.0), (0.5, 0.5)];

impl ConfidenceSequence {
    /// The confidence sequence with error probability `alpha`: with probability at most `alpha`, any of its
    /// intervals misses the true rate. `alpha` lies strictly between 0 and 1.
    pub fn new(alpha: f64) -> Self {
        Self { ln_threshold: -alpha.ln() }
    }

    /// The interval after these answers.
    pub fn interval(self, counts: Counts) -> Interval {
        let Some(estimate) = counts.rate() else { return Interval { lower: 0.0, upper: 1.0 } };
        let ln_mixture = ln_mixture(counts);
        // The ratio is smallest at the estimate and rises towards both ends.
        let boundary = |mut outside: f64| {
            let mut inside = estimate;
            for _ in 0..f64::MANTISSA_DIGITS {
                let middle = f64::midpoint(inside, outside);
                if ln_mixture - ln_likelihood(counts, middle) < self.ln_threshold {
                    inside = middle;
                } else {
                    outside = middle;
                }
            }
            outside
        };
        Interval {
            lower: if counts.failures == 0 { 0.0 } else { boundary(0.0) },
            upper: if counts.successes() == 0 { 1.0 } else { boundary(1.0) },
        }
    }
}

/// The logarithm of the probability of the answers, in their order, under the mixture.
fn ln_mixture(counts: Counts) -> f64 {
    let of =
        |(a, b): (f64, f64)| ln_beta(a + real(counts.failures), b + real(counts.successes())) - ln_beta(a, b);
    ln_sum(MIXTURES.into_iter().map(of)) - real(MIXTURES.len() as u64).ln()
}

fn ln_beta(a: f64, b: f64) -> f64 {
    lgamma(a) + lgamma(b) - lgamma(a + b)
}

/// The logarithm of the probability of the answers, in their order, at the failure rate `rate`.
fn ln_likelihood(counts: Counts, rate: f64) -> f64 {
    let of = |count: u64, ln_probability: f64| if count == 0 { 0.0 } else { real(count) * ln_probability };
    of(counts.failures, rate.ln()) + of(counts.successes(), (-rate).ln_1p())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Outcome;
    use crate::testing::{assert_close, counts};

    #[test]
    fn an_interval_follows_the_formula() {
        let sequence = ConfidenceSequence::new(0.05);
        assert_eq!(sequence.interval(counts(0, 0)), Interval { lower: 0.0, upper: 1.0 });

        // One failure: the mean of ½/20½ and ½, divided by p, is below 20.
        let Interval { lower, upper } = sequence.interval(counts(1, 1));
        assert_close(lower, f64::midpoint(0.5 / 20.5, 0.5) / 20.0);
        assert_close(upper, 1.0);

        // One success: the mean of 20/20½ and ½, divided by 1 − p, is below 20.
        let Interval { lower, upper } = sequence.interval(counts(0, 1));
        assert_close(lower, 0.0);
        assert_close(upper, 1.0 - f64::midpoint(20.0 / 20.5, 0.5) / 20.0);

        // A failure and a success: the mean of (½ × 20)/(20½ × 21½) and (½ × ½)/(1 × 2), divided by p (1 − p), is below
        // 20, a quadratic equation.
        let Interval { lower, upper } = sequence.interval(counts(1, 2));
        let product = f64::midpoint(0.5 * 20.0 / (20.5 * 21.5), 0.125) / 20.0;
        let root = (0.25 - product).sqrt();
        assert_close(lower, 0.5 - root);
        assert_close(upper, 0.5 + root);
    }

    #[test]
    fn the_mixture_is_the_mean_of_the_products_of_its_predictions() {
        let mut seen = counts(0, 0);
        let mut ln_products = [0.0; 2];
        for i in 0..100_000 {
            let failed = i % 7 == 0;
            for (ln_product, (a, b)) in ln_products.iter_mut().zip(MIXTURES) {
                let probability = (a + real(seen.failures)) / (a + b + real(seen.requests));
                *ln_product += if failed { probability.ln() } else { (1.0 - probability).ln() };
            }
            seen.record(if failed { Outcome::Failure } else { Outcome::Success });
        }
        assert_close(ln_mixture(seen), ln_sum(ln_products.into_iter()) - 2_f64.ln());
    }

    #[test]
    fn six_failures_of_six_exclude_a_rate_of_40_per_cent() {
        let Interval { lower, upper } = ConfidenceSequence::new(0.05).interval(counts(6, 6));
        assert!(lower > 0.4 && upper > 1.0 - 1e-9, "{lower}");
    }
}
