//! Finds a counter that Prometheus has twice: each request would count twice, and the evidence would seem stronger
//! than it is.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{counters::Sample, samples::RawSeries};

/// Labels that say which Prometheus has collected a sample, and never what was counted: those of two replicas
/// without deduplication.
const REPLICAS: [&str; 5] = ["replica", "__replica__", "prometheus", "prometheus_replica", "receive_replica"];
/// Labels that say how Prometheus has found a target, if another label identifies the target.
const SCRAPE: [&str; 3] = ["job", "scrape_job", "monitor"];
/// Labels that say at which port of a pod it was scraped. Containers differ in the label `container`.
const PORTS: [&str; 3] = ["instance", "endpoint", "port"];

/// Two series that are the same counter, and the labels in which they differ.
#[derive(Debug)]
pub(super) struct Twice<'a> {
    pub(super) one: &'a RawSeries,
    pub(super) other: &'a RawSeries,
    pub(super) labels: Vec<&'static str>,
}

/// A counter that is among the series twice. Series of different instances are different counters, and so are those of
/// different pods.
pub(super) fn find(all: &[RawSeries]) -> Option<Twice<'_>> {
    // of one target, by two jobs or two replicas
    let of_target = |labels: &BTreeMap<_, _>| labels.contains_key("instance") || labels.contains_key("pod");
    let of_one_target = || groups(all, [&REPLICAS[..], &SCRAPE].concat(), of_target);
    // of one pod, at two ports
    let of_pod = |labels: &BTreeMap<_, _>| labels.contains_key("instance") && labels.contains_key("pod");
    let of_one_pod = || groups(all, [&REPLICAS[..], &SCRAPE, &PORTS].concat(), of_pod);
    // of a recording rule, by two replicas
    let recorded = || groups(all, REPLICAS.to_vec(), |labels| !of_target(labels));
    let found = pairs(of_one_target()).find(|(one, other, _)| !is_one_scrape(one, other));
    let found = found.or_else(|| pairs(of_one_pod()).find(|(one, other, _)| is_one_counter(one, other)));
    let found = found.or_else(|| pairs(recorded()).next());
    found.map(|(one, other, ignored)| {
        let labels = ignored.into_iter().filter(|label| one.labels.get(*label) != other.labels.get(*label));
        Twice { one, other, labels: labels.collect() }
    })
}

type Group<'a> = (Vec<&'a RawSeries>, Vec<&'static str>);

/// Series that differ only in the `ignored` labels, of those whose labels are `wanted`.
fn groups<'a>(
    all: &'a [RawSeries],
    ignored: Vec<&'static str>,
    wanted: impl Fn(&BTreeMap<String, String>) -> bool,
) -> impl Iterator<Item = Group<'a>> {
    let mut groups: HashMap<Vec<(&str, &str)>, Vec<&RawSeries>> = HashMap::new();
    for series in all.iter().filter(|series| wanted(&series.labels)) {
        let labels = series.labels.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        groups.entry(labels.filter(|(key, _)| !ignored.contains(key)).collect()).or_default().push(series);
    }
    groups.into_values().map(move |group| (group, ignored.clone()))
}

/// The pairs of a group's neighbours that have samples in the same time. If three are the same, two neighbours are.
fn pairs<'a>(
    groups: impl Iterator<Item = Group<'a>>,
) -> impl Iterator<Item = (&'a RawSeries, &'a RawSeries, Vec<&'static str>)> {
    groups.flat_map(|(group, ignored)| {
        let pairs = group.windows(2).filter(|two| overlap(two[0], two[1]));
        pairs.map(|two| (two[0], two[1], ignored.clone())).collect::<Vec<_>>()
    })
}

/// Whether both have samples in the same time. If not, the second one has replaced the first, as with a new name of
/// the job.
fn overlap(one: &RawSeries, other: &RawSeries) -> bool {
    let span = |series: &RawSeries| Some((series.samples.first()?.0, series.samples.last()?.0));
    span(one).zip(span(other)).is_some_and(|((first, last), (from, to))| first.max(from) < last.min(to))
}

/// Whether the series come from the same scrapes: then they are different counters of one target. Two jobs and two
/// replicas scrape at times of their own, in milliseconds.
fn is_one_scrape(one: &RawSeries, other: &RawSeries) -> bool {
    let times: HashSet<_> = one.samples.iter().map(|sample| sample.0.to_bits()).collect();
    other.samples.iter().any(|sample| times.contains(&sample.0.to_bits()))
}

/// Whether the samples of both are those of one counter: both rise, and so does the one that has all their samples,
/// but for a reset.
fn is_one_counter(one: &RawSeries, other: &RawSeries) -> bool {
    let rises = |series: &RawSeries| series.samples.windows(2).any(|two| two[1].1 > two[0].1);
    let mut both: Vec<Sample> = one.samples.iter().chain(&other.samples).copied().collect();
    both.sort_by(|one, other| one.0.total_cmp(&other.0));
    rises(one) && rises(other) && falls(&both) <= falls(&one.samples).max(falls(&other.samples))
}

fn falls(samples: &[Sample]) -> usize {
    samples.windows(2).filter(|two| two[1].1 < two[0].1).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A series with these labels, whose counter is `rate` times the time since `start`, scraped every 15 seconds.
    fn series(labels: &[(&str, &str)], offset: f64, rate: f64, start: f64) -> RawSeries {
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let times = (0..8).map(|number| 1000.0 + 15.0 * f64::from(number) + offset);
        RawSeries { labels, samples: times.map(|at| (at, ((at - start) * rate).floor())).collect() }
    }

    fn found(all: &[RawSeries]) -> Option<Vec<&'static str>> {
        find(all).map(|twice| twice.labels)
    }

    #[test]
    fn a_counter_by_two_jobs_or_two_replicas_is_found() {
        for (label, one, other) in [
            ("job", "pods", "services"),
            ("replica", "a", "b"),
            ("prometheus", "monitoring/a", "monitoring/b"),
            ("prometheus_replica", "prometheus-0", "prometheus-1"),
            ("__replica__", "0", "1"),
        ] {
            for target in ["instance", "pod"] {
                let all = [
                    series(&[(target, "10.0.0.7:8081"), ("status", "200"), (label, one)], 0.0, 2.0, 0.0),
                    series(&[(target, "10.0.0.7:8081"), ("status", "500"), (label, one)], 0.0, 0.0, 0.0),
                    series(&[(target, "10.0.0.7:8081"), ("status", "200"), (label, other)], 7.3, 2.0, 0.0),
                ];
                assert_eq!(found(&all), Some(vec![label]), "{label} {target}");
            }
        }
        // one of them without the label
        let all = [
            series(&[("instance", "a")], 0.0, 2.0, 0.0),
            series(&[("instance", "a"), ("replica", "b"), ("job", "x")], 1.0, 2.0, 0.0),
        ];
        assert_eq!(found(&all), Some(vec!["replica", "job"]));
    }

    #[test]
    fn a_pod_that_is_scraped_at_two_ports_is_found_also_if_it_was_reset() {
        let at = |port, offset, start| {
            series(&[("pod", "shop-1"), ("instance", port), ("job", "pods")], offset, 2.0, start)
        };
        let all = [at("10.0.0.7:8080", 0.0, 0.0), at("10.0.0.7:8081", 5.0, 0.0)];
        assert_eq!(found(&all), Some(vec!["instance"]));
        let mut reset = [at("10.0.0.7:8080", 0.0, 0.0), at("10.0.0.7:8081", 5.0, 0.0)];
        for series in &mut reset {
            series
                .samples
                .iter_mut()
                .filter(|sample| sample.0 > 1050.0)
                .for_each(|sample| sample.1 -= 2098.0);
        }
        assert_eq!(found(&reset), Some(vec!["instance"]));
    }

    #[test]
    fn a_recorded_counter_of_two_replicas_is_found() {
        let all = [
            series(&[("release", "stable"), ("replica", "a")], 0.0, 2.0, 0.0),
            series(&[("release", "stable"), ("replica", "b")], 0.0, 2.0, 0.0),
        ];
        assert_eq!(found(&all), Some(vec!["replica"]));
    }

    #[test]
    fn different_counters_are_not_found() {
        let one = |labels: &[(&str, &str)]| series(labels, 0.0, 2.0, 0.0);
        let other = |labels: &[(&str, &str)]| series(labels, 7.0, 3.0, -1000.0);
        for (first, second) in [
            // different instances, with equal counts
            (
                one(&[("instance", "a"), ("job", "x")]),
                series(&[("instance", "b"), ("job", "x")], 7.0, 2.0, 0.0),
            ),
            (
                one(&[("instance", "a"), ("job", "x")]),
                series(&[("instance", "b"), ("job", "y")], 7.0, 2.0, 0.0),
            ),
            // different pods
            (
                one(&[("pod", "a"), ("instance", "x")]),
                series(&[("pod", "b"), ("instance", "x")], 7.0, 2.0, 0.0),
            ),
            // two clusters may use the same addresses
            (one(&[("instance", "a"), ("cluster", "x")]), other(&[("instance", "a"), ("cluster", "y")])),
            // a proxy that counts by replica of what is behind it, in one scrape
            (one(&[("instance", "a"), ("replica", "x")]), one(&[("instance", "a"), ("replica", "y")])),
            // two containers of a pod
            (
                one(&[("pod", "a"), ("instance", "a:1"), ("container", "x")]),
                series(&[("pod", "a"), ("instance", "a:2"), ("container", "y")], 7.0, 2.0, 0.0),
            ),
            // two processes of a pod, without a label that tells them apart
            (one(&[("pod", "a"), ("instance", "a:1")]), other(&[("pod", "a"), ("instance", "a:2")])),
            // sums by job
            (one(&[("job", "x")]), one(&[("job", "y")])),
            // a job that has a new name
            (
                one(&[("instance", "a"), ("job", "old")]),
                series(&[("instance", "a"), ("job", "new")], 120.0, 2.0, 0.0),
            ),
            // two statuses
            (one(&[("instance", "a"), ("status", "200")]), other(&[("instance", "a"), ("status", "500")])),
        ] {
            assert_eq!(found(&[first, second]), None);
        }
    }
}
