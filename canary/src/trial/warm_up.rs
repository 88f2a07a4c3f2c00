//! When pods have started, so that the answers of new ones can be left out (`--warm-up`).
//!
//! Where the source does not tell when a pod has started, it is its first answer that was seen, and without the names of
//! pods the first answer of its release. Both releases are treated alike, and what is left out depends on the pod and the
//! time only: the judge's promises need that.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use canary_judge::Release;
use serde::{Deserialize, Serialize};

use crate::source::{CountedWindow, Interval, Observation};

/// The pods of a trial that have answered.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(super) struct WarmUps {
    /// When each pod's first and last answers were asked for.
    #[serde(with = "crate::moment")]
    pods: BTreeMap<String, (Instant, Instant)>,
    /// The same of the first answers of releases.
    #[serde(with = "crate::moment")]
    stable: Option<Instant>,
    #[serde(with = "crate::moment")]
    canary: Option<Instant>,
    /// Since when answers of the canary are left out.
    #[serde(with = "crate::moment")]
    began: Option<Instant>,
}

/// The maximum number of pods. Their names come from the service. The age of another one is that of its release.
const MOST_PODS: usize = 128;
/// A pod gives way to another one if its last answer is older than this.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(600);
/// A canary can be rolled back by its warm-up once answers have been left out for this part of it.
const TRUSTED_AFTER: u32 = 2;

impl WarmUps {
    /// For another canary.
    pub(super) fn reset(&mut self) {
        (self.canary, self.began) = (None, None);
    }

    /// Whether the pod of a request had started less than `time` before it was sent.
    pub(super) fn of_request(&mut self, observation: &Observation, time: Duration) -> bool {
        let sent = observation.sent;
        let release = observation.attributed().and_then(|(attribution, _)| attribution.release());
        let started = observation.started.or_else(|| self.first_answer(observation.pod()?, sent));
        let of_release = release.map(|release| {
            let first = match release {
                Release::Stable => &mut self.stable,
                Release::Canary => &mut self.canary,
            };
            let candidate = observation.started.unwrap_or(sent);
            *first.insert(first.map_or(candidate, |first| first.min(candidate)))
        });
        // a failure that names no release can be of an old pod of the canary only if there is one
        let Some(started) = started.or(of_release).or(self.canary) else { return false };
        let is_new = sent.saturating_duration_since(started) < time;
        if is_new && release == Some(Release::Canary) {
            self.began = Some(self.began.map_or(sent, |began| began.min(sent)));
        }
        is_new
    }

    fn first_answer(&mut self, pod: &str, sent: Instant) -> Option<Instant> {
        if let Some((first, last)) = self.pods.get_mut(pod) {
            (*first, *last) = ((*first).min(sent), (*last).max(sent));
            return Some(*first);
        }
        if self.pods.len() >= MOST_PODS {
            let oldest = self.pods.iter().min_by_key(|(_, (_, last))| *last);
            let oldest =
                oldest.filter(|(_, (_, last))| sent.saturating_duration_since(*last) > FORGOTTEN_AFTER);
            let name = oldest.map(|(name, _)| name.clone())?;
            self.pods.remove(&name);
        }
        self.pods.insert(pod.to_owned(), (sent, sent));
        Some(sent)
    }

    /// Whether the pod of a window had started less than `time` before the window began.
    pub(super) fn of_window(&mut self, interval: &Interval, counted: &CountedWindow, time: Duration) -> bool {
        let CountedWindow { window, started, .. } = counted;
        let is_new = started.is_some_and(|started| window.since - started < time.as_secs_f64());
        if is_new && window.release == Release::Canary {
            let since = interval.since(window);
            self.began =
                self.began.map_or(since, |began| Some(since.map_or(began, |since| began.min(since))));
        }
        is_new
    }

    /// Whether answers of the canary have been left out for long enough, until this time, that a canary can be rolled back
    /// by them.
    pub(super) fn is_trusted(&self, at: Instant, time: Duration) -> bool {
        self.began.is_some_and(|began| at.saturating_duration_since(began) >= time / TRUSTED_AFTER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::{Answer, Attribution, Response};
    use canary_judge::Outcome;

    const TIME: Duration = Duration::from_secs(30);

    fn observation(sent: Instant, release: Option<Release>, pod: Option<&str>) -> Observation {
        let attribution = release.map_or(Attribution::Unnamed, Attribution::Release);
        let pod = pod.map(str::to_owned);
        let answer =
            Answer { attribution, outcome: Outcome::Failure, status: None, latency: None, pod, info: None };
        Observation { number: 0, sent, started: None, stratum: None, response: Response::Answer(answer) }
    }

    /// Whether each of these answers is left out: the second at which it was asked for, its release and pod.
    fn left_out(answers: &[(u64, Option<Release>, Option<&str>)]) -> Vec<bool> {
        let (began, mut warm_ups) = (Instant::now(), WarmUps::default());
        let at = |second| began + Duration::from_secs(second);
        let answers = answers.iter().map(|(second, release, pod)| observation(at(*second), *release, *pod));
        answers.map(|answer| warm_ups.of_request(&answer, TIME)).collect()
    }

    #[test]
    fn a_pod_is_new_until_the_time_after_its_first_answer_whatever_its_release() {
        let (stable, canary) = (Some(Release::Stable), Some(Release::Canary));
        let answers = [
            (0, stable, Some("a")),
            (29, stable, Some("a")),
            (30, stable, Some("a")),
            (40, canary, Some("b")),
            (45, stable, Some("c")),
            (69, canary, Some("b")),
            (70, canary, Some("b")),
            (80, canary, Some("d")),
        ];
        assert_eq!(left_out(&answers), [true, true, false, true, true, true, false, true]);
    }

    #[test]
    fn without_a_name_the_first_answer_of_the_release_counts() {
        let (stable, canary) = (Some(Release::Stable), Some(Release::Canary));
        let answers = [
            (0, stable, None),
            (40, canary, None),
            (41, stable, None),
            (69, canary, None),
            (70, canary, None),
        ];
        assert_eq!(left_out(&answers), [true, true, false, true, false]);
    }

    #[test]
    fn a_failure_without_a_release_is_left_out_only_while_the_whole_canary_is_new() {
        let canary = Some(Release::Canary);
        let answers = [
            (0, None, None),
            (1, canary, Some("a")),
            (2, None, None),
            (31, None, None),
            (32, canary, Some("b")),
            (33, None, None),
        ];
        assert_eq!(left_out(&answers), [false, true, true, false, true, false]);
    }

    #[test]
    fn the_time_that_the_source_tells_comes_before_all_else() {
        let (began, mut warm_ups) = (Instant::now() + Duration::from_secs(100), WarmUps::default());
        let at = |second| began + Duration::from_secs(second);
        let of = |second, started| Observation {
            started: Some(started),
            ..observation(at(second), Some(Release::Canary), Some("a"))
        };
        let before = began.checked_sub(Duration::from_secs(31)).expect("a moment");
        assert!(!warm_ups.of_request(&of(0, before), TIME));
        assert!(warm_ups.of_request(&of(60, at(50)), TIME), "it has restarted");
        assert!(!warm_ups.is_trusted(at(60), TIME) && warm_ups.is_trusted(at(75), TIME));
    }

    #[test]
    fn names_are_bounded_and_pods_that_are_gone_give_way() {
        let (began, mut warm_ups) = (Instant::now(), WarmUps::default());
        let at = |second| began + Duration::from_secs(second);
        for number in 0..200 {
            let pod = format!("pod-{number}");
            warm_ups.of_request(&observation(at(100), Some(Release::Stable), Some(&pod)), TIME);
        }
        assert_eq!(warm_ups.pods.len(), MOST_PODS);
        assert!(
            !warm_ups.of_request(&observation(at(140), Some(Release::Stable), Some("next")), TIME),
            "by its release"
        );
        assert!(
            warm_ups.of_request(&observation(at(1000), Some(Release::Stable), Some("next")), TIME),
            "it has a place"
        );
        assert_eq!(warm_ups.pods.len(), MOST_PODS);
    }
}
