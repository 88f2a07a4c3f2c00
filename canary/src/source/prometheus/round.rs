//! One round of queries: the queries, the checks of the answers, and the resulting counts.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::{Duration, Instant},
};

use super::{
    Options,
    client::{AskError, MetricType, Prometheus},
    counters::{Bound, Closed, Counters, Kind, Quantity, Sample, Series},
    gauge::Changes,
    queries::{NAME, Queries, canonical_bound},
    samples::{RawSeries, Room},
    single,
    twice::{self, Twice},
};
use crate::{
    foreign::HASH_LABELS,
    foreign::{ERROR, LABEL, bounded},
    source::{CountedWindow, Interval, strata},
};
use canary_judge::Release;

/// How far before the last round the query window reaches: two of the longest usual scrape intervals.
const LOOK_BACK: Duration = Duration::from_secs(120);

/// The longest query window. After a longer time without an answer, the counters still tell what was counted
/// meanwhile, but not each reset.
const MOST_LOOK_BACK: Duration = Duration::from_secs(3600);

/// The largest value of a counter: 2^53. Above it, an increase by 1 is lost, because samples are `f64`.
const LARGEST: f64 = 9_007_199_254_740_992.0;

/// The maximum number of metrics that count requests.
const MOST_NAMES: usize = 16;

/// The cause why a round has no usable result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Trouble {
    pub(super) text: String,
    /// Whether Prometheus has answered.
    pub(super) is_answer: bool,
}

impl From<AskError> for Trouble {
    fn from(error: AskError) -> Self {
        Self { text: error.to_string(), is_answer: error.is_answer() }
    }
}

/// Rounds of queries, one after the other.
pub(super) struct Rounds {
    client: Prometheus,
    pub(super) queries: Queries,
    /// Whether the counters must be those of single pods.
    compares_pods: bool,
    counters: Counters,
    /// The time of the last round with a result: by Prometheus' clock, in seconds since 1970, and by this machine's.
    last: Option<(f64, Instant)>,
    /// When counting began, by Prometheus' clock.
    began: Option<f64>,
    /// Selectors of requests that match no series.
    unseen: Vec<String>,
    /// The metrics of which Prometheus' metadata say that they are counters.
    known: BTreeSet<String>,
    /// How the counter of requests changed, if no metadata tell its type.
    changes: Changes,
}

pub(super) type Found = (Kind, String, Vec<RawSeries>);

impl Rounds {
    /// # Errors
    /// If an option cannot be used: the cause, in words.
    pub(super) fn new(options: &Options) -> Result<Self, String> {
        let Options { address, headers, credentials, trust, queries, compares_pods, .. } = options;
        queries.check()?;
        let client = Prometheus::new(address.clone(), headers, credentials.clone(), trust)?;
        Ok(Self {
            client,
            queries: queries.clone(),
            compares_pods: *compares_pods,
            counters: Counters::default(),
            last: None,
            began: None,
            unseen: Vec::new(),
            known: BTreeSet::new(),
            changes: Changes::default(),
        })
    }

    /// Starts counting again with the next round.
    pub(super) fn begin_anew(&mut self) {
        (self.counters, self.last, self.began) = (Counters::default(), None, None);
        (self.known, self.changes) = (BTreeSet::new(), Changes::default());
    }

    /// Makes one round of queries. A cancelled round changes nothing.
    pub(super) async fn query(&mut self) -> Result<Option<Interval>, Trouble> {
        let time = self.client.time().await?;
        let since = self.last.map_or(0.0, |(last, _)| (time - last).max(0.0));
        // samples of rounds that failed are read again
        let window = (LOOK_BACK + Duration::from_secs_f64(since.ceil())).min(MOST_LOOK_BACK);
        let (mut found, mut room) = (Vec::<Found>::new(), Room::new());
        for (kind, selector) in self.queries.selectors() {
            #[expect(clippy::cast_possible_truncation, reason = "a time in seconds")]
            let series = self.client.samples(&selector, window, time.floor() as i64, &mut room).await?;
            found.push((kind, selector, series));
        }
        let found = self.checked(found)?;
        // asked again until it is known: there are no metadata before the first scrape
        let mut types = Vec::new();
        for name in self.unknown(&found)? {
            types.push((self.client.type_of(&name).await?, name));
        }
        self.check_types(types, &found)?;
        Ok(self.count(time, found))
    }

    /// The answers of a round, if they can be used.
    pub(super) fn checked(&self, found: Vec<Found>) -> Result<Vec<Found>, Trouble> {
        let joined = |(kind, selector, series): Found| {
            let has_buckets = matches!(kind.quantity, Quantity::InTime | Quantity::Within(_));
            let series = if has_buckets { one_per_bucket(series) } else { series };
            (kind, selector, series)
        };
        let found = found.into_iter().map(joined).collect::<Vec<_>>();
        self.check(&found)?;
        Ok(found)
    }

    /// The counts of a round at this time of Prometheus' clock.
    pub(super) fn count(&mut self, time: f64, found: Vec<Found>) -> Option<Interval> {
        self.unseen = unseen(&found).map(str::to_owned).collect();
        let newest = newest_of_targets(&found);
        let series =
            found.into_iter().flat_map(|(kind, _, all)| all.into_iter().map(move |series| (kind, series)));
        let by = &self.queries.by;
        let series = series.filter_map(|(kind, raw)| Some((self.kind_of(kind, &raw)?, raw)));
        let series: Vec<_> = series.map(|(kind, raw)| counted(kind, raw, &newest, by)).collect();
        let windows = self.counters.observe(&series);
        let (at, began) = (Instant::now(), *self.began.get_or_insert(time));
        self.last = Some((time, at));
        let counted =
            |Closed { version, window, started }| CountedWindow { version, window, started: Some(started) };
        let windows: Vec<_> = windows.into_iter().map(counted).collect();
        (!windows.is_empty()).then_some(Interval { at, clock: time, began, windows })
    }

    /// What a series counts: a bucket says it by its label `le`. `None` for a bucket without a bound.
    fn kind_of(&self, kind: Kind, series: &RawSeries) -> Option<Kind> {
        let Quantity::Within(_) = kind.quantity else { return Some(kind) };
        let bound = self.queries.bound(series.labels.get("le")?)?;
        Some(Kind { quantity: Quantity::Within(bound), ..kind })
    }

    /// The metrics that count requests or failures, and are not known to be counters.
    pub(super) fn unknown(&self, found: &[Found]) -> Result<BTreeSet<String>, Trouble> {
        let mut names: BTreeSet<_> = match self.queries.name() {
            Some(name) => BTreeSet::from([name.to_owned()]),
            None => requests(found).filter_map(|series| series.labels.get(NAME)).cloned().collect(),
        };
        if names.len() > MOST_NAMES {
            let text = format!("--metric selects {} metrics; {MOST_NAMES} are the most", names.len());
            return Err(Trouble { text, is_answer: true });
        }
        names.extend(self.queries.name_of_failures().map(str::to_owned));
        names.retain(|name| !self.known.contains(name));
        Ok(names)
    }

    /// Checks that requests are counted by counters, by the types of those that are unknown.
    pub(super) fn check_types(
        &mut self,
        types: Vec<(MetricType, String)>,
        found: &[Found],
    ) -> Result<(), Trouble> {
        let is_trouble = |text| Err(Trouble { text, is_answer: true });
        let mut unknown = BTreeSet::new();
        for (metric_type, name) in types {
            match metric_type {
                MetricType::Counter => drop(self.known.insert(name)),
                MetricType::Gauge => {
                    let name = bounded(&name, LABEL);
                    return is_trouble(format!("{name} is a gauge; it must be a counter"));
                }
                MetricType::Unknown => drop(unknown.insert(name)),
            }
        }
        let failures = self.queries.name_of_failures().filter(|name| unknown.contains(*name));
        if let Some(name) = failures.filter(|_| no_failures(found)) {
            let name = bounded(name, LABEL);
            return is_trouble(format!(
                "Prometheus does not know {name}, so no failure would count: is this the name of the counter of failures? \
                 It must be there before the first failure"
            ));
        }
        let Some(one) = unknown.first() else { return Ok(()) };
        let is_unknown =
            |series: &&RawSeries| series.labels.get(NAME).is_none_or(|name| unknown.contains(name));
        let series = requests(found).filter(is_unknown);
        self.changes.see(series.map(|series| (shown(&series.labels), series)));
        if self.changes.are_of_a_gauge() {
            let name = bounded(one, LABEL);
            return is_trouble(format!(
                "the values of {name} fall again and again, and not to 0: is it a gauge, or are several pods scraped by \
                 one address? It must be a counter of one pod"
            ));
        }
        Ok(())
    }

    /// The message about sides without series, or about a counter of failures that nobody has.
    pub(super) fn unseen(&self) -> Option<String> {
        (!self.unseen.is_empty()).then(|| {
            let (selectors, is) = (self.unseen.join(" and "), LOOK_BACK.as_secs());
            format!("Prometheus has no samples of {selectors} in the last {is} s")
        })
    }

    /// Checks whether the series can be used.
    fn check(&self, found: &[Found]) -> Result<(), Trouble> {
        let trouble = |text| Err(Trouble { text, is_answer: true });
        let of = |kind| found.iter().find(move |one| one.0 == kind);
        let all = || found.iter().flat_map(|(_, selector, all)| all.iter().map(move |one| (selector, one)));
        if let Some((selector, _)) = all().find(|(_, series)| series.samples.is_empty()) {
            return trouble(format!("{selector} is a native histogram; it must be a counter"));
        }
        if let Some((selector, _)) = all().find(|(_, series)| series.samples.iter().any(|it| it.1 < 0.0)) {
            return trouble(format!("{selector} has negative values: it is a gauge; it must be a counter"));
        }
        let is_too_large = |series: &RawSeries| series.samples.iter().any(|it| it.1 > LARGEST);
        if let Some((selector, _)) = all().find(|(_, series)| is_too_large(series)) {
            return trouble(format!(
                "{selector} has values above {LARGEST}, which no counter of requests has"
            ));
        }
        let sides = Release::BOTH.map(|release| of(Kind { release, quantity: Quantity::Requests }));
        let [Some((_, _, stable)), Some((_, _, canary))] = sides else { return Ok(()) };
        let stable_ones: BTreeSet<_> = stable.iter().map(|series| &series.labels).collect();
        if let Some(both) = canary.iter().find(|series| stable_ones.contains(&series.labels)) {
            return trouble(format!("both --stable and --canary match the series {}", safe(&both.labels)));
        }
        for (_, selector, series) in found {
            if let Some(Twice { one, other, labels }) = twice::find(series) {
                let label = labels.first().copied().unwrap_or("job");
                let value = one.labels.get(label).map_or(String::new(), |value| bounded(value, LABEL));
                return trouble(format!(
                    "Prometheus has the same counter twice, so each request would count twice: {} and {} differ only \
                     in {}. Select one of them by a matcher of --metric, such as {label}={value:?}, or query a server \
                     that removes duplicates (seen in {selector})",
                    safe(&one.labels),
                    safe(&other.labels),
                    labels.join(" and "),
                ));
            }
        }
        if let Some(why) = self.compares_pods.then(|| single::why_not(found)).flatten() {
            return trouble(format!("--episodes needs the counters of each pod, but {why}"));
        }
        for (_, selector, series) in found.iter().filter(|(.., series)| !series.is_empty()) {
            let has = |label: &str| series.iter().any(|series| series.labels.contains_key(label));
            if let Some(label) = self.queries.by.iter().find(|label| !has(label)) {
                let label = bounded(label, LABEL);
                return trouble(format!("no series of {selector} has the label {label}, which --by uses"));
            }
        }
        for (kind, selector, series) in found.iter().filter(|one| one.0.quantity == Quantity::Requests) {
            let has = |label: &str| series.iter().any(|series| series.labels.contains_key(label));
            if let Some(label) = self.queries.labels_of_failures().find(|label| !has(label))
                && !series.is_empty()
            {
                return trouble(format!(
                    "no series of {selector} has the label {label}, which --failed uses"
                ));
            }
            for quantity in [Quantity::Timed, Quantity::InTime, Quantity::Within(Bound::INFINITE)] {
                let of_time = of(Kind { quantity, ..*kind }).filter(|(_, _, timed)| timed.is_empty());
                if let Some((_, timed, _)) = of_time
                    && !series.is_empty()
                {
                    return trouble(format!("Prometheus has no samples of {timed}: is there such a bucket?"));
                }
            }
        }
        Ok(())
    }
}

/// The series of a bucket, whose bound may have been spelled in several ways, one after the other: Prometheus 3 spells
/// it in another way than Prometheus 2.
fn one_per_bucket(all: Vec<RawSeries>) -> Vec<RawSeries> {
    let mut buckets: BTreeMap<BTreeMap<String, String>, Vec<Sample>> = BTreeMap::new();
    for RawSeries { mut labels, samples } in all {
        if let Some(le) = labels.get_mut("le") {
            *le = canonical_bound(le);
        }
        buckets.entry(labels).or_default().extend(samples);
    }
    let sorted = |mut samples: Vec<Sample>| {
        samples.sort_by(|one, other| one.0.total_cmp(&other.0));
        samples.dedup_by(|one, other| one.0.total_cmp(&other.0).is_eq());
        samples
    };
    let buckets = buckets.into_iter();
    buckets.map(|(labels, samples)| RawSeries { labels, samples: sorted(samples) }).collect()
}

/// The series that count requests.
fn requests(found: &[Found]) -> impl Iterator<Item = &RawSeries> {
    let requests = found.iter().filter(|(kind, ..)| kind.quantity == Quantity::Requests);
    requests.flat_map(|(.., series)| series)
}

/// Whether no series counts failures.
fn no_failures(found: &[Found]) -> bool {
    let mut failures = found.iter().filter(|(kind, ..)| kind.quantity == Quantity::Failures);
    failures.all(|(.., series)| series.is_empty())
}

/// The selectors of requests that match no series.
fn unseen(found: &[Found]) -> impl Iterator<Item = &str> {
    let requests = found.iter().filter(|(kind, ..)| kind.quantity == Quantity::Requests);
    requests.filter(|(_, _, series)| series.is_empty()).map(|(_, selector, _)| selector.as_str())
}

/// The time of each target's newest sample, in the first answer that has the target. A scrape may come between two
/// queries. Its failures must not count before its requests, which are queried first.
fn newest_of_targets(found: &[Found]) -> HashMap<String, f64> {
    let mut newest: HashMap<String, f64> = HashMap::new();
    for (_, _, all) in found {
        let mut here: HashMap<String, f64> = HashMap::new();
        for series in all {
            let (Some(target), Some(last)) = (target(&series.labels), series.samples.last()) else {
                continue;
            };
            let newest = here.entry(target).or_insert(last.0);
            *newest = newest.max(last.0);
        }
        for (target, last) in here {
            newest.entry(target).or_insert(last);
        }
    }
    newest
}

fn counted(kind: Kind, raw: RawSeries, newest: &HashMap<String, f64>, by: &[String]) -> Series {
    let RawSeries { labels, mut samples } = raw;
    let target = target(&labels);
    if let Some(newest) = target.as_ref().and_then(|target| newest.get(target)) {
        samples.retain(|sample| sample.0 <= *newest);
    }
    let hash = HASH_LABELS.iter().find_map(|label| labels.get(&label.replace('-', "_")));
    let version = hash.filter(|_| kind.release == Release::Canary).cloned().unwrap_or_default();
    let values = by.iter().map(|label| labels.get(label).map(String::as_str));
    let stratum = (!by.is_empty()).then(|| strata::name(values));
    Series { kind, target, version, stratum, labels: shown(&labels), samples }
}

pub(super) fn target(labels: &BTreeMap<String, String>) -> Option<String> {
    let instance = labels.get("instance")?;
    Some(format!("{instance} {}", labels.get("job").map_or("", String::as_str)))
}

/// The same as [`shown`], for messages.
pub(super) fn safe(labels: &BTreeMap<String, String>) -> String {
    bounded(&shown(labels), ERROR)
}

/// A series in the form of `PromQL`.
fn shown(labels: &BTreeMap<String, String>) -> String {
    let pairs = labels.iter().filter(|(key, _)| *key != NAME);
    let pairs: Vec<_> = pairs.map(|(key, value)| format!("{key}={value:?}")).collect();
    format!("{}{{{}}}", labels.get(NAME).map_or("", String::as_str), pairs.join(","))
}
