//! The pods of both releases, as the API server last told them: which of them are asked, and how they are.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::Arc,
    time::Instant,
};

use appinfo::app_info::AppInfo;
use canary_judge::Release;

use super::{
    objects::{Endpoint, Pod, Wanted},
    workload::{Labels, Rule},
};
use crate::{
    foreign,
    source::{Health, shown},
};

/// A pod that may be asked.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub(super) release: Release,
    pub(super) name: String,
    pub(super) address: Option<IpAddr>,
    pub(super) endpoint: Endpoint,
    pub(super) info: AppInfo,
    /// Since when it is ready, without regard to times at which it was not, or since it is ready again after a restart.
    pub(super) started: Option<Instant>,
}

/// A pod that is known.
#[derive(Debug)]
struct Known {
    name: String,
    release: Release,
    candidate: Result<Arc<Candidate>, String>,
    /// Whether it has been ready since it is known.
    was_ready: bool,
    /// As of the candidate.
    started: Option<Instant>,
    /// Since when it is not ready.
    unready: Option<Instant>,
    reason: String,
    /// Whether it is to be deleted. From then on no request goes to it.
    leaves: bool,
    /// Whether its containers have ended for good.
    ended: bool,
    restarts: u64,
}

impl Known {
    fn is_asked(&self) -> bool {
        self.was_ready && !self.leaves && !self.ended && self.candidate.is_ok()
    }

    fn is_there(&self) -> bool {
        !self.leaves && !self.ended
    }
}

/// All known pods, by the list that they are in and their UID.
#[derive(Debug)]
pub(super) struct Roster {
    namespace: String,
    wanted: Wanted,
    known: HashMap<(usize, String), Known>,
    /// Which lists were read for the first time. What they held then has not restarted in this trial.
    listed: Vec<usize>,
    /// Restarts of the canary's pods since they were last told.
    restarts: u64,
    /// Since when the canary has no pod at all.
    missing: Option<Instant>,
    told: Option<(Option<Instant>, Option<String>)>,
}

impl Roster {
    pub(super) fn new(namespace: &str, wanted: Wanted) -> Self {
        Self {
            namespace: namespace.to_owned(),
            wanted,
            known: HashMap::new(),
            listed: Vec::new(),
            restarts: 0,
            missing: None,
            told: None,
        }
    }

    /// Replaces what is known of a list.
    pub(super) fn replace(&mut self, list: usize, pods: &[Pod], rule: &Rule, now: Instant) {
        let there: Vec<&str> = pods.iter().map(|pod| pod.metadata.uid.as_str()).collect();
        self.known.retain(|(of, uid), _| *of != list || there.contains(&uid.as_str()));
        for pod in pods {
            self.update(list, pod, rule, now);
        }
        if !self.listed.contains(&list) {
            self.listed.push(list);
        }
    }

    /// Updates a pod.
    pub(super) fn update(&mut self, list: usize, pod: &Pod, rule: &Rule, now: Instant) {
        let key = (list, pod.metadata.uid.clone());
        let none = Labels::new();
        let labels = pod.metadata.labels.as_ref().unwrap_or(&none);
        let Some(release) = rule.release(labels, pod.metadata.owner()) else {
            self.known.remove(&key);
            return;
        };
        let before = self.known.remove(&key);
        let (restarts, ended, ready) = (pod.restarts(), pod.has_ended(), pod.is_ready());
        // a pod that is new has restarted before it was seen; one of the first list has done so before the trial
        let is_first = before.is_none() && !self.listed.contains(&list);
        let (restarts_before, ended_before) = match &before {
            Some(before) => (before.restarts, before.ended),
            None if is_first => (restarts, ended),
            None => (0, false),
        };
        if release == Release::Canary {
            self.restarts += restarts.saturating_sub(restarts_before) + u64::from(ended && !ended_before);
        }
        let same = before.as_ref().filter(|before| before.restarts == restarts);
        let started = same.and_then(|before| before.started).or_else(|| ready.then(|| pod.ready_since(now)));
        let was_ready = ready || before.as_ref().is_some_and(|before| before.was_ready);
        let unready = (!ready).then(|| before.and_then(|before| before.unready).unwrap_or(now));
        let endpoint = pod.endpoint(&self.wanted).map_err(|why| shown::text(&why));
        let candidate = endpoint.map(|endpoint| {
            Arc::new(Candidate {
                release,
                name: pod.metadata.name.clone(),
                address: pod.address(),
                endpoint,
                info: self.info(&pod.metadata.name, release, labels),
                started,
            })
        });
        let known = Known {
            name: foreign::bounded(&pod.metadata.name, foreign::NAME),
            release,
            candidate,
            was_ready,
            started,
            unready,
            reason: foreign::bounded(pod.reason(), foreign::LABEL),
            leaves: pod.metadata.deletion_timestamp.is_some(),
            ended,
            restarts,
        };
        self.known.insert(key, known);
    }

    /// Forgets a pod that is gone.
    pub(super) fn remove(&mut self, list: usize, uid: &str) {
        self.known.remove(&(list, uid.to_owned()));
    }

    fn info(&self, pod: &str, release: Release, labels: &Labels) -> AppInfo {
        let others = labels.iter().filter(|(key, _)| !matches!(key.as_str(), "app" | "release"));
        foreign::bounded_info(&AppInfo {
            pod_name: pod.to_owned(),
            app_name: labels.get("app").cloned().unwrap_or_default(),
            namespace: self.namespace.clone(),
            release: release.to_string(),
            labels: others.map(|(key, value)| (key.clone(), value.clone())).collect::<BTreeMap<_, _>>(),
        })
    }

    /// A pod of this release at random; `None` if none is asked.
    pub(super) fn choose(&self, release: Release) -> Option<Arc<Candidate>> {
        let asked = self.known.values().filter(|one| one.release == release && one.is_asked());
        let asked: Vec<_> = asked.filter_map(|one| one.candidate.as_ref().ok()).collect();
        fastrand::choice(asked).cloned()
    }

    /// The number of pods of a release that are there.
    pub(super) fn count(&self, release: Release) -> usize {
        self.known.values().filter(|one| one.release == release && one.is_there()).count()
    }

    /// Where the pods of a release are asked: the first one that is there. `None` if there is none.
    pub(super) fn endpoint(&self, release: Release) -> Option<Result<&Endpoint, &str>> {
        let mut there: Vec<_> =
            self.known.values().filter(|one| one.release == release && one.is_there()).collect();
        there.sort_by(|a, b| a.name.cmp(&b.name));
        let candidate = there.first()?.candidate.as_ref();
        Some(candidate.map(|one| &one.endpoint).map_err(String::as_str))
    }

    /// What has changed about the canary's pods since the last call; `None` if nothing has.
    pub(super) fn health(&mut self, now: Instant) -> Option<Health> {
        if self.count(Release::Canary) > 0 {
            self.missing = None;
        } else {
            self.missing.get_or_insert(now);
        }
        let canary = self.known.values().filter(|one| one.release == Release::Canary && one.is_there());
        let unready = canary.filter_map(|one| Some((one.unready?, one))).min_by_key(|(since, _)| *since);
        let (since, pod) = match (self.missing, unready) {
            (Some(since), _) => (Some(since), None),
            (None, Some((since, one))) => (Some(since), Some(one.name.clone())),
            (None, None) => (None, None),
        };
        let restarts = std::mem::take(&mut self.restarts);
        let news = (since, pod);
        if restarts == 0 && self.told.as_ref() == Some(&news) {
            return None;
        }
        self.told = Some(news.clone());
        Some(Health { at: now, restarts, unready: news.0, pod: news.1 })
    }

    /// Why no request goes to a release; `None` if one of its pods is asked.
    pub(super) fn trouble(&self, release: Release) -> Option<String> {
        let mut there: Vec<_> =
            self.known.values().filter(|one| one.release == release && one.is_there()).collect();
        if there.iter().any(|one| one.is_asked()) {
            return None;
        }
        there.sort_by(|a, b| a.name.cmp(&b.name));
        let Some(first) = there.first() else { return Some("there is no pod".to_owned()) };
        let name = &first.name;
        if let Err(why) = &first.candidate {
            return Some(format!("{name}: {why}"));
        }
        let reason = if first.reason.is_empty() { String::new() } else { format!(" ({})", first.reason) };
        Some(match there.len() {
            1 => format!("its pod {name} is not ready{reason}"),
            more => format!("none of its {more} pods is ready, such as {name}{reason}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const NAMES: [&str; 2] = ["stable-1", "canary-1"];

    fn pod(name: &str, change: &[(&str, Value)]) -> Pod {
        let track = name.split('-').next().expect("a name");
        let mut pod = json!({
            "metadata": {"name": name, "uid": name, "labels": {"track": track}},
            "spec": {"containers": [{"ports": [{"containerPort": 80}]}]},
            "status": {
                "phase": "Running",
                "podIP": "10.0.0.1",
                "conditions": [{"type": "Ready", "status": "True"}],
                "containerStatuses": [{"restartCount": 0}],
            },
        });
        for (path, value) in change {
            *pod.pointer_mut(path).unwrap_or_else(|| panic!("{path}")) = value.clone();
        }
        serde_json::from_value(pod).expect("a pod")
    }

    fn rule() -> Rule {
        Rule::Selected("track=canary".parse().expect("a selector"))
    }

    fn roster(pods: &[Pod], now: Instant) -> Roster {
        let mut roster = Roster::new("shop", Wanted::default());
        roster.replace(0, pods, &rule(), now);
        roster
    }

    fn unready() -> (&'static str, Value) {
        ("/status/conditions/0/status", json!("False"))
    }

    fn leaving(name: &str) -> Pod {
        pod(
            name,
            &[(
                "/metadata",
                json!({
                    "name": name, "uid": name, "labels": {"track": "canary"}, "deletionTimestamp": "2026-11-29T06:00:00Z",
                }),
            )],
        )
    }

    #[test]
    fn a_pod_is_asked_from_its_first_readiness_until_it_is_to_be_deleted_or_has_ended() {
        let now = Instant::now();
        let mut roster = roster(&[pod("canary-1", &[unready()])], now);
        let asked = |roster: &Roster| roster.choose(Release::Canary).is_some();
        assert!(!asked(&roster), "it has not been ready");
        roster.update(0, &pod("canary-1", &[]), &rule(), now);
        assert!(asked(&roster));
        roster.update(0, &pod("canary-1", &[unready()]), &rule(), now);
        assert!(asked(&roster), "its failures must count");
        roster.update(0, &leaving("canary-1"), &rule(), now);
        assert!(!asked(&roster), "it is to be deleted");
        roster.update(0, &pod("canary-2", &[]), &rule(), now);
        assert!(asked(&roster));
        roster.update(0, &pod("canary-2", &[("/status/phase", json!("Failed"))]), &rule(), now);
        assert!(!asked(&roster), "it was evicted");
        assert_eq!(roster.trouble(Release::Canary).as_deref(), Some("there is no pod"));
    }

    #[test]
    fn a_pod_starts_when_it_is_first_ready_and_again_when_it_is_ready_after_a_restart() {
        let (now, second) = (Instant::now(), std::time::Duration::from_secs(1));
        let ready_since = |age: u32| {
            let since = std::time::SystemTime::now() - age * second;
            let since = humantime::format_rfc3339_seconds(since).to_string();
            ("/status/conditions/0", json!({"type": "Ready", "status": "True", "lastTransitionTime": since}))
        };
        let restarted = ("/status/containerStatuses/0/restartCount", json!(1));
        let mut roster = roster(&[pod("canary-1", &[ready_since(90)])], now);
        let age = |roster: &Roster, at: u32| {
            let started = roster.choose(Release::Canary).expect("it is asked").started;
            started.map(|started| (now + at * second).duration_since(started).as_secs())
        };
        assert!(age(&roster, 0).is_some_and(|age| (90..=91).contains(&age)), "it was there before");
        roster.update(0, &pod("canary-1", &[unready()]), &rule(), now + second);
        roster.update(0, &pod("canary-1", &[ready_since(0)]), &rule(), now + 2 * second);
        assert!(age(&roster, 2).is_some_and(|age| age >= 92), "it has only been unready for a moment");
        roster.update(0, &pod("canary-1", &[unready(), restarted.clone()]), &rule(), now + 3 * second);
        assert_eq!(age(&roster, 3), None, "it has not started yet");
        roster.update(0, &pod("canary-1", &[restarted]), &rule(), now + 9 * second);
        assert_eq!(age(&roster, 9), Some(0));
    }

    #[test]
    fn restarts_count_from_the_first_list_on_and_those_of_new_pods_from_the_beginning() {
        let now = Instant::now();
        let restarted =
            |name, times: u64| pod(name, &[("/status/containerStatuses/0/restartCount", json!(times))]);
        let mut roster = roster(&[restarted("canary-1", 7), restarted("stable-1", 2)], now);
        let restarts = |roster: &mut Roster| roster.health(now).map(|health| health.restarts);
        assert_eq!(restarts(&mut roster), Some(0), "those were before the trial");
        roster.update(0, &restarted("canary-1", 9), &rule(), now);
        roster.update(0, &restarted("stable-1", 5), &rule(), now);
        roster.update(0, &restarted("canary-2", 1), &rule(), now);
        assert_eq!(restarts(&mut roster), Some(3));
        assert_eq!(restarts(&mut roster), None, "nothing is new");
        roster.update(0, &pod("canary-3", &[("/status/phase", json!("Failed"))]), &rule(), now);
        assert_eq!(restarts(&mut roster), Some(1), "a pod that was evicted");
    }

    #[test]
    fn the_time_without_readiness_is_that_of_the_canarys_pod_that_waits_longest_or_of_no_pod() {
        let (now, second) = (Instant::now(), std::time::Duration::from_secs(1));
        let mut roster = roster(&NAMES.map(|name| pod(name, &[])), now);
        let since = |roster: &mut Roster, at: u32| {
            roster.health(now + at * second).map(|health| (health.unready, health.pod))
        };
        assert_eq!(since(&mut roster, 0), Some((None, None)));
        roster.update(0, &pod("stable-1", &[unready()]), &rule(), now);
        assert_eq!(since(&mut roster, 1), None, "stable may be as it is");
        let one = Some("canary-1".to_owned());
        roster.update(0, &pod("canary-1", &[unready()]), &rule(), now + second);
        roster.update(0, &pod("canary-2", &[unready()]), &rule(), now + 2 * second);
        roster.update(0, &pod("canary-1", &[unready()]), &rule(), now + 3 * second);
        assert_eq!(since(&mut roster, 3), Some((Some(now + second), one)));
        roster.remove(0, "canary-1");
        roster.update(0, &leaving("canary-2"), &rule(), now);
        assert_eq!(since(&mut roster, 4), Some((Some(now + 4 * second), None)), "there is no canary");
        roster.update(0, &pod("canary-3", &[]), &rule(), now);
        assert_eq!(since(&mut roster, 5), Some((None, None)));
    }

    #[test]
    fn a_list_forgets_what_is_gone_and_leaves_other_lists_alone() {
        let now = Instant::now();
        let mut roster = roster(&NAMES.map(|name| pod(name, &[])), now);
        roster.replace(1, &[pod("canary-9", &[])], &rule(), now);
        roster.replace(0, &[pod("stable-2", &[])], &rule(), now);
        let mut names: Vec<_> = roster.known.values().map(|one| one.name.as_str()).collect();
        names.sort_unstable();
        assert_eq!(names, ["canary-9", "stable-2"]);
    }
}
