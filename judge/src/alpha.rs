//! How α is divided. Each part is the error probability of one way to a decision, so all ways together err with a
//! probability of at most α.

/// The part for the promotion by the limit.
pub(crate) const LIMIT: f64 = 0.9;
/// The part for the promotion by the ratio.
pub(crate) const RATIO: f64 = 0.1;

/// The part of the roll-back for failures, if latency decides, too. Without that, failures have all of α.
///
/// The evidence of a canary that fails more grows slowly, because failures are rare, so failures keep most of α: this part
/// costs ln(1/0.8) = 0.2 of the 3.0 that α = 5 % takes. Every answer says something about the latency, so the other part
/// costs few of them. The e-values cannot be averaged instead: they have batches of different lengths, so given what the
/// shorter ones have shown, the table of a longer one is no longer hypergeometric.
pub(crate) const FAILURES: f64 = 0.8;
/// The part for the latency then.
pub(crate) const LATENCY: f64 = 1.0 - FAILURES;

/// Counters that are scraped are compared in batches of four lengths. These are the parts for them, shortest first: of
/// α for the roll-back, and of [`RATIO`] for the promotion. The longest has most of the power for small differences.
pub(crate) const LENGTHS: [f64; 4] = [0.2, 0.2, 0.2, 0.4];

/// If requests are divided into strata, this part of the evidence is that of all strata together. The rest is for each of
/// them alone.
pub(crate) const COMMON: f64 = 0.65;

/// The pods of a release share α, and so do strata. This part is for those that are known at the first failure, in equal
/// parts.
const FIRST: f64 = 0.8;

/// The part for pod or stratum `index`, from 0, if `first` were known at the first failure. The j-th later one gets
/// 1/(j (j + 1)) of the rest.
pub(crate) fn of_each(index: usize, first: usize) -> f64 {
    match index.checked_sub(first) {
        None => FIRST / first as f64,
        Some(later) => (1.0 - FIRST) / ((later + 1) as f64 * (later + 2) as f64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::assert_close;

    #[test]
    fn the_parts_add_up_to_one() {
        assert_close(LIMIT + RATIO, 1.0);
        assert_close(LENGTHS.iter().sum(), 1.0);
        for first in [1, 4, 50] {
            let parts: f64 = (0..1_000_000).map(|index| of_each(index, first)).sum();
            assert!((0.999..=1.0 + 1e-9).contains(&parts), "{parts}");
        }
    }
}
