//! Kayenta's Mann-Whitney test, as Spinnaker sets it.

use canary_judge::{Batch, Release};

use crate::{
    rule::{Call, Entry, Rule},
    stream::{Ended, count},
};

pub const ENTRY: Entry = Entry {
    name: "Kayenta",
    description: "Kayenta's judge as Spinnaker sets it: the failure rates of each minute are two samples. After 50 minutes (the \
                  fewest points that it recommends), a Mann-Whitney test at 98 % decides: the canary is bad if the interval \
                  of the shift lies above 0.25 times the Hodges-Lehmann estimate of it (\"Canary judge\", spinnaker.io; J. L. \
                  Hodges and E. L. Lehmann, Annals of Mathematical Statistics 34, 1963). It promotes otherwise.",
    begin: |_| Some(Box::new(Kayenta::default())),
};

/// The number of points of each release.
const POINTS: u64 = 50;
/// The quantile of the standard normal distribution for a two-sided confidence of 98 %.
const Z: f64 = 2.326_348;
/// The part of the estimate that the shift must exceed.
const TOLERANCE: f64 = 0.25;

#[derive(Default)]
struct Kayenta {
    minute: Batch,
    stable: Vec<f64>,
    canary: Vec<f64>,
}

impl Rule for Kayenta {
    fn ended(&mut self, request: &Ended) {
        match request.sent.release {
            Release::Stable => count(&mut self.minute.stable, request),
            Release::Canary => count(&mut self.minute.canary, request),
        }
    }

    fn minute(&mut self, minutes: u64) -> Option<Call> {
        let Batch { stable, canary, .. } = std::mem::take(&mut self.minute);
        self.stable.extend(stable.rate());
        self.canary.extend(canary.rate());
        (minutes >= POINTS)
            .then(|| if is_high(&self.stable, &self.canary) { Call::RollBack } else { Call::Promote })
    }
}

/// Whether the canary's values are classified as high.
fn is_high(stable: &[f64], canary: &[f64]) -> bool {
    let Some(lower) = shift(stable, canary, Z) else { return false };
    let estimate = shift(stable, canary, 0.0).unwrap_or(0.0);
    lower > TOLERANCE * estimate.abs()
}

/// The shift of the canary's values at which the standardised statistic of Mann and Whitney falls to `z`: 0 gives the
/// estimate, the quantile gives the lower end of the confidence interval. `None` without values, or if all are equal.
fn shift(stable: &[f64], canary: &[f64], z: f64) -> Option<f64> {
    let least = |values: &[f64]| values.iter().copied().reduce(f64::min);
    let most = |values: &[f64]| values.iter().copied().reduce(f64::max);
    let (mut low, mut high) = (least(canary)? - most(stable)?, most(canary)? - least(stable)?);
    if standardised(stable, canary, low)? <= z {
        return Some(low);
    }
    if standardised(stable, canary, high)? >= z {
        return Some(high);
    }
    while high - low > 1e-9 {
        let middle = f64::midpoint(low, high);
        if standardised(stable, canary, middle)? > z {
            low = middle;
        } else {
            high = middle;
        }
    }
    Some(f64::midpoint(low, high))
}

/// The statistic of Mann and Whitney for the canary's values less `shift`, with ties and the correction for continuity.
fn standardised(stable: &[f64], canary: &[f64], shift: f64) -> Option<f64> {
    let shifted = canary.iter().map(|value| (value - shift, true));
    let mut all: Vec<(f64, bool)> = shifted.chain(stable.iter().map(|value| (*value, false))).collect();
    all.sort_by(|one, other| one.0.total_cmp(&other.0));
    let (m, n) = (canary.len() as f64, stable.len() as f64);
    let (mut ranks, mut ties, mut begin) = (0.0, 0.0, 0);
    for equal in all.chunk_by(|one, other| one.0 == other.0) {
        let size = equal.len() as f64;
        let rank = begin as f64 + (size + 1.0) / 2.0;
        ranks += rank * equal.iter().filter(|(_, is_canary)| *is_canary).count() as f64;
        ties += size.powi(3) - size;
        begin += equal.len();
    }
    let difference = ranks - m * (m + 1.0) / 2.0 - m * n / 2.0;
    let variance = m * n / 12.0 * (m + n + 1.0 - ties / ((m + n) * (m + n - 1.0)));
    let correction = if difference == 0.0 { 0.0 } else { 0.5 * difference.signum() };
    (variance > 0.0).then(|| (difference - correction) / variance.sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As R's `wilcox.test(canary, stable, exact = FALSE)` computes it: W = 23, z = (23 − 12.5 − 0.5) / √(25 × 11 / 12).
    #[test]
    fn the_statistic_is_that_of_the_textbook() {
        let (stable, canary) = ([1.0, 2.0, 3.0, 4.0, 5.0], [4.5, 5.5, 6.0, 7.0, 3.5]);
        let z = standardised(&stable, &canary, 0.0).unwrap();
        let wins =
            canary.iter().flat_map(|c| stable.iter().map(move |s| f64::from(u8::from(c > s)))).sum::<f64>();
        assert!((z - (wins - 12.5 - 0.5) / (25.0_f64 * 11.0 / 12.0).sqrt()).abs() < 1e-12);
    }

    #[test]
    fn a_clear_shift_is_high_and_equal_values_are_not() {
        let stable: Vec<f64> = (0..50).map(|n| 0.01 + 0.0001 * f64::from(n)).collect();
        let canary: Vec<f64> = stable.iter().map(|value| value + 0.05).collect();
        assert!(is_high(&stable, &canary));
        assert!((shift(&stable, &canary, 0.0).unwrap() - 0.05).abs() < 1e-3);
        assert!(!is_high(&stable, &stable) && !is_high(&[0.0; 50], &[0.0; 50]) && !is_high(&[], &[]));
    }
}
