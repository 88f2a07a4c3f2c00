//! Increases of counters: from the samples of each series, summed by interval.
//!
//! Scrapes of different pods happen at different moments. So an interval ends when every live series has a
//! newer sample than at the end of the last interval. It follows the scrapes, however often Prometheus is
//! queried.

use std::collections::{BTreeMap, HashMap, HashSet};

use canary_judge::{Counts, Release};

/// A time in seconds since 1970, and the counter's value at that time.
pub(super) type Sample = (f64, f64);

/// The quantity that a series counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Quantity {
    /// Requests.
    Requests,
    /// Failed requests.
    Failures,
    /// Requests in the histogram.
    Timed,
    /// Requests in the histogram that were answered in time.
    InTime,
}

/// The release and the quantity of a series.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Kind {
    pub(super) release: Release,
    pub(super) quantity: Quantity,
}

/// A series in the answer to a query.
#[derive(Clone, Debug)]
pub(super) struct Series {
    pub(super) kind: Kind,
    /// The scraped target: the labels `job` and `instance`. `None` if the series has no such labels, as with
    /// recording rules.
    pub(super) target: Option<String>,
    /// The hash of the pod template; empty if no label has it.
    pub(super) version: String,
    /// All labels, which identify the series.
    pub(super) labels: String,
    /// Its samples, oldest first.
    pub(super) samples: Vec<Sample>,
}

/// The increases of one interval.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Closed {
    /// The time of the oldest sample that an increase starts from, in seconds since 1970.
    pub(super) since: f64,
    /// The time of the newest sample.
    pub(super) until: f64,
    pub(super) stable: Counts,
    /// The canary's increases by version.
    pub(super) canary: BTreeMap<String, Counts>,
}

/// A series without a scrape for this many of its intervals is gone: its pod has ended.
const GONE_AFTER: f64 = 2.5;
/// How long the last value of a series is kept after its target is gone, in seconds. If the target comes back,
/// the increase in between counts once.
const REMEMBERED_FOR: f64 = 3600.0;
/// The maximum plausible scrape interval, in seconds.
const LONGEST_INTERVAL: f64 = 300.0;

/// The state of all series.
#[derive(Clone, Debug, Default)]
pub(super) struct Counters {
    series: HashMap<(Kind, String), Known>,
}

#[derive(Clone, Debug)]
struct Known {
    target: Option<String>,
    version: String,
    /// The time of its first sample.
    first: f64,
    last: Sample,
    /// The time between its last two samples, once there are two.
    interval: Option<f64>,
    /// The time of the sample that the increase starts from.
    from: f64,
    /// The increase since the last interval.
    increase: f64,
    /// Whether it has a newer sample than at the end of the last interval.
    is_newer: bool,
}

impl Counters {
    /// Adds the answers of one round of queries. Samples that are already known are ignored.
    pub(super) fn observe(&mut self, found: &[Series]) {
        if self.series.is_empty() {
            for series in found {
                self.begin(series);
            }
            return;
        }
        let born: Vec<_> = found.iter().map(|series| self.is_born(series, found)).collect();
        for (series, born) in found.iter().zip(born) {
            let Some(&first) = series.samples.first() else { continue };
            let known = self.series.entry((series.kind, series.labels.clone()));
            let known = known.or_insert_with(|| Known::new(series, first, born));
            series.samples.iter().for_each(|sample| known.take(*sample));
        }
        self.forget();
    }

    /// Increases before the first round do not count: its newest samples are the baseline.
    fn begin(&mut self, series: &Series) {
        let [.., last] = series.samples[..] else { return };
        let mut known = Known::new(series, last, false);
        if let [.., before, last] = series.samples[..] {
            known.interval = Some(interval(before, last));
        }
        self.series.insert((series.kind, series.labels.clone()), known);
    }

    /// Whether a new series has started at 0 between two scrapes of a live target. A counter of a status starts
    /// this way when the status first occurs. Other series of the target must go on: otherwise its labels have
    /// changed.
    fn is_born(&self, series: &Series, found: &[Series]) -> bool {
        let Some(&(first, _)) = series.samples.first() else { return false };
        let is_new = !self.series.contains_key(&(series.kind, series.labels.clone()));
        is_new
            && series.target.is_some()
            && found.iter().any(|other| {
                let known = || self.series.get(&(other.kind, other.labels.clone())).map(|known| known.first);
                let began = || known().or_else(|| other.samples.first().map(|first| first.0));
                other.target == series.target
                    && began().is_some_and(|began| began < first)
                    && other.samples.iter().any(|sample| (sample.0 - first).abs() < SAME_SCRAPE)
            })
    }

    fn forget(&mut self) {
        let newest = self.newest();
        let is_recent = |known: &Known| newest - known.last.0 <= REMEMBERED_FOR;
        let recent = self.series.values().filter(|known| is_recent(known));
        let targets: HashSet<_> = recent.filter_map(|known| known.target.clone()).collect();
        let goes_on = |target: &Option<String>| target.as_ref().is_some_and(|it| targets.contains(it));
        self.series.retain(|_, known| is_recent(known) || goes_on(&known.target));
    }

    fn newest(&self) -> f64 {
        self.series.values().map(|known| known.last.0).fold(f64::NEG_INFINITY, f64::max)
    }

    /// The increases since the last interval, if every live series has a newer sample.
    pub(super) fn close(&mut self) -> Option<Closed> {
        let newest = self.newest();
        let usual = self.series.values().filter_map(|known| known.interval).fold(0.0, f64::max);
        let usual = if usual > 0.0 { usual } else { LONGEST_INTERVAL };
        let is_alive = |known: &Known| newest - known.last.0 <= GONE_AFTER * known.interval.unwrap_or(usual);
        let is_ready = self.series.values().filter(|known| is_alive(known)).all(|known| known.is_newer);
        (is_ready && self.series.values().any(|known| known.is_newer)).then(|| self.take_increases(newest))
    }

    fn take_increases(&mut self, until: f64) -> Closed {
        let mut since = until;
        let mut sides: HashMap<Release, BTreeMap<String, Sums>> = HashMap::new();
        for ((Kind { release, quantity }, _), known) in &mut self.series {
            if known.is_newer {
                since = since.min(known.from);
            }
            let versions = sides.entry(*release).or_default();
            *versions.entry(known.version.clone()).or_default().of(*quantity) += known.increase;
            known.close();
        }
        let mut counts = |release| {
            let versions = sides.remove(&release).unwrap_or_default().into_iter();
            versions.map(|(version, sums)| (version, sums.counts()))
        };
        let stable = counts(Release::Stable).map(|(_, counts)| counts).sum();
        let canary = counts(Release::Canary).filter(|(_, counts)| counts.requests > 0).collect();
        Closed { since, until, stable, canary }
    }
}

/// Samples of one scrape have the same time, in milliseconds.
const SAME_SCRAPE: f64 = 0.0005;

/// Increases of one version's series, by quantity.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    requests: f64,
    failures: f64,
    timed: f64,
    in_time: f64,
}

impl Sums {
    fn of(&mut self, quantity: Quantity) -> &mut f64 {
        match quantity {
            Quantity::Requests => &mut self.requests,
            Quantity::Failures => &mut self.failures,
            Quantity::Timed => &mut self.timed,
            Quantity::InTime => &mut self.in_time,
        }
    }

    fn counts(self) -> Counts {
        let requests = count(self.requests);
        let failures = count(self.failures).min(requests);
        let slow = count(self.timed).saturating_sub(count(self.in_time));
        // separate counters do not tell how many requests were both failed and slow
        let either = requests.min(failures + slow);
        Counts { requests, failures: either, slow: either - failures }
    }
}

impl Known {
    /// A new series. Its value counts from 0 if it was `born` between two scrapes. Otherwise its first value is
    /// the baseline.
    fn new(series: &Series, first: Sample, born: bool) -> Self {
        Self {
            target: series.target.clone(),
            version: series.version.clone(),
            first: first.0,
            last: first,
            interval: None,
            from: first.0,
            increase: if born { first.1 } else { 0.0 },
            is_newer: born,
        }
    }

    fn take(&mut self, sample: Sample) {
        let ((_, before), (at, value)) = (self.last, sample);
        if at <= self.last.0 {
            return;
        }
        // a counter that is smaller than before was reset to 0 in between
        self.increase += if value < before { value } else { value - before };
        self.interval = Some(interval(self.last, sample));
        self.last = sample;
        self.is_newer = true;
    }

    fn close(&mut self) {
        self.from = self.last.0;
        self.increase = 0.0;
        self.is_newer = false;
    }
}

fn interval(before: Sample, after: Sample) -> f64 {
    (after.0 - before.0).min(LONGEST_INTERVAL)
}

/// Counters are whole numbers, but Prometheus has floating-point numbers.
fn count(value: f64) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an increase is not negative"
    )]
    let count = value.round() as u64;
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    const STABLE: Kind = Kind { release: Release::Stable, quantity: Quantity::Requests };
    const CANARY: Kind = Kind { release: Release::Canary, quantity: Quantity::Requests };
    const STABLE_FAILURES: Kind = Kind { release: Release::Stable, quantity: Quantity::Failures };
    const STABLE_TIMED: Kind = Kind { release: Release::Stable, quantity: Quantity::Timed };
    const STABLE_IN_TIME: Kind = Kind { release: Release::Stable, quantity: Quantity::InTime };

    fn series(kind: Kind, target: &str, samples: &[Sample]) -> Series {
        let labels = format!("{target} {:?}", kind.quantity);
        let target = Some(target.to_owned());
        Series { kind, target, version: String::new(), labels, samples: samples.to_vec() }
    }

    /// Counters that have seen a stable and a canary pod once, at their own moments.
    fn begun() -> Counters {
        let mut counters = Counters::default();
        counters.observe(&[
            series(STABLE, "one", &[(80.0, 90.0), (100.0, 100.0)]),
            series(CANARY, "two", &[(107.0, 50.0)]),
        ]);
        assert_eq!(counters.close(), None, "the first look is where it begins");
        counters
    }

    fn requests(closed: Option<Closed>) -> Option<(u64, u64)> {
        closed.map(|closed| {
            let canary: Counts = closed.canary.into_values().sum();
            (closed.stable.requests, canary.requests)
        })
    }

    #[test]
    fn a_batch_closes_when_every_series_has_a_newer_sample() {
        let mut counters = begun();
        counters
            .observe(&[series(STABLE, "one", &[(115.0, 130.0)]), series(CANARY, "two", &[(107.0, 50.0)])]);
        assert_eq!(counters.close(), None, "the canary was not scraped again");
        counters
            .observe(&[series(STABLE, "one", &[(115.0, 130.0)]), series(CANARY, "two", &[(122.0, 60.0)])]);
        assert_eq!(requests(counters.close()), Some((30, 10)));
        assert_eq!(counters.close(), None, "and nothing counts twice");
        counters
            .observe(&[series(STABLE, "one", &[(115.0, 130.0)]), series(CANARY, "two", &[(122.0, 60.0)])]);
        assert_eq!(counters.close(), None);
    }

    #[test]
    fn several_samples_between_two_looks_count_once_each() {
        let mut counters = begun();
        counters.observe(&[
            series(STABLE, "one", &[(100.0, 100.0), (115.0, 130.0), (130.0, 131.0)]),
            series(CANARY, "two", &[(107.0, 50.0), (122.0, 55.0)]),
        ]);
        counters.observe(&[series(STABLE, "one", &[(115.0, 130.0), (130.0, 131.0)])]);
        assert_eq!(requests(counters.close()), Some((31, 5)));
    }

    #[test]
    fn a_reset_counts_from_zero() {
        let mut counters = begun();
        counters.observe(&[
            series(STABLE, "one", &[(115.0, 7.0), (130.0, 9.0)]),
            series(CANARY, "two", &[(122.0, 50.0)]),
        ]);
        assert_eq!(requests(counters.close()), Some((9, 0)));
    }

    #[test]
    fn a_new_pod_counts_from_its_first_sample_and_a_new_series_of_an_old_pod_from_zero() {
        let mut counters = begun();
        counters.observe(&[
            series(STABLE, "one", &[(115.0, 130.0)]),
            series(STABLE_FAILURES, "one", &[(115.0, 3.0)]),
            series(STABLE, "new", &[(116.0, 1000.0)]),
            series(CANARY, "two", &[(122.0, 60.0)]),
        ]);
        counters.observe(&[series(STABLE, "new", &[(116.0, 1000.0), (131.0, 1004.0)])]);
        let closed = counters.close().expect("all are newer");
        assert_eq!((closed.stable.requests, closed.stable.failures), (34, 3));
        assert_eq!(requests(Some(closed)), Some((34, 10)));
    }

    #[test]
    fn a_series_that_is_gone_holds_nothing_up_and_counts_once_if_it_comes_back() {
        let mut counters = begun();
        for round in 1..=4 {
            let at = 100.0 + 15.0 * f64::from(round);
            let value = 100.0 + f64::from(round);
            let mut found = vec![series(STABLE, "one", &[(at, value)])];
            if round == 1 {
                found.push(series(CANARY, "two", &[(122.0, 60.0)]));
            }
            counters.observe(&found);
            counters.close();
        }
        counters.observe(&[series(STABLE, "one", &[(175.0, 110.0)])]);
        assert_eq!(requests(counters.close()), Some((6, 0)));
        counters
            .observe(&[series(STABLE, "one", &[(190.0, 111.0)]), series(CANARY, "two", &[(188.0, 90.0)])]);
        assert_eq!(requests(counters.close()), Some((1, 30)));
    }

    #[test]
    fn failed_or_slow_is_at_most_all() {
        let mut counters = Counters::default();
        let look = |at: f64, all: f64, failed: f64, in_time: f64| {
            [
                series(STABLE, "one", &[(at, all)]),
                series(STABLE_FAILURES, "one", &[(at, failed)]),
                series(STABLE_TIMED, "one", &[(at, all)]),
                series(STABLE_IN_TIME, "one", &[(at, in_time)]),
            ]
        };
        counters.observe(&look(0.0, 0.0, 0.0, 0.0));
        counters.observe(&look(15.0, 100.0, 10.0, 70.0));
        let stable = counters.close().expect("newer").stable;
        assert_eq!(stable, Counts { requests: 100, failures: 40, slow: 30 });
        counters.observe(&look(30.0, 200.0, 100.0, 100.0));
        let stable = counters.close().expect("newer").stable;
        assert_eq!(stable, Counts { requests: 100, failures: 100, slow: 10 });
    }

    #[test]
    fn a_pod_whose_labels_change_counts_from_its_first_sample_on_the_other_side() {
        let mut counters = begun();
        counters.observe(&[
            series(STABLE, "one", &[(115.0, 130.0)]),
            Series {
                labels: "was stable".to_owned(),
                ..series(CANARY, "one", &[(130.0, 140.0), (145.0, 141.0)])
            },
            series(CANARY, "two", &[(122.0, 60.0)]),
        ]);
        assert_eq!(requests(counters.close()), Some((30, 11)), "not 140 more");
    }

    #[test]
    fn a_series_without_a_target_counts_from_its_first_sample() {
        let mut counters = Counters::default();
        let of_rule = |kind, samples: &[Sample]| Series { target: None, ..series(kind, "rule", samples) };
        counters.observe(&[of_rule(STABLE, &[(100.0, 5.0)])]);
        counters
            .observe(&[of_rule(STABLE, &[(100.0, 5.0), (115.0, 7.0)]), of_rule(CANARY, &[(115.0, 400.0)])]);
        counters.observe(&[of_rule(STABLE, &[(130.0, 9.0)]), of_rule(CANARY, &[(130.0, 403.0)])]);
        assert_eq!(requests(counters.close()), Some((4, 3)));
    }

    #[test]
    fn what_was_counted_is_told_with_its_time_and_by_version() {
        let mut counters = begun();
        let new =
            Series { version: "b".to_owned(), ..series(CANARY, "three", &[(111.0, 1.0), (126.0, 8.0)]) };
        counters.observe(&[
            series(STABLE, "one", &[(115.0, 130.0)]),
            series(CANARY, "two", &[(122.0, 60.0)]),
            new,
        ]);
        let closed = counters.close().expect("all are newer");
        assert_eq!((closed.since, closed.until), (100.0, 126.0));
        let canary: Vec<_> =
            closed.canary.iter().map(|(version, it)| (version.as_str(), it.requests)).collect();
        assert_eq!(canary, [("", 10), ("b", 7)]);
    }
}
