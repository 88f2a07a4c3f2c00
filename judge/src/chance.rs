//! Whether chance alone explains how the failures of all requests divide between the releases.
//!
//! A verdict compares requests of the same time, and leaves some out. So its totals may differ by more than chance, though
//! nothing is decided: by a warm-up, by pods, or by an outage while one release had most of the requests. This test is for
//! the words only. It takes the totals for one batch, or for one of each stratum.

use crate::{
    Counts,
    odds::{GREATER, OddsTest, Table},
};

/// The answers of stable and of the canary, of one stratum or of all.
pub(crate) type Pair = (Counts, Counts);

/// Whether the canary has more of the failures than chance explains: whether the e-value of these totals is at least 1/α.
pub(crate) fn has_more(pairs: &[Pair], alpha: f64) -> bool {
    let tables = pairs.iter().map(|(stable, canary)| Table { reference: *stable, suspect: *canary });
    is_beyond(tables, alpha)
}

/// The same for fewer of the failures.
pub(crate) fn has_fewer(pairs: &[Pair], alpha: f64) -> bool {
    let tables = pairs.iter().map(|(stable, canary)| Table { reference: *canary, suspect: *stable });
    is_beyond(tables, alpha)
}

fn is_beyond(tables: impl Iterator<Item = Table>, alpha: f64) -> bool {
    let mut test = OddsTest::new(1.0, GREATER);
    tables.for_each(|table| test.observe(table));
    test.ln_e_value() >= -alpha.ln()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::counts;

    const ALPHA: f64 = 0.05;

    #[test]
    fn a_small_difference_may_be_chance_and_a_great_one_is_not() {
        for (stable, canary, more) in [
            (counts(0, 221), counts(28, 79), true),
            (counts(0, 2267), counts(145, 733), true),
            (counts(369, 3707), counts(369, 1293), true),
            (counts(0, 221), counts(2, 79), false),
            (counts(30, 300), counts(12, 100), false),
            (counts(0, 0), counts(50, 50), false),
        ] {
            assert_eq!(has_more(&[(stable, canary)], ALPHA), more, "{stable:?}, {canary:?}");
            assert_eq!(has_fewer(&[(canary, stable)], ALPHA), more, "{stable:?}, {canary:?}");
            assert!(!has_fewer(&[(stable, canary)], ALPHA), "{stable:?}, {canary:?}");
        }
    }

    /// Simpson's paradox: all requests together differ, and those of one kind do not.
    #[test]
    fn strata_are_compared_each_by_itself() {
        let pairs = [(counts(150, 300), counts(450, 900)), (counts(9, 900), counts(3, 300))];
        let all = pairs.into_iter().fold(Pair::default(), |all, pair| (all.0 + pair.0, all.1 + pair.1));
        assert!(has_more(&[all], ALPHA) && !has_more(&pairs, ALPHA) && !has_fewer(&pairs, ALPHA));
    }
}
