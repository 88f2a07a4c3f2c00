//! The versions that answer: a line for each, with what tells it from the others.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use serde::Serialize;

use super::state::STANDS_OUT;
use crate::{
    foreign::HASH_LABELS,
    source::Attribution,
    trial::tally::{Pods, SeenPod},
};
use canary_judge::{Counts, Release};

/// The maximum number of lines.
const MOST_LINES: usize = 3;
/// The maximum number of labels in a line.
const MOST_LABELS: usize = 8;

/// A line: pods of one release with the same template.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Line {
    release: String,
    /// The pod's name, or what the names of several pods begin with.
    name: String,
    /// The number of pods that still answer.
    pods: usize,
    requests: u64,
    failures: u64,
    /// Those that other versions do not have.
    labels: Vec<Label>,
}

/// A label as text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct Label {
    text: String,
    /// Whether it has changed lately.
    changed: bool,
}

/// The pods of one version.
#[derive(Debug, Default)]
struct Group<'a> {
    pods: Vec<(&'a str, &'a SeenPod)>,
}

impl<'a> Group<'a> {
    fn present(&self) -> usize {
        self.pods.iter().filter(|(_, pod)| pod.present).count()
    }

    /// Pods that still answer, or all of them if none does.
    fn shown(&self) -> impl Iterator<Item = &(&'a str, &'a SeenPod)> {
        let none = self.present() == 0;
        self.pods.iter().filter(move |(_, pod)| pod.present || none)
    }

    /// Each label with the number of pods that have it, and the number of pods whose labels are known.
    fn labels(&self) -> (BTreeMap<(&'a str, &'a str), usize>, usize) {
        let (mut labels, mut known) = (BTreeMap::new(), 0);
        for (_, pod) in self.shown().filter(|(_, pod)| !pod.labels.is_empty()) {
            known += 1;
            let namespace = if pod.namespace.is_empty() { "none" } else { &pod.namespace };
            let own = pod.labels.iter().map(|(key, value)| (key.as_str(), value.as_str()));
            for label in own.chain([("namespace", namespace)]) {
                *labels.entry(label).or_default() += 1;
            }
        }
        (labels, known)
    }

    /// The keys of labels that have changed lately.
    fn changed(&self, now: Instant) -> BTreeSet<&'a str> {
        self.shown().flat_map(|(_, pod)| pod.changed_within(STANDS_OUT, now)).collect()
    }

    fn name(&self) -> String {
        let mut names = self.shown().map(|(name, _)| *name);
        let first = names.next().unwrap_or_default();
        let common = |one: &'a str, other: &str| {
            let same = one.char_indices().zip(other.chars()).find(|((_, one), other)| one != other);
            same.map_or(one.get(..other.len()).unwrap_or(one), |((at, _), _)| &one[..at])
        };
        let prefix = names.fold(first, common);
        if prefix == first { first.to_owned() } else { format!("{prefix}…") }
    }

    fn line(&self, release: &Attribution, everywhere: &BTreeSet<(&str, &str)>, now: Instant) -> Line {
        let (labels, known) = self.labels();
        let changed = self.changed(now);
        let differ = labels.iter().filter(|(label, pods)| **pods < known || !everywhere.contains(*label));
        let mut shown: Vec<_> = differ
            .map(|((key, value), pods)| {
                let part = if *pods < known { format!(" ({pods} of {known})") } else { String::new() };
                Label { text: format!("{key}={value}{part}"), changed: changed.contains(key) }
            })
            .collect();
        let is_there = |key: &str| labels.keys().any(|(known, _)| *known == key) || key == "release";
        let removed = changed.iter().filter(|key| !is_there(key));
        shown.extend(removed.map(|key| Label { text: format!("{key} removed"), changed: true }));
        shown.sort_by_key(|label| !label.changed); // stable
        shown.truncate(MOST_LABELS);
        let counts: Counts = self.pods.iter().map(|(_, pod)| pod.counts).sum();
        Line {
            release: release.to_string(),
            name: self.name(),
            pods: self.present(),
            requests: counts.requests,
            failures: counts.failures,
            labels: shown,
        }
    }
}

/// What the pods of one version have in common: the hash of their template, or their names but for the end.
fn version<'a>(name: &'a str, pod: &'a SeenPod) -> &'a str {
    let hash = HASH_LABELS.iter().find_map(|label| pod.labels.get(*label));
    // a pod without known labels has the hash in its name, as all of its kind
    let in_name = name.rsplit_once('-').map_or(name, |(workload, _)| workload);
    match hash {
        Some(hash) if !in_name.ends_with(hash.as_str()) => hash,
        _ => in_name,
    }
}

/// The lines, stable first and then the canary, and the number of further versions.
pub(super) fn lines(pods: &Pods, now: Instant) -> (Vec<Line>, usize) {
    let mut groups: BTreeMap<(u32, &Attribution, &str), Group> = BTreeMap::new();
    for (name, pod) in pods.iter().filter(|(_, pod)| !pod.gone_for_long) {
        let place = match pod.release.release() {
            Some(Release::Stable) => 0,
            Some(Release::Canary) => 1,
            None => 2,
        };
        let group = groups.entry((place, &pod.release, version(name, pod))).or_default();
        group.pods.push((name, pod));
    }
    let known: Vec<_> = groups.values().map(Group::labels).filter(|(_, known)| *known > 0).collect();
    // with one version, there is no other to tell it from
    let everywhere = match known.split_first() {
        Some(((first, _), others)) if !others.is_empty() => {
            let in_all = |label: &&(&str, &str)| others.iter().all(|(labels, _)| labels.contains_key(*label));
            first.keys().filter(in_all).copied().collect()
        }
        _ => BTreeSet::new(),
    };
    let mut all: Vec<_> =
        groups.iter().map(|((place, release, _), group)| (*place, *release, group)).collect();
    // those that answer first
    all.sort_by_key(|(place, _, group)| (*place, group.present() == 0));
    // one of each place comes before a second one
    let mut seen = BTreeSet::new();
    let (mut first, second): (Vec<_>, Vec<_>) =
        all.into_iter().partition(|(place, _, _)| seen.insert(*place));
    first.extend(second);
    let more = first.len().saturating_sub(MOST_LINES);
    // the last line says how many there are besides
    first.truncate(if more > 0 { MOST_LINES - 1 } else { MOST_LINES });
    let more = if more > 0 { more + 1 } else { 0 };
    first.sort_by_key(|(place, _, group)| (*place, group.present() == 0));
    (first.into_iter().map(|(_, release, group)| group.line(release, &everywhere, now)).collect(), more)
}

#[cfg(test)]
mod tests {
    use appinfo::{app_info::AppInfo, labels::Labels};
    use canary_judge::{Outcome, Settings};

    use super::*;
    use crate::{
        source::{Answer, Observation, Response},
        trial::{Coverage, Trial},
    };

    fn trial() -> Trial {
        Trial::new(Settings::default(), None, Coverage::Sample, Instant::now())
    }

    fn answer(trial: &mut Trial, pod: &str, labels: &str, fails: bool) {
        let info = AppInfo::new(pod, "", &Labels::parse(labels.as_bytes()));
        let answer = Answer {
            attribution: Attribution::of_answer(Some(&info.release)),
            outcome: if fails { Outcome::Failure } else { Outcome::Success },
            status: None,
            latency: None,
            pod: Some(pod.to_owned()),
            info: (!fails).then_some(info),
        };
        let number = trial.tally().total().requests;
        trial.observe(&Observation {
            number,
            sent: Instant::now(),
            started: None,
            stratum: None,
            response: Response::Answer(answer),
        });
    }

    fn shown(trial: &Trial) -> Vec<String> {
        let (lines, more) = lines(trial.tally().pods(), Instant::now());
        let text = |line: &Line| {
            let labels: Vec<_> = line
                .labels
                .iter()
                .map(|it| format!("{}{}", if it.changed { "!" } else { "" }, it.text))
                .collect();
            format!(
                "{} {} {} {}/{}: {}",
                line.pods,
                line.release,
                line.name,
                line.failures,
                line.requests,
                labels.join(" ")
            )
        };
        lines.iter().map(text).chain((more > 0).then(|| format!("{more} more"))).collect()
    }

    #[test]
    fn a_version_has_one_line_with_the_labels_that_differ() {
        let mut trial = trial();
        for pod in ["app-567b-aa", "app-567b-ab", "app-567b-xc"] {
            answer(&mut trial, pod, "release=stable\npod-template-hash=567b\nteam=a", false);
        }
        assert_eq!(shown(&trial), ["3 stable app-567b-… 0/3: namespace=none pod-template-hash=567b team=a"]);
        answer(&mut trial, "app-canary-c666-bb", "release=canary\npod-template-hash=c666\nteam=a", true);
        assert_eq!(shown(&trial)[1], "1 canary app-canary-c666-bb 1/1: ");
        answer(&mut trial, "app-canary-c666-bb", "release=canary\npod-template-hash=c666\nteam=a", false);
        answer(
            &mut trial,
            "app-canary-c666-bb",
            "release=canary\npod-template-hash=c666\nteam=a\nfault=5",
            false,
        );
        answer(&mut trial, "app-567b-aa", "release=stable\npod-template-hash=567b\nteam=a\nnew=1", false);
        assert_eq!(
            shown(&trial),
            [
                "3 stable app-567b-… 0/4: !new=1 (1 of 3) pod-template-hash=567b",
                "1 canary app-canary-c666-bb 1/3: !fault=5 pod-template-hash=c666",
            ]
        );
        answer(&mut trial, "app-canary-c666-bb", "release=canary\npod-template-hash=c666\nteam=a", false);
        assert_eq!(
            shown(&trial)[1],
            "1 canary app-canary-c666-bb 1/4: !fault removed pod-template-hash=c666"
        );
    }

    #[test]
    fn many_pods_and_versions_do_not_take_more_lines() {
        let mut trial = trial();
        let long = "n".repeat(52);
        for pod in 0..97 {
            answer(
                &mut trial,
                &format!("{long}-567b-{pod:05}"),
                "release=stable\npod-template-hash=567b",
                false,
            );
        }
        for pod in 0..3 {
            answer(&mut trial, &format!("c-{pod}-x"), "release=canary", true);
        }
        let shown = shown(&trial);
        assert_eq!(shown.len(), MOST_LINES);
        assert!(shown[0].starts_with(&format!("97 stable {long}-567b-000…")), "{}", shown[0]);
        assert_eq!(shown[2], "2 more");
    }
}
