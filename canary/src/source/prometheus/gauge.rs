//! Whether the values of a metric behave like those of a gauge. It matters where no metadata tell the type.

use std::collections::HashMap;

use super::samples::RawSeries;

/// The number of falls that no reset explains, after which a metric is taken for a gauge.
const ENOUGH: u64 = 8;

/// How the values of one metric changed. A counter falls only when it is reset, to what it has counted since. So most
/// of its changes are rises, and it falls to a small part of its value. Even where each pod restarts every few
/// scrapes, it does not fall in a quarter of all changes to more than half of its value.
#[derive(Clone, Debug, Default)]
pub(super) struct Changes {
    /// The last sample of each series that was seen in the last round.
    last: HashMap<String, (f64, f64)>,
    all: u64,
    falls: u64,
    /// Falls to more than half of the value.
    small_falls: u64,
}

impl Changes {
    /// Adds the samples of a round. `name` identifies a series. Samples that are already known are ignored.
    pub(super) fn see<'a>(&mut self, found: impl Iterator<Item = (String, &'a RawSeries)>) {
        let mut seen = HashMap::new();
        for (name, series) in found {
            let mut last = self.last.get(&name).copied();
            for &(at, value) in &series.samples {
                match last {
                    Some((known, _)) if at <= known => continue,
                    Some((_, before)) => self.change(before, value),
                    None => {}
                }
                last = Some((at, value));
            }
            seen.extend(last.map(|last| (name, last)));
        }
        self.last = seen;
    }

    #[expect(clippy::float_cmp, reason = "a change, however small")]
    fn change(&mut self, before: f64, value: f64) {
        self.all += u64::from(value != before);
        self.falls += u64::from(value < before);
        self.small_falls += u64::from(value < before && value > before / 2.0);
    }

    /// Whether the changes so far are those of a gauge.
    pub(super) fn are_of_a_gauge(&self) -> bool {
        self.small_falls >= ENOUGH && self.falls * 4 >= self.all && self.small_falls * 4 >= self.falls
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use fastrand::Rng;

    use super::*;

    /// The changes of series with these values, a sample every 15 seconds, seen in rounds of eight samples that
    /// overlap.
    fn changes(series: &[Vec<f64>]) -> Changes {
        let mut changes = Changes::default();
        let most = series.iter().map(Vec::len).max().unwrap_or_default();
        for end in 1..=most {
            let raw: Vec<_> = series
                .iter()
                .map(|values| {
                    let sample =
                        |at: usize| (15.0 * f64::from(u32::try_from(at).expect("small")), values[at]);
                    let samples = (end.saturating_sub(8)..end.min(values.len())).map(sample).collect();
                    RawSeries { labels: BTreeMap::new(), samples }
                })
                .collect();
            changes.see(raw.iter().enumerate().map(|(number, series)| (number.to_string(), series)));
        }
        changes
    }

    /// A counter that gets up to `most` requests between scrapes, and restarts before a scrape with this probability.
    fn counter(random: &mut Rng, scrapes: usize, most: f64, restarts: f64) -> Vec<f64> {
        let mut value = 1000.0;
        (0..scrapes)
            .map(|_| {
                let requests = (random.f64() * most).round();
                value = if random.f64() < restarts {
                    (random.f64() * requests).round()
                } else {
                    value + requests
                };
                value
            })
            .collect()
    }

    #[test]
    fn each_sample_counts_once() {
        let Changes { all, falls, small_falls, .. } = changes(&[vec![1.0, 2.0, 2.0, 5.0, 4.0, 1.0, 1.5]]);
        assert_eq!((all, falls, small_falls), (5, 2, 1));
    }

    #[test]
    fn a_counter_is_no_gauge_however_its_pods_restart() {
        for (restarts, most) in [(0.0, 3.0), (0.02, 300.0), (0.1, 3.0), (0.1, 300.0), (0.2, 1e6)] {
            for seed in 0..200 {
                let mut random = Rng::with_seed(seed);
                let pods: Vec<_> = (0..4).map(|_| counter(&mut random, 240, most, restarts)).collect();
                assert!(!changes(&pods).are_of_a_gauge(), "{restarts} {most} {seed}");
            }
        }
        // a canary that restarts before each second scrape, beside stable pods that do not
        for seed in 0..200 {
            let mut random = Rng::with_seed(seed);
            let mut pods: Vec<_> = (0..3).map(|_| counter(&mut random, 240, 300.0, 0.0)).collect();
            pods.push(counter(&mut random, 240, 300.0, 0.5));
            assert!(!changes(&pods).are_of_a_gauge(), "{seed}");
        }
    }

    #[test]
    fn values_that_fall_often_are_those_of_a_gauge() {
        let mut random = Rng::with_seed(1);
        let noise: Vec<_> = (0..60).map(|_| 1000.0 + (random.f64() * 100.0).round()).collect();
        let queue: Vec<_> = (0..120).map(|_| (random.f64() * 9.0).round()).collect();
        let wave: Vec<_> = (0..120).map(|at| 50.0 + 40.0 * (f64::from(at) / 5.0).sin()).collect();
        for gauge in [noise, queue, wave] {
            assert!(changes(&[gauge]).are_of_a_gauge());
        }
        // two pods that are scraped in turn through one address
        let balanced: Vec<_> =
            (0..60).map(|at| if at % 2 == 0 { 1000.0 } else { 700.0 } + f64::from(at)).collect();
        assert!(changes(&[balanced]).are_of_a_gauge());
    }
}
