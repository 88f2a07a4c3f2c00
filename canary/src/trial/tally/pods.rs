//! The pods that answer: which ones are present, and their releases and labels.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use super::{count_of, share};
use crate::source::{Answer, Attribution};
use canary_judge::Counts;

/// A pod counts as gone after this many answers from other pods, for each pod that is present. With n pods, the
/// probability to miss a present pod that long is (1 − 1/n)^(10 n), at most e^−10 = 1 in 22,000.
const ANSWERS_UNTIL_GONE: u64 = 10;
/// The least number of such answers, for when there are few pods: with two pods, the probability is 2^−40.
const FEWEST_UNTIL_GONE: u64 = 40;
/// A pod with less traffic than others, such as a canary with a small weight, counts as gone after this multiple of the
/// usual number of answers from one of its answers to the next. The probability to miss it is less than 1 in 10,000 each time,
/// also because that number is an estimate from few answers.
const GAPS_UNTIL_GONE: u64 = 16;
/// The last answers that the estimate rests on, about.
const GAPS: u64 = 8;
/// The estimate for a pod that has answered once: it may have so small a share.
const FIRST_GAP: u64 = 64;
/// A pod counts as gone for long after this multiple of that number of answers.
const GONE_FOR_LONG: u64 = 10;

/// The most pods that are kept. At this number, pods that are gone for long are removed. The names come from the
/// service, so without a bound they could fill the memory.
const MOST_PODS: usize = 500;
/// The labels of so many pods are kept. More do not fit on a page or in a terminal.
const MOST_WITH_LABELS: usize = 64;
/// So many changed labels of a pod are marked.
const MOST_CHANGED: usize = 16;
/// A sweep for pods that are gone comes after this many answers, or after as many answers as there are pods if
/// that is more. The time of a sweep grows with the number of pods.
const ANSWERS_UNTIL_SWEEP: usize = 10;

/// A pod, known from its answers.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct SeenPod {
    /// The release in its last answer.
    pub release: Attribution,
    /// The namespace in its last answer that had one; empty if unknown.
    pub namespace: String,
    /// The labels in its last answer that had labels, without `app` and `release`.
    pub labels: BTreeMap<String, String>,
    /// The time at which each label last changed, appeared or vanished. `release` is among these labels.
    #[serde(skip)]
    pub changed: BTreeMap<String, Instant>,
    /// The counts of its answers.
    pub counts: Counts,
    /// Whether it still answers.
    pub present: bool,
    /// Whether it has not answered for so long that a picture may leave it out.
    pub gone_for_long: bool,
    its_labels: ItsLabels,
    last_answer: u64,
    /// [`GAPS`] times the usual number of answers of all pods from one of its answers to the next: a mean in which older
    /// ones weigh less and less.
    #[serde(default = "first_gaps")]
    gaps: u64,
}

const fn first_gaps() -> u64 {
    GAPS * FIRST_GAP
}

impl SeenPod {
    /// The labels that have changed less than `age` before `now`, including labels that have vanished.
    pub fn changed_within(&self, age: Duration, now: Instant) -> impl Iterator<Item = &str> {
        self.changed
            .iter()
            .filter(move |(_, at)| now.saturating_duration_since(**at) < age)
            .map(|(label, _)| label.as_str())
    }
}

/// What is known of a pod's labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
enum ItsLabels {
    /// No answer had labels. Failures have none.
    None,
    Kept,
    /// There are too many pods with labels.
    LeftOut,
}

/// The pods that have answered, by name.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Pods {
    by_name: BTreeMap<String, SeenPod>,
    answers: u64,
    /// What was known of pods before the trial began anew, until their labels are told again.
    #[serde(skip)]
    before: BTreeMap<String, Before>,
}

/// A pod's labels before the trial began anew, and when they had changed.
#[derive(Clone, Debug)]
struct Before {
    labels: BTreeMap<String, String>,
    changed: BTreeMap<String, Instant>,
}

impl Pods {
    /// All known pods, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &SeenPod)> {
        self.by_name.iter().map(|(name, pod)| (name.as_str(), pod))
    }

    /// The number of pods that still answer.
    pub fn present(&self) -> usize {
        self.by_name.values().filter(|pod| pod.present).count()
    }

    /// The share of traffic that a release gets if all pods get the same traffic, from 0 to 1. One canary pod
    /// beside n other pods gets 1/(n+1). `None` while no pod is known.
    pub fn expected_share(&self, release: &Attribution) -> Option<f64> {
        let of_release = self.by_name.values().filter(|pod| pod.present && pod.release == *release).count();
        share(count_of(of_release), count_of(self.present()))
    }

    /// No pods, but a label that is not as it was counts as changed, and one that had changed lately still does: a trial
    /// often begins anew because of it.
    pub(super) fn anew(&self) -> Self {
        let known = self.by_name.iter().filter(|(_, pod)| pod.present && !pod.labels.is_empty());
        let before = known.map(|(name, SeenPod { labels, changed, .. })| {
            (name.clone(), Before { labels: labels.clone(), changed: changed.clone() })
        });
        Self { before: before.collect(), ..Self::default() }
    }

    pub(super) fn observe(&mut self, at: Instant, answer: &Answer) {
        let Some(name) = &answer.pod else { return };
        self.answers += 1;
        let release = answer.attribution.clone();
        if let Some(pod) = self.by_name.get_mut(name) {
            if pod.release != release {
                pod.changed.insert("release".to_owned(), at);
            }
            pod.release = release;
            pod.gaps = pod.gaps - pod.gaps / GAPS + (self.answers - pod.last_answer);
        } else if self.by_name.len() < MOST_PODS {
            self.by_name.insert(name.clone(), SeenPod::new(release));
        }
        let first_labels = answer.info.is_some()
            && self.by_name.get(name).is_some_and(|pod| pod.its_labels == ItsLabels::None);
        let room = first_labels && self.with_labels() < MOST_WITH_LABELS;
        let before = if first_labels { self.before.remove(name) } else { None };
        if let Some(pod) = self.by_name.get_mut(name) {
            if first_labels {
                pod.its_labels = if room { ItsLabels::Kept } else { ItsLabels::LeftOut };
            }
            let is_first = first_labels && before.is_none();
            if let Some(Before { labels, changed }) = before {
                pod.labels = labels;
                pod.changed.extend(changed);
            }
            pod.update(at, answer, is_first);
            pod.last_answer = self.answers;
            (pod.present, pod.gone_for_long) = (true, false);
        }
        if self.answers.is_multiple_of(count_of(self.by_name.len().max(ANSWERS_UNTIL_SWEEP))) {
            self.sweep();
        }
    }

    /// The number of pods whose labels are kept.
    fn with_labels(&self) -> usize {
        self.by_name.values().filter(|pod| pod.its_labels == ItsLabels::Kept).count()
    }

    /// Finds the pods that are gone.
    fn sweep(&mut self) {
        let present = count_of(self.present());
        let until_gone = ANSWERS_UNTIL_GONE.saturating_mul(present).max(FEWEST_UNTIL_GONE);
        for pod in self.by_name.values_mut() {
            let missed = self.answers - pod.last_answer;
            let until_gone = until_gone.max(GAPS_UNTIL_GONE * (pod.gaps / GAPS));
            pod.present &= missed <= until_gone;
            pod.gone_for_long = missed > until_gone.saturating_mul(GONE_FOR_LONG);
        }
        if self.by_name.len() >= MOST_PODS {
            self.by_name.retain(|_, pod| !pod.gone_for_long);
        }
    }
}

impl SeenPod {
    fn new(release: Attribution) -> Self {
        Self {
            release,
            namespace: String::new(),
            labels: BTreeMap::new(),
            changed: BTreeMap::new(),
            counts: Counts::default(),
            present: true,
            gone_for_long: false,
            its_labels: ItsLabels::None,
            last_answer: 0,
            gaps: first_gaps(),
        }
    }

    fn update(&mut self, at: Instant, answer: &Answer, is_first: bool) {
        self.counts.record(answer.outcome);
        let Some(info) = &answer.info else { return };
        self.namespace.clone_from(&info.namespace);
        if self.its_labels == ItsLabels::LeftOut {
            return;
        }
        if !is_first {
            let keys = self.labels.keys().chain(info.labels.keys());
            let changed = keys.filter(|key| self.labels.get(*key) != info.labels.get(*key));
            let changed: Vec<_> = changed.take(MOST_CHANGED).map(|key| (key.clone(), at)).collect();
            self.changed.extend(changed);
            if self.changed.len() > 2 * MOST_CHANGED {
                self.changed.retain(|_, changed| *changed == at); // they change all the time
            }
        }
        self.labels.clone_from(&info.labels);
    }
}

#[cfg(test)]
mod tests {
    use appinfo::{app_info::AppInfo, labels::Labels};

    use super::*;
    use canary_judge::{Outcome, Release};

    const CANARY: Attribution = Attribution::Release(Release::Canary);

    fn answer(pod: &str, labels: &str) -> Answer {
        let info = AppInfo::new(pod, "space", &Labels::parse(labels.as_bytes()));
        Answer {
            attribution: Attribution::of_answer(Some(&info.release)),
            outcome: Outcome::Success,
            status: None,
            latency: None,
            pod: Some(pod.to_owned()),
            info: Some(info),
        }
    }

    fn named<'a>(pods: &'a Pods, name: &str) -> &'a SeenPod {
        pods.iter().find(|(known, _)| *known == name).expect("a pod of that name").1
    }

    #[test]
    fn labels_that_appear_change_or_vanish_count_as_changed_for_a_while() {
        let (mut pods, start) = (Pods::default(), Instant::now());
        let second = Duration::from_secs(1);
        pods.observe(start, &answer("one", "release=stable\na=1\nb=1"));
        assert_eq!(named(&pods, "one").changed.len(), 0, "a label that is new to us has not changed");
        pods.observe(start + second, &answer("one", "release=canary\na=1\nb=2\nc=1"));
        pods.observe(start + 2 * second, &answer("one", "release=canary\nb=2\nc=1"));
        let pod = named(&pods, "one");
        let within = |age| pod.changed_within(age, start + 3 * second).collect::<Vec<_>>();
        assert_eq!(within(10 * second), ["a", "b", "c", "release"]);
        assert_eq!(within(2 * second), ["a"]);
        assert_eq!((pod.namespace.as_str(), &pod.release), ("space", &CANARY));
    }

    #[test]
    fn a_label_that_changes_while_the_trial_begins_anew_counts_as_changed() {
        let (mut pods, now) = (Pods::default(), Instant::now());
        pods.observe(now, &answer("one", "release=canary\na=1"));
        pods.observe(now, &answer("two", "release=canary\na=1"));
        let mut anew = pods.anew();
        anew.observe(now, &answer("one", "release=canary\na=1\nfault-percent=5"));
        anew.observe(now, &answer("two", "release=canary\na=1"));
        anew.observe(now, &answer("three", "release=canary\na=1"));
        let changed = |name| named(&anew, name).changed.keys().cloned().collect::<Vec<_>>();
        assert_eq!(changed("one"), ["fault-percent"]);
        assert_eq!((changed("two").len(), changed("three").len()), (0, 0));
        assert_eq!((named(&anew, "one").counts.requests, anew.before.len()), (1, 0));
    }

    #[test]
    fn a_label_that_has_changed_just_before_the_trial_begins_anew_still_counts_as_changed() {
        let (mut pods, now) = (Pods::default(), Instant::now());
        pods.observe(now, &answer("one", "release=canary\na=1"));
        pods.observe(now, &answer("one", "release=canary\na=1\nfault-percent=5"));
        let (mut anew, later) = (pods.anew(), now + Duration::from_secs(9));
        anew.observe(later, &answer("one", "release=canary\na=1\nfault-percent=5"));
        let within = |seconds| -> Vec<_> {
            named(&anew, "one").changed_within(Duration::from_secs(seconds), later).collect()
        };
        assert_eq!(within(10), ["fault-percent"]);
        assert_eq!(within(9), [""; 0], "it has not changed again");
    }

    #[test]
    fn labels_that_change_all_the_time_and_labels_of_many_pods_are_not_kept() {
        let (mut pods, now) = (Pods::default(), Instant::now());
        for number in 0..1000 {
            pods.observe(
                now + Duration::from_secs(number),
                &answer("one", &format!("release=stable\na{number}=1")),
            );
        }
        assert!(named(&pods, "one").changed.len() <= 2 * MOST_CHANGED);
        for number in 0..MOST_PODS {
            pods.observe(now, &answer(&format!("pod{number}"), "release=stable\na=1"));
        }
        assert_eq!(pods.iter().filter(|(_, pod)| !pod.labels.is_empty()).count(), MOST_WITH_LABELS);
    }

    #[test]
    fn the_first_labels_after_failures_do_not_count_as_changed() {
        let (mut pods, now) = (Pods::default(), Instant::now());
        pods.observe(
            now,
            &Answer { outcome: Outcome::Failure, info: None, ..answer("one", "release=stable") },
        );
        pods.observe(now, &answer("one", "release=stable\na=1"));
        let pod = named(&pods, "one");
        assert_eq!((pod.labels.len(), pod.changed.len()), (1, 0));
    }

    #[test]
    fn a_failed_answer_does_not_change_the_known_labels() {
        let (mut pods, now) = (Pods::default(), Instant::now());
        pods.observe(now, &answer("one", "release=stable\na=1"));
        pods.observe(
            now,
            &Answer { outcome: Outcome::Failure, info: None, ..answer("one", "release=stable") },
        );
        let pod = named(&pods, "one");
        assert_eq!((pod.labels.len(), pod.changed.len()), (1, 0));
        assert_eq!(pod.counts, Counts { requests: 2, failures: 1, slow: 0 });
    }

    #[test]
    fn one_canary_beside_n_pods_has_an_expected_share_of_1_in_n_plus_1_until_it_is_gone() {
        let (mut pods, now) = (Pods::default(), Instant::now());
        assert_eq!(pods.expected_share(&CANARY), None);
        let round = |pods: &mut Pods, names: &[&str]| {
            for name in names {
                let release = if *name == "the-canary" { "release=canary" } else { "release=stable" };
                pods.observe(now, &answer(name, release));
            }
        };
        for _ in 0..30 {
            round(&mut pods, &["the-canary", "one", "two", "three"]);
        }
        assert_eq!(pods.expected_share(&CANARY), Some(0.25));
        for _ in 0..40 {
            round(&mut pods, &["one", "two", "three"]);
        }
        assert_eq!(pods.expected_share(&CANARY), Some(0.0));
        assert!(!named(&pods, "the-canary").present, "it is still listed");
        for _ in 0..1000 {
            pods.observe(now, &answer("one", "release=stable"));
        }
        assert!(named(&pods, "the-canary").gone_for_long);
        assert_eq!(named(&pods, "the-canary").counts.requests, 30, "its counts are kept");
        pods.observe(now, &answer("the-canary", "release=canary"));
        assert!(named(&pods, "the-canary").present && !named(&pods, "the-canary").gone_for_long);
    }

    /// Its answers come at random, as a gateway with weights sends requests.
    #[test]
    fn a_canary_with_a_small_share_is_there_until_it_is_gone() {
        let mut random = fastrand::Rng::with_seed(1);
        let now = Instant::now();
        for share in [0.01, 0.02, 0.1, 0.5] {
            let (mut pods, mut gone) = (Pods::default(), 0);
            for _ in 0..20_000 {
                let is_canary = random.f64() < share;
                let stable = ["one", "two", "three"][random.usize(0..3)];
                let (pod, release) =
                    if is_canary { ("the-canary", "release=canary") } else { (stable, "release=stable") };
                pods.observe(now, &answer(pod, release));
                gone += usize::from(pods.iter().any(|(_, pod)| !pod.present));
            }
            assert_eq!(gone, 0, "with {share} of the answers, a pod seemed to be gone {gone} times");
            // a real end is seen after about 16 of its usual gaps
            for _ in 0..4000 {
                pods.observe(now, &answer("one", "release=stable"));
            }
            assert!(!named(&pods, "the-canary").present, "{share}");
        }
    }

    #[test]
    fn pods_that_are_gone_are_removed_when_there_are_too_many() {
        let (mut pods, now) = (Pods::default(), Instant::now());
        for number in 0..3 * MOST_PODS {
            for pod in ["one", &format!("pod-{number}")] {
                pods.observe(now, &answer(pod, "release=stable"));
            }
        }
        assert_eq!(pods.iter().count(), MOST_PODS, "the first pods are kept");
        for _ in 0..200_000 {
            pods.observe(now, &answer("one", "release=stable"));
        }
        pods.observe(now, &answer("new", "release=stable"));
        assert!(pods.iter().count() < MOST_PODS, "{}", pods.iter().count());
        let there = pods.iter().filter(|(_, pod)| pod.present);
        let there: Vec<_> = there.map(|(name, pod)| (name, pod.counts.requests)).collect();
        assert_eq!(there, [("new", 1), ("one", 3 * count_of(MOST_PODS) + 200_000)]);
    }
}
