use libm::lgamma;

use super::Rule;
use crate::{Counts, Outcome, Release, real};

/// Roll back when a significance test at 5 % says that the canary fails more often than its share explains, and look at it
/// each second. The test would be right if one looked once. P. Armitage, C. K. `McPherson` and B. C. Rowe, "Repeated
/// significance tests on accumulating data", Journal of the Royal Statistical Society A 132 (1969), show what becomes of it.
///
/// The test is the exact binomial one: if both are alike, each failure is the canary's with the probability of its share.
#[derive(Clone, Copy, Debug, Default)]
pub struct Peeking {
    stable: Counts,
    canary: Counts,
    /// The next look, in seconds since the beginning.
    next: f64,
}

const BETWEEN_LOOKS: f64 = 1.0;
const SIGNIFICANT: f64 = 0.05;

impl Rule for Peeking {
    fn observe(&mut self, release: Release, failed: bool, seconds: f64) -> bool {
        let looks = seconds >= self.next;
        if looks {
            self.next = (seconds / BETWEEN_LOOKS).floor() * BETWEEN_LOOKS + BETWEEN_LOOKS;
        }
        let says = looks && self.p_value() < SIGNIFICANT;
        let counts = if release == Release::Canary { &mut self.canary } else { &mut self.stable };
        counts.record(if failed { Outcome::Failure } else { Outcome::Success });
        says
    }
}

impl Peeking {
    /// The probability of at least so many failures of the canary among all failures.
    fn p_value(&self) -> f64 {
        let (requests, failures) =
            (self.canary.requests + self.stable.requests, self.canary.failures + self.stable.failures);
        let (share, own) = (real(self.canary.requests) / real(requests), self.canary.failures);
        // not more than expected, or nothing to compare with
        if real(own) <= real(failures) * share || share >= 1.0 {
            return 1.0;
        }
        let (n, k) = (real(failures), real(own));
        let ln_choices = lgamma(n + 1.0) - lgamma(k + 1.0) - lgamma(n - k + 1.0);
        let mut term = (ln_choices + k * share.ln() + (n - k) * (-share).ln_1p()).exp();
        let mut sum = term;
        for more in own..failures {
            term *= real(failures - more) / real(more + 1) * share / (1.0 - share);
            sum += term;
            if term < 1e-12 * sum {
                break;
            }
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, counts};

    #[test]
    fn the_p_value_is_that_of_the_exact_binomial_test() {
        let p_value = |canary, stable| Peeking { canary, stable, next: 0.0 }.p_value();
        // R: binom.test(3, 4, 0.25, "greater")
        assert_close(p_value(counts(3, 100), counts(1, 300)), 0.050_781_25);
        assert_close(p_value(counts(4, 100), counts(0, 300)), 1.0 / 256.0);
        assert_close(p_value(counts(1, 100), counts(3, 300)), 1.0);
        assert_close(p_value(counts(5, 100), counts(0, 0)), 1.0);
    }
}
