//! Increases of counters: from the samples of each series, summed by pod.
//!
//! Scrapes of different pods happen at different moments. So each target has windows of its own: one ends when every
//! live series of the target has a newer sample than at the end of the last one. It follows the scrapes, however often
//! Prometheus is queried. The judge compares windows of different pods.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use canary_judge::{Counts, Histogram, Release, Window};

/// A time in seconds since 1970, and the counter's value at that time.
pub(super) type Sample = (f64, f64);

/// The quantity that a series counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Quantity {
    /// Requests.
    Requests,
    /// Failed requests.
    Failures,
    /// Requests in the histogram.
    Timed,
    /// Requests in the histogram that were answered in time.
    InTime,
    /// Answers in the histogram of latencies that took at most so long.
    Within(Bound),
}

/// The bound of a bucket in seconds, by its bits: those of positive numbers are in the same order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Bound(u64);

impl Bound {
    /// The bound of all answers.
    pub(super) const INFINITE: Self = Self(f64::INFINITY.to_bits());

    /// `None` for a number that is no bound of latencies.
    pub(super) fn new(seconds: f64) -> Option<Self> {
        (seconds > 0.0).then(|| Self(seconds.to_bits()))
    }

    fn seconds(self) -> f64 {
        f64::from_bits(self.0)
    }
}

/// The release and the quantity of a series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    /// The kind of its requests; `None` if requests are not divided.
    pub(super) stratum: Option<Arc<str>>,
    /// All labels, which identify the series.
    pub(super) labels: String,
    /// Its samples, oldest first.
    pub(super) samples: Vec<Sample>,
}

/// The increase of a pod's counters from one scrape to the next, and the hash of its template.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Closed {
    pub(super) window: Window,
    /// Empty if no label has it.
    pub(super) version: String,
}

/// A series without a scrape for this many of its intervals is gone: its pod has ended.
const GONE_AFTER: f64 = 2.5;
/// How long the last value of a series is kept after its target is gone, in seconds. If the target comes back,
/// the increase in between counts once.
const REMEMBERED_FOR: f64 = 3600.0;
/// The maximum plausible scrape interval, in seconds.
const LONGEST_INTERVAL: f64 = 300.0;

/// The state of all series, by what is scraped at one moment.
#[derive(Clone, Debug, Default)]
pub(super) struct Counters {
    targets: BTreeMap<Target, Scraped>,
    /// The number of rounds so far.
    rounds: u64,
}

/// The maximum memory for the state of series, in bytes. Above it, series that are no longer in the answers are
/// forgotten.
const MOST_KEPT: usize = 8 << 20;
/// What a series takes beside the text of its labels.
const PER_SERIES: usize = 200;

/// The series of one release and version that are scraped together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Target {
    release: Release,
    version: String,
    /// Empty for series that do not tell their target, as with recording rules: these are evaluated together.
    name: String,
}

impl Target {
    fn of(series: &Series) -> Self {
        let (release, version) = (series.kind.release, series.version.clone());
        Self { release, version, name: series.target.clone().unwrap_or_default() }
    }
}

/// The state of a target's series.
#[derive(Clone, Debug)]
struct Scraped {
    name: Arc<str>,
    series: BTreeMap<(Quantity, String), SeriesState>,
    /// The end of the last window, in seconds since 1970.
    until: f64,
}

#[derive(Clone, Debug)]
struct SeriesState {
    stratum: Option<Arc<str>>,
    /// The time of its first sample.
    first: f64,
    last: Sample,
    /// The time between its last two samples, once there are two.
    interval: Option<f64>,
    /// The increase since the last window.
    increase: f64,
    /// Whether it was smaller than before since the last window.
    was_reset: bool,
    /// Whether it has a newer sample than at the end of the last window.
    is_newer: bool,
    /// The number of the last round that had it.
    round: u64,
}

impl Counters {
    /// Adds the answers of one round of queries. Samples that are already known are ignored. Returns the windows that
    /// are complete, those of each target in the order of time.
    pub(super) fn observe(&mut self, found: &[Series]) -> Vec<Closed> {
        let is_first = self.targets.is_empty();
        self.rounds += 1;
        let live = if is_first { HashMap::new() } else { self.live(found) };
        let born: Vec<_> = found.iter().map(|series| self.is_born(series, &live)).collect();
        let mut by_target: BTreeMap<Target, Vec<(&Series, bool)>> = BTreeMap::new();
        for (series, born) in found.iter().zip(born) {
            if !series.samples.is_empty() {
                by_target.entry(Target::of(series)).or_default().push((series, born));
            }
        }
        let mut closed = Vec::new();
        for (target, series) in by_target {
            if let Some(scraped) = self.targets.get_mut(&target) {
                scraped.observe(&series, &target, self.rounds, &mut closed);
            } else {
                let mut scraped = Scraped::begin(&target, &series, is_first);
                closed.push(scraped.close(&target, scraped.until));
                scraped.observe(&series, &target, self.rounds, &mut closed);
                self.targets.insert(target, scraped);
            }
        }
        self.forget(&mut closed);
        closed
    }

    /// Of each target: the times of its samples in order, each with the time of the first sample of its series.
    fn live<'a>(&self, found: &'a [Series]) -> HashMap<&'a str, Vec<(f64, f64)>> {
        let mut live: HashMap<&str, Vec<(f64, f64)>> = HashMap::new();
        for series in found {
            let (Some(target), Some(oldest)) = (&series.target, series.samples.first()) else { continue };
            let first = self.known(series).map_or(oldest.0, |known| known.first);
            live.entry(target).or_default().extend(series.samples.iter().map(|sample| (sample.0, first)));
        }
        for times in live.values_mut() {
            times.sort_by(|one, other| one.0.total_cmp(&other.0));
        }
        live
    }

    /// Whether a new series has started at 0 between two scrapes of a live target. A counter of a status starts
    /// this way when the status first occurs. Other series of the target must go on: otherwise its labels have
    /// changed.
    fn is_born(&self, series: &Series, live: &HashMap<&str, Vec<(f64, f64)>>) -> bool {
        let times = series.target.as_deref().and_then(|target| live.get(target));
        let (Some(times), Some(&(first, _))) = (times, series.samples.first()) else { return false };
        let of_scrape = &times[times.partition_point(|(time, _)| *time <= first - SAME_SCRAPE)..];
        let of_scrape = of_scrape.iter().take_while(|(time, _)| *time < first + SAME_SCRAPE);
        self.known(series).is_none() && of_scrape.map(|(_, began)| *began).any(|began| began < first)
    }

    fn known(&self, series: &Series) -> Option<&SeriesState> {
        let key = (series.kind.quantity, series.labels.clone());
        self.targets.get(&Target::of(series))?.series.get(&key)
    }

    /// Forgets targets that are gone for long. If there is too much, also all series that this round did not have;
    /// what they have counted is then in a last window.
    fn forget(&mut self, closed: &mut Vec<Closed>) {
        let newest = self.targets.values().map(Scraped::newest).fold(f64::NEG_INFINITY, f64::max);
        self.targets.retain(|_, scraped| newest - scraped.newest() <= REMEMBERED_FOR);
        if self.targets.iter().map(|(target, scraped)| scraped.memory(target)).sum::<usize>() <= MOST_KEPT {
            return;
        }
        for (target, scraped) in &mut self.targets {
            let is_old = |known: &SeriesState| known.round < self.rounds;
            if scraped.series.values().any(|known| is_old(known) && known.is_newer) {
                closed.push(scraped.close(target, scraped.newest()));
            }
            scraped.series.retain(|_, known| !is_old(known));
        }
        self.targets.retain(|_, scraped| !scraped.series.is_empty());
    }
}

impl Scraped {
    /// The baseline. In the first round it is the newest sample of each series: increases before it do not count. For a
    /// target that appears later, it is the first sample.
    fn begin(target: &Target, found: &[(&Series, bool)], is_first: bool) -> Self {
        let mut scraped = Self {
            name: format!("{} {}", target.name, target.version).into(),
            series: BTreeMap::new(),
            until: 0.0,
        };
        let firsts = found.iter().filter_map(|(series, _)| series.samples.first());
        let first = firsts.map(|sample| sample.0).fold(f64::INFINITY, f64::min);
        for (series, _) in found {
            let baseline = if is_first { series.samples.last() } else { series.samples.first() };
            let Some(&baseline) = baseline else { continue };
            if !is_first && baseline.0 - first > SAME_SCRAPE {
                continue; // it was born later
            }
            let mut known = SeriesState::new(series, baseline, 0.0);
            if let [.., before, last] = series.samples[..]
                && is_first
            {
                known.interval = Some(interval(before, last));
            }
            scraped.series.insert((series.kind.quantity, series.labels.clone()), known);
        }
        scraped.until = scraped.newest();
        scraped
    }

    /// Takes the samples in the order of time, and closes a window each time all live series have a newer one.
    fn observe(&mut self, found: &[(&Series, bool)], target: &Target, round: u64, closed: &mut Vec<Closed>) {
        let samples = found.iter().flat_map(|one| one.0.samples.iter().map(move |sample| (*sample, one)));
        let mut samples: Vec<_> = samples.collect();
        samples.sort_by(|one, other| one.0.0.total_cmp(&other.0.0));
        for scrape in samples.chunk_by(|one, other| other.0.0 - one.0.0 < SAME_SCRAPE) {
            for (sample, (series, born)) in scrape {
                let key = (series.kind.quantity, series.labels.clone());
                let known = self.series.entry(key).or_insert_with(|| {
                    let increase = if *born { sample.1 } else { 0.0 };
                    SeriesState { is_newer: *born, ..SeriesState::new(series, *sample, increase) }
                });
                known.take(*sample);
                known.round = round;
            }
            if self.is_ready() {
                closed.push(self.close(target, self.newest()));
            }
        }
    }

    /// About the bytes that the target takes.
    fn memory(&self, target: &Target) -> usize {
        let names = 2 * target.name.len() + 2 * target.version.len();
        let series = self.series.iter().map(|((_, labels), known)| {
            PER_SERIES + labels.len() + known.stratum.as_ref().map_or(0, |stratum| stratum.len())
        });
        PER_SERIES + names + series.sum::<usize>()
    }

    fn newest(&self) -> f64 {
        self.series.values().map(|known| known.last.0).fold(f64::NEG_INFINITY, f64::max)
    }

    /// Whether every live series has a newer sample than at the end of the last window.
    fn is_ready(&self) -> bool {
        let newest = self.newest();
        let usual = self.series.values().filter_map(|known| known.interval).fold(0.0, f64::max);
        let usual = if usual > 0.0 { usual } else { LONGEST_INTERVAL };
        let is_alive =
            |known: &SeriesState| newest - known.last.0 <= GONE_AFTER * known.interval.unwrap_or(usual);
        let is_ready = self.series.values().filter(|known| is_alive(known)).all(|known| known.is_newer);
        is_ready && self.series.values().any(|known| known.is_newer)
    }

    fn close(&mut self, target: &Target, until: f64) -> Closed {
        // of each stratum, or of all if requests are not divided
        let mut sums: BTreeMap<Option<Arc<str>>, Sums> = BTreeMap::new();
        let mut restarted = false;
        for ((quantity, _), known) in &mut self.series {
            sums.entry(known.stratum.clone()).or_default().add(*quantity, known.increase);
            restarted |= known.was_reset;
            (known.increase, known.was_reset, known.is_newer) = (0.0, false, false);
        }
        let since = std::mem::replace(&mut self.until, until);
        let (release, pod) = (target.release, Arc::clone(&self.name));
        let latencies = sums.iter().filter_map(|(stratum, sums)| {
            Some((stratum.clone().unwrap_or_default(), sums.latencies()?)) // without a name if requests are not divided
        });
        let latencies = latencies.collect();
        let all: Vec<_> = sums.into_iter().map(|(stratum, sums)| (stratum, sums.counts())).collect();
        let counts = all.iter().map(|(_, counts)| *counts).sum();
        let strata = all.into_iter().filter_map(|(stratum, counts)| Some((stratum?, counts)));
        let strata = strata.filter(|(_, counts)| counts.requests > 0).collect();
        let window = Window { release, pod, since, until, counts, restarted, strata, latencies };
        Closed { window, version: target.version.clone() }
    }
}

/// Samples of one scrape have the same time, in milliseconds.
const SAME_SCRAPE: f64 = 0.0005;

/// The maximum number of buckets that are used. Of more, some are left out, evenly.
const MOST_BUCKETS: usize = 64;

/// Increases of one version's series, by quantity.
#[derive(Clone, Debug, Default)]
struct Sums {
    requests: f64,
    failures: f64,
    timed: f64,
    in_time: f64,
    within: BTreeMap<Bound, f64>,
}

impl Sums {
    fn add(&mut self, quantity: Quantity, increase: f64) {
        let sum = match quantity {
            Quantity::Requests => &mut self.requests,
            Quantity::Failures => &mut self.failures,
            Quantity::Timed => &mut self.timed,
            Quantity::InTime => &mut self.in_time,
            Quantity::Within(bound) => self.within.entry(bound).or_default(),
        };
        *sum += increase;
    }

    /// The histogram of latencies, if it is known.
    fn latencies(&self) -> Option<Histogram> {
        let answers = count(*self.within.get(&Bound::INFINITE)?);
        let finite = self.within.iter().filter(|(bound, _)| **bound != Bound::INFINITE);
        let step = self.within.len().div_ceil(MOST_BUCKETS).max(1);
        let mut least = answers; // rounding must not make a later one greater
        let slower = finite.step_by(step).map(|(bound, within)| {
            least = least.min(answers.saturating_sub(count(*within)));
            (bound.seconds(), least)
        });
        let slower: Vec<_> = slower.collect();
        (!slower.is_empty()).then_some(Histogram { answers, slower })
    }

    fn counts(&self) -> Counts {
        let requests = count(self.requests);
        let failures = count(self.failures).min(requests);
        let slow = count(self.timed).saturating_sub(count(self.in_time));
        // separate counters do not tell how many requests were both failed and slow
        let either = requests.min(failures + slow);
        Counts { requests, failures: either, slow: either - failures }
    }
}

impl SeriesState {
    /// A new series, which has increased by `increase` since the last scrape of its target.
    fn new(series: &Series, sample: Sample, increase: f64) -> Self {
        Self {
            stratum: series.stratum.clone(),
            first: sample.0,
            last: sample,
            interval: None,
            increase,
            was_reset: false,
            is_newer: false,
            round: 0,
        }
    }

    fn take(&mut self, sample: Sample) {
        let ((_, before), (at, value)) = (self.last, sample);
        if at <= self.last.0 {
            return;
        }
        // a counter that is smaller than before was reset to 0 in between
        self.was_reset |= value < before;
        self.increase += if value < before { value } else { value - before };
        self.interval = Some(interval(self.last, sample));
        self.last = sample;
        self.is_newer = true;
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
        Series { kind, target, version: String::new(), stratum: None, labels, samples: samples.to_vec() }
    }

    /// Counters that have seen a stable and a canary pod once, at their own moments.
    fn begun() -> Counters {
        let mut counters = Counters::default();
        let closed = counters.observe(&[
            series(STABLE, "one", &[(80.0, 90.0), (100.0, 100.0)]),
            series(CANARY, "two", &[(107.0, 50.0)]),
        ]);
        assert_eq!(shown(&closed), [("one", 100.0, 100.0, 0, 0), ("two", 107.0, 107.0, 0, 0)]);
        counters
    }

    /// Of each window: the target, its beginning and end, the requests and the failures. Stable comes first.
    fn shown(closed: &[Closed]) -> Vec<(&str, f64, f64, u64, u64)> {
        let shown = closed.iter().map(|Closed { window, .. }| {
            let (pod, counts) = (window.pod.split(' ').next().unwrap_or_default(), window.counts);
            (pod, window.since, window.until, counts.requests, counts.failures)
        });
        shown.collect()
    }

    #[test]
    fn the_increases_of_each_stratum_are_parts_of_the_window() {
        let of = |path: &str, kind: Kind, samples: &[Sample]| Series {
            stratum: Some(path.into()),
            labels: path.to_owned(),
            ..series(kind, "one", samples)
        };
        let mut counters = Counters::default();
        let round = |at: f64, counts: [f64; 3], failures: f64| {
            let requests = ["/", "/cart", "/rare"].into_iter().zip(counts);
            let requests = requests.map(|(path, count)| of(path, STABLE, &[(at, count)]));
            requests.chain([of("/cart", STABLE_FAILURES, &[(at, failures)])]).collect::<Vec<_>>()
        };
        let first = counters.observe(&round(0.0, [10.0, 20.0, 5.0], 1.0));
        assert!(first.iter().all(|one| one.window.strata.is_empty()), "the baseline has no increase");
        let closed = counters.observe(&round(15.0, [17.0, 50.0, 5.0], 4.0));
        let counts = |requests, failures| Counts { requests, failures, slow: 0 };
        let [Closed { window, .. }] = &closed[..] else { panic!("{closed:?}") };
        assert_eq!(window.counts, counts(37, 3));
        assert_eq!(window.strata, [("/".into(), counts(7, 0)), ("/cart".into(), counts(30, 3))]);
    }

    #[test]
    fn a_target_has_a_window_from_scrape_to_scrape_whatever_others_do() {
        let mut counters = begun();
        let found = [series(STABLE, "one", &[(115.0, 130.0)]), series(CANARY, "two", &[(107.0, 50.0)])];
        assert_eq!(shown(&counters.observe(&found)), [("one", 100.0, 115.0, 30, 0)]);
        let found = [series(STABLE, "one", &[(115.0, 130.0)]), series(CANARY, "two", &[(122.0, 60.0)])];
        assert_eq!(shown(&counters.observe(&found)), [("two", 107.0, 122.0, 10, 0)]);
        assert_eq!(counters.observe(&found), [], "and nothing counts twice");
    }

    #[test]
    fn each_of_several_scrapes_between_two_rounds_is_a_window() {
        let mut counters = begun();
        let closed = counters.observe(&[
            series(STABLE, "one", &[(100.0, 100.0), (115.0, 130.0), (130.0, 131.0)]),
            series(CANARY, "two", &[(107.0, 50.0), (122.0, 55.0)]),
        ]);
        assert_eq!(
            shown(&closed),
            [("one", 100.0, 115.0, 30, 0), ("one", 115.0, 130.0, 1, 0), ("two", 107.0, 122.0, 5, 0)]
        );
        assert_eq!(counters.observe(&[series(STABLE, "one", &[(115.0, 130.0), (130.0, 131.0)])]), []);
    }

    #[test]
    fn a_reset_counts_from_zero_and_is_a_restart() {
        let mut counters = begun();
        let closed = counters.observe(&[series(STABLE, "one", &[(115.0, 7.0), (130.0, 9.0)])]);
        assert_eq!(shown(&closed), [("one", 100.0, 115.0, 7, 0), ("one", 115.0, 130.0, 2, 0)]);
        assert_eq!(closed.iter().map(|one| one.window.restarted).collect::<Vec<_>>(), [true, false]);
    }

    #[test]
    fn a_new_pod_counts_from_its_first_sample_and_a_new_series_of_an_old_pod_from_zero() {
        let mut counters = begun();
        let closed = counters.observe(&[
            series(STABLE, "one", &[(115.0, 130.0)]),
            series(STABLE_FAILURES, "one", &[(115.0, 3.0)]),
            series(STABLE, "new", &[(116.0, 1000.0)]),
        ]);
        assert_eq!(shown(&closed), [("new", 116.0, 116.0, 0, 0), ("one", 100.0, 115.0, 30, 3)]);
        let closed = counters.observe(&[series(STABLE, "new", &[(116.0, 1000.0), (131.0, 1004.0)])]);
        assert_eq!(shown(&closed), [("new", 116.0, 131.0, 4, 0)]);
    }

    #[test]
    fn a_series_of_a_target_that_is_gone_holds_nothing_up_and_counts_once_if_it_comes_back() {
        let mut counters = Counters::default();
        let round = |at: f64, all: f64, failed: Option<f64>| {
            let mut found = vec![series(STABLE, "one", &[(at, all)])];
            found.extend(failed.map(|failed| series(STABLE_FAILURES, "one", &[(at, failed)])));
            found
        };
        counters.observe(&round(0.0, 0.0, Some(0.0)));
        assert_eq!(shown(&counters.observe(&round(15.0, 10.0, Some(1.0)))), [("one", 0.0, 15.0, 10, 1)]);
        assert_eq!(counters.observe(&round(30.0, 20.0, None)), []);
        assert_eq!(counters.observe(&round(45.0, 30.0, None)), []);
        assert_eq!(shown(&counters.observe(&round(60.0, 40.0, None))), [("one", 15.0, 60.0, 30, 0)]);
        assert_eq!(shown(&counters.observe(&round(75.0, 50.0, Some(4.0)))), [("one", 60.0, 75.0, 10, 3)]);
    }

    #[test]
    fn failed_or_slow_is_at_most_all() {
        let mut counters = Counters::default();
        let round = |at: f64, all: f64, failed: f64, in_time: f64| {
            [
                series(STABLE, "one", &[(at, all)]),
                series(STABLE_FAILURES, "one", &[(at, failed)]),
                series(STABLE_TIMED, "one", &[(at, all)]),
                series(STABLE_IN_TIME, "one", &[(at, in_time)]),
            ]
        };
        counters.observe(&round(0.0, 0.0, 0.0, 0.0));
        let closed = counters.observe(&round(15.0, 100.0, 10.0, 70.0));
        assert_eq!(closed[0].window.counts, Counts { requests: 100, failures: 40, slow: 30 });
        let closed = counters.observe(&round(30.0, 200.0, 100.0, 100.0));
        assert_eq!(closed[0].window.counts, Counts { requests: 100, failures: 100, slow: 10 });
    }

    #[test]
    fn a_histogram_counts_how_many_took_longer_than_each_bound() {
        let mut counters = Counters::default();
        let bucket = |at: f64, bound: f64, label: &str, count: f64| {
            let quantity = Quantity::Within(Bound::new(bound).expect("a bound"));
            let one = series(Kind { quantity, ..STABLE }, "one", &[(at, count)]);
            Series { labels: format!("{label} {bound}"), ..one }
        };
        let round = |at: f64, fast: f64, slow: f64| {
            let mut round = vec![series(STABLE, "one", &[(at, fast + slow)])];
            for (label, part) in [("GET", 1.0), ("HEAD", 2.0)] {
                round.extend([
                    bucket(at, 0.25, label, part * fast),
                    bucket(at, 0.1, label, 0.0),
                    bucket(at, f64::INFINITY, label, part * (fast + slow)),
                ]);
            }
            round
        };
        counters.observe(&round(0.0, 50.0, 7.0));
        let closed = counters.observe(&round(15.0, 80.0, 17.0));
        let expected = Histogram { answers: 120, slower: vec![(0.1, 120), (0.25, 30)] };
        assert_eq!(closed[0].window.latencies, [(Arc::default(), expected)]);
        let without = begun().observe(&[series(STABLE, "one", &[(115.0, 130.0)])]);
        assert_eq!(without[0].window.latencies, []);
    }

    #[test]
    fn a_pod_whose_labels_change_counts_from_its_first_sample_on_the_other_side() {
        let mut counters = begun();
        let closed = counters.observe(&[
            series(STABLE, "one", &[(115.0, 130.0)]),
            Series {
                labels: "was stable".to_owned(),
                ..series(CANARY, "one", &[(130.0, 140.0), (145.0, 141.0)])
            },
        ]);
        let shown = shown(&closed);
        assert!(shown.contains(&("one", 130.0, 145.0, 1, 0)), "not 140 more: {shown:?}");
    }

    #[test]
    fn a_series_without_a_target_counts_from_its_first_sample() {
        let mut counters = Counters::default();
        let of_rule = |kind, samples: &[Sample]| Series { target: None, ..series(kind, "rule", samples) };
        counters.observe(&[of_rule(STABLE, &[(100.0, 5.0)])]);
        let found = [of_rule(STABLE, &[(100.0, 5.0), (115.0, 7.0)]), of_rule(CANARY, &[(115.0, 400.0)])];
        assert_eq!(shown(&counters.observe(&found)), [("", 100.0, 115.0, 2, 0), ("", 115.0, 115.0, 0, 0)]);
        let closed =
            counters.observe(&[of_rule(STABLE, &[(130.0, 9.0)]), of_rule(CANARY, &[(130.0, 403.0)])]);
        assert_eq!(shown(&closed), [("", 115.0, 130.0, 2, 0), ("", 115.0, 130.0, 3, 0)]);
    }

    #[test]
    fn versions_have_windows_of_their_own() {
        let mut counters = begun();
        let new =
            Series { version: "b".to_owned(), ..series(CANARY, "three", &[(111.0, 1.0), (126.0, 8.0)]) };
        let closed = counters.observe(&[series(CANARY, "two", &[(122.0, 60.0)]), new]);
        let versions: Vec<_> =
            closed.iter().map(|one| (one.version.as_str(), one.window.counts.requests)).collect();
        assert_eq!(versions, [("", 10), ("b", 0), ("b", 7)]);
    }

    /// A target whose series have other labels in each round, as with a request's number in a label.
    #[test]
    fn series_that_are_gone_are_forgotten_when_there_are_too_many_but_what_they_counted_is_not() {
        let mut counters = Counters::default();
        let long = "l".repeat(10_000);
        let mut counted = 0;
        for round in 0..200_u32 {
            let at = 1000.0 + 15.0 * f64::from(round);
            let changing = (0..20).map(|number| Series {
                labels: format!("{round} {number} {long}"),
                ..series(STABLE, "one", &[(at, 7.0)])
            });
            let steady = series(STABLE, "one", &[(at - 15.0, 1.0), (at, 1.0)]);
            let found: Vec<_> = changing.chain([steady]).collect();
            counted += counters.observe(&found).iter().map(|one| one.window.counts.requests).sum::<u64>();
            let memory: usize = counters.targets.iter().map(|(target, one)| one.memory(target)).sum();
            assert!(memory <= MOST_KEPT, "{memory} bytes in round {round}");
        }
        let open = counters.targets.values().flat_map(|one| one.series.values());
        let waiting = count(open.map(|known| known.increase).sum());
        assert_eq!(counted + waiting, 199 * 20 * 7, "each was born at 0 in a live target");
    }
}
