//! The latencies of answers.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

/// A histogram of latencies in microseconds, each kept to three significant digits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Latencies {
    by_microseconds: BTreeMap<u64, u64>,
    count: u64,
}

impl Latencies {
    fn add(&mut self, latency: Duration) {
        let microseconds = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        let unit = 10_u64.pow(microseconds.checked_ilog10().unwrap_or(0).saturating_sub(2));
        *self.by_microseconds.entry(microseconds / unit * unit).or_default() += 1;
        self.count += 1;
    }

    /// The percentile by nearest rank: the smallest latency that `percent` % of all latencies do not exceed.
    /// `None` if there are no latencies.
    pub fn percentile(&self, percent: u64) -> Option<Duration> {
        let rank = (self.count * percent).div_ceil(100).max(1);
        let mut at_most = 0;
        self.by_microseconds.iter().find_map(|(microseconds, count)| {
            at_most += count;
            (at_most >= rank).then(|| Duration::from_micros(*microseconds))
        })
    }
}

impl Extend<Duration> for Latencies {
    fn extend<T: IntoIterator<Item = Duration>>(&mut self, more: T) {
        more.into_iter().for_each(|latency| self.add(latency));
    }
}

impl FromIterator<Duration> for Latencies {
    fn from_iter<T: IntoIterator<Item = Duration>>(all: T) -> Self {
        let mut new = Self::default();
        new.extend(all);
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_use_the_nearest_rank() {
        let hundred: Latencies = (1..=100).rev().map(Duration::from_millis).collect();
        assert_eq!(hundred.percentile(50), Some(Duration::from_millis(50)));
        assert_eq!(hundred.percentile(99), Some(Duration::from_millis(99)));
        assert_eq!(hundred.percentile(100), Some(Duration::from_millis(100)));
        let one: Latencies = [Duration::from_micros(7)].into_iter().collect();
        assert_eq!(
            (one.percentile(1), one.percentile(99)),
            (one.percentile(50), Some(Duration::from_micros(7)))
        );
        assert_eq!(Latencies::default().percentile(50), None);
    }

    #[test]
    fn each_latency_keeps_three_significant_digits() {
        for (microseconds, kept) in [(0, 0), (9, 9), (999, 999), (1234, 1230), (98_765_432, 98_700_000)] {
            let one: Latencies = [Duration::from_micros(microseconds)].into_iter().collect();
            assert_eq!(one.percentile(50), Some(Duration::from_micros(kept)));
        }
    }
}
