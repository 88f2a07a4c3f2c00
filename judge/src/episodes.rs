//! Failures that come in episodes of single pods: a pod that hiccups for a second fails all requests of that second, and
//! these are one event, not five. So the canary must also fail in more episodes than stable does.
//!
//! # The units
//!
//! Time is divided into spans of [`Settings::episodes`](crate::Settings::episodes). A unit is a pod in a span, and it
//! fails if more of its requests fail than usual. An episode can lie in two spans. So if the failures of a unit may go on,
//! the same pod's next unit does not count: an episode that is no longer than a span is one unit. Units go into batches and
//! into the test of [`crate::odds`], as requests do. If pods are alike, each set of units in a batch is equally likely to be
//! the canary's, however the requests of one pod depend on each other within a span, and also in incidents of all pods.
//!
//! - **Traffic that is not equal.** Of the release whose pods get more requests, only a part is looked at, so that each unit
//!   has about as many requests, and sees an episode as often. Which part depends on the numbers of requests before it.
//! - **Usual** is the mean of stable's units so far, and its square root. With little traffic, one failure is more than that;
//!   with much traffic, it keeps the units of stable from failing in every span.
//!
//! Both depend on what was before the span, and never on what is in it.
//!
//! # Counters that are scraped
//!
//! A [window](Window) does not tell when in it a request was sent. So a unit is the window of a pod, or several of them that
//! follow each other if that is needed for about the length of an episode, or of the longest windows of other pods. A span
//! ends when a pod whose unit is complete is scraped again: then each pod has been scraped in it, in the same way. Pods are
//! scraped at moments of their own, so an incident of all pods may lie in one span for some of them, and in the next for
//! others. The test of requests is for that.
//!
//! In a unit that is twice as long as an episode or longer, few episodes go on in the next unit, and that one counts.
//!
//! # What it decides
//!
//! A roll-back takes both: the test of requests and this one. So it never adds a false roll-back. If either null hypothesis
//! is true, the error probability is at most α: "the canary fails no more of its requests, and failures are independent",
//! or "it fails in no more of its units, and spans are independent". This is the smaller of two e-values.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    Batch, Counts, Outcome, Release, Request, Window,
    batch::BatchLength,
    odds::{GREATER, OddsTest, Table},
    real,
};

/// The most pods of a release in one span. The units of others are left out.
const MOST_PODS: usize = 64;
/// A batch has about this many units of the release that has less of them. With one canary pod beside three, that is one span.
const UNITS: f64 = 1.0;
/// The factor by which the weight of a span falls with each later one, in the number of requests of a unit.
const SIZE_DECAY: f64 = 0.8;
/// The same in the number of failures that are usual.
const USUAL_DECAY: f64 = 0.98;
/// Scrapes are not quite regular, so this part of a length is that length.
const ABOUT: f64 = 0.9;
/// A unit of windows that is this many times as long as an episode tells nothing about the pod's next unit.
const LONG: f64 = 2.0;

/// The evidence from episodes.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Episodes {
    /// The length of a span, in nanoseconds.
    span: u64,
    /// The usual length of a unit of windows, in nanoseconds; 0 for single requests.
    scraped_span: u64,
    /// The number of the open span; `None` before the first request.
    open: Option<u64>,
    pods: Vec<Pod>,
    /// The usual number of requests of a unit: of stable and of the canary.
    sizes: [Option<f64>; 2],
    /// The sum of the failures in stable's units, and their number, weighted by [`USUAL_DECAY`].
    usual: (f64, f64),
    batch: Batch,
    length: BatchLength,
    /// The number of units at which the batch is complete.
    units: u64,
    /// The units of complete batches.
    total: Batch,
    test: OddsTest,
}

/// A pod that has answered.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct Pod {
    release: Release,
    name: String,
    /// The last span in which it has answered.
    seen: u64,
    /// Its requests in the open span.
    requests: u64,
    /// Those that are looked at.
    looked_at: Counts,
    last_failed: bool,
    /// The part of a request that is due to be looked at.
    due: f64,
    /// The same of a failed request, if only windows are known.
    due_failed: f64,
    /// The length of its windows in the open span, in seconds; 0 for single requests.
    scraped: f64,
    next: Next,
}

/// How the next unit of a pod counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
enum Next {
    /// As it is.
    #[default]
    Counts,
    /// An episode may go on in it, and the unit in which it began is in the same batch. So it counts as good: to leave it
    /// out would tell, by the size of the batch, which release has failed.
    Good,
    /// An episode may go on in it, and the unit in which it began is in an earlier batch. It is left out.
    LeftOut,
}

fn index(release: Release) -> usize {
    match release {
        Release::Stable => 0,
        Release::Canary => 1,
    }
}

impl Episodes {
    /// Without requests. `span` is the length of the longest episodes.
    pub(crate) fn new(span: Duration) -> Self {
        let length = BatchLength::UNKNOWN;
        Self {
            span: u64::try_from(span.as_nanos()).unwrap_or(u64::MAX).max(1),
            scraped_span: 0,
            open: None,
            pods: Vec::new(),
            sizes: [None; 2],
            usual: (0.0, 0.0),
            batch: Batch::default(),
            length,
            units: length.requests_with(UNITS),
            total: Batch::default(),
            test: OddsTest::new(1.0, GREATER),
        }
    }

    /// Adds the next request in the order of sending. One without a release or a time is left out.
    pub(crate) fn observe(&mut self, request: &Request<'_>) {
        let (Some(release), Some(sent)) = (request.release, request.sent) else { return };
        let span = u64::try_from(sent.as_nanos() / u128::from(self.span)).unwrap_or(u64::MAX);
        let open = *self.open.get_or_insert(span);
        if span > open {
            self.end_span();
            self.open = Some(span);
            if span > open + 1 {
                // an episode does not go on over a span without requests
                self.pods.iter_mut().for_each(|pod| pod.next = Next::Counts);
            }
        }
        let part = self.part(release);
        let Some(pod) = self.pod(release, request.pod, span.max(open)) else { return };
        pod.requests += 1;
        if take_part(&mut pod.due, part, 1) > 0 {
            pod.looked_at.record(request.outcome);
            pod.last_failed = request.outcome.failed();
        }
    }

    /// Adds windows, those of each pod in the order of time. `interval` is the longest usual time between two scrapes
    /// of a pod, in seconds, and 0 if that is not known.
    pub(crate) fn observe_windows(&mut self, windows: &[Window], interval: f64) {
        let longest = real(self.span) / 1e9;
        let windows_of_unit = (ABOUT * longest / interval).ceil().max(1.0);
        let length = if interval > 0.0 { windows_of_unit * interval } else { longest };
        self.scraped_span = nanoseconds(length);
        let is_counted = |window: &&Window| !window.is_warm_up && window.until > window.since;
        let mut windows: Vec<_> = windows.iter().filter(is_counted).collect();
        // the pods of one round of queries come one after the other
        windows.sort_by(|one, other| one.until.total_cmp(&other.until));
        for window in windows {
            self.observe_window(window, ABOUT * length);
        }
    }

    /// Adds the next window. A unit is complete when its windows are so long together, in seconds.
    fn observe_window(&mut self, window: &Window, complete: f64) {
        let Window { release, pod: ref name, since, until, counts, .. } = *window;
        let mut open = *self.open.get_or_insert(0);
        let is_complete =
            |pod: &Pod| pod.release == release && *pod.name == **name && pod.scraped >= complete;
        if self.pods.iter().any(is_complete) {
            self.end_span();
            open += 1;
            self.open = Some(open);
        }
        let part = self.part(release);
        let Some(pod) = self.pod(release, Some(name), open) else { return };
        pod.requests += counts.requests;
        pod.scraped += until - since;
        let requests = take_part(&mut pod.due, part * real(counts.requests), counts.requests);
        let failures = take_part(&mut pod.due_failed, part * real(counts.failures), requests);
        pod.looked_at += Counts { requests, failures, slow: 0 };
        pod.last_failed = false; // that is not known
    }

    /// The part of this release's requests that is looked at.
    fn part(&self, release: Release) -> f64 {
        let [own, other] = [self.sizes[index(release)], self.sizes[1 - index(release)]];
        own.zip(other).map_or(1.0, |(own, other)| (other / own).min(1.0))
    }

    /// The pod of a request. If the answer does not name it, it is the one of the release that was seen last: so a canary with
    /// one pod may fail without its name.
    fn pod(&mut self, release: Release, name: Option<&str>, span: u64) -> Option<&mut Pod> {
        let of_release = self.pods.iter().enumerate().filter(|(_, pod)| pod.release == release);
        let known = match name {
            Some(name) => of_release.clone().find(|(_, pod)| pod.name == name),
            None => of_release.clone().max_by_key(|(_, pod)| pod.seen),
        };
        let known = known.map(|(place, _)| place);
        let place = if let Some(place) = known {
            place
        } else if of_release.clone().count() < MOST_PODS {
            self.pods.push(Pod::new(release));
            self.pods.len() - 1
        } else {
            let (oldest, _) =
                of_release.filter(|(_, pod)| pod.seen < span).min_by_key(|(_, pod)| pod.seen)?;
            self.pods[oldest] = Pod::new(release);
            oldest
        };
        let pod = self.pods.get_mut(place)?;
        if known.is_none() {
            name.unwrap_or_default().clone_into(&mut pod.name);
        }
        pod.seen = span;
        Some(pod)
    }

    /// The number of failures above which a unit fails.
    fn most_usual(&self) -> u64 {
        let (failures, units) = self.usual;
        let mean = if units > 0.0 { failures / units } else { 0.0 };
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "not negative, and few")]
        let most = (mean + mean.sqrt()) as u64;
        most
    }

    fn end_span(&mut self) {
        let most_usual = self.most_usual();
        let mut sizes = [(0.0, 0.0); 2];
        let mut usual = (0.0, 0.0);
        for pod in &mut self.pods {
            let (requests, looked_at) =
                (std::mem::take(&mut pod.requests), std::mem::take(&mut pod.looked_at));
            let next = std::mem::take(&mut pod.next);
            let is_long = std::mem::take(&mut pod.scraped) * 1e9 >= ABOUT * LONG * real(self.span);
            if requests > 0 {
                let (sum, units) = &mut sizes[index(pod.release)];
                *sum += real(requests);
                *units += 1.0;
            }
            if looked_at.requests == 0 || next == Next::LeftOut {
                continue;
            }
            let fails = next == Next::Counts && looked_at.failures > most_usual;
            self.batch.record(Some(pod.release), if fails { Outcome::Failure } else { Outcome::Success });
            if next == Next::Counts && pod.release == Release::Stable {
                usual = (usual.0 + real(looked_at.failures), usual.1 + 1.0);
            }
            if fails && !is_long && (pod.last_failed || looked_at.failures > most_usual.max(1)) {
                pod.next = Next::Good;
            }
        }
        for (size, (requests, units)) in self.sizes.iter_mut().zip(sizes) {
            if units > 0.0 {
                let now = requests / units;
                *size = Some(size.map_or(now, |size| SIZE_DECAY * size + (1.0 - SIZE_DECAY) * now));
            }
        }
        if usual.1 > 0.0 {
            self.usual = (self.usual.0 * USUAL_DECAY + usual.0 / usual.1, self.usual.1 * USUAL_DECAY + 1.0);
        }
        if self.batch.total().requests >= self.units {
            self.end_batch();
        }
    }

    fn end_batch(&mut self) {
        let batch = std::mem::take(&mut self.batch);
        self.length.update(&batch);
        self.units = self.length.requests_with(UNITS);
        for pod in self.pods.iter_mut().filter(|pod| pod.next == Next::Good) {
            pod.next = Next::LeftOut;
        }
        self.total += batch;
        self.test.observe(Table { reference: batch.stable, suspect: batch.canary });
    }

    /// No request of the open span or batch will come any more.
    pub(crate) fn end(&mut self) {
        if self.open.take().is_some() {
            self.end_span();
            self.end_batch();
            self.pods.iter_mut().for_each(|pod| pod.next = Next::Counts);
        }
    }

    /// Whether any request has told when it was sent: without that, there are no episodes.
    pub(crate) fn are_known(&self) -> bool {
        !self.pods.is_empty()
    }

    /// The usual length of a unit.
    pub(crate) fn span(&self) -> Duration {
        Duration::from_nanos(if self.scraped_span > 0 { self.scraped_span } else { self.span })
    }

    /// The units of a release: all, and those that fail.
    pub(crate) fn units(&self, release: Release) -> Counts {
        self.total.of(release)
    }

    /// The natural logarithm of the greatest e-value so far; at least 0.
    pub(crate) fn peak_ln_e_value(&self) -> f64 {
        self.test.peak_ln_e_value()
    }
}

impl Pod {
    fn new(release: Release) -> Self {
        Self {
            release,
            name: String::new(),
            seen: 0,
            requests: 0,
            looked_at: Counts::default(),
            last_failed: false,
            due: 0.5,
            due_failed: 0.5,
            scraped: 0.0,
            next: Next::Counts,
        }
    }
}

/// Adds a part to what is due, and takes the whole numbers of it, but not more than so many.
fn take_part(due: &mut f64, part: f64, most: u64) -> u64 {
    *due += part;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "never negative")]
    let whole = (*due as u64).min(most);
    *due -= real(whole);
    whole
}

/// Rounded to a tenth of a second.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
fn nanoseconds(seconds: f64) -> u64 {
    ((10.0 * seconds).round().max(1.0) as u64).saturating_mul(100_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, counts};
    use Release::{Canary, Stable};

    const PODS: [(Release, &str); 4] = [(Stable, "one"), (Stable, "two"), (Stable, "three"), (Canary, "new")];

    fn episodes() -> Episodes {
        Episodes::new(Duration::from_secs(2))
    }

    fn observe(episodes: &mut Episodes, pod: (Release, Option<&str>), at: f64, failed: bool) {
        let outcome = if failed { Outcome::Failure } else { Outcome::Success };
        let request = Request::new(Some(pod.0), outcome).with_pod(pod.1);
        episodes.observe(&request.with_sent(Some(Duration::from_secs_f64(at))));
    }

    /// Ten requests a second to each pod, of which those fail for which `fails` says so: by the pod and the time.
    fn seen(seconds: u32, fails: impl Fn(&str, f64) -> bool) -> Episodes {
        let mut episodes = episodes();
        for tick in 0..10 * seconds {
            let at = f64::from(tick) / 10.0;
            for (release, name) in PODS {
                observe(&mut episodes, (release, Some(name)), at, fails(name, at));
            }
        }
        episodes.end();
        episodes
    }

    #[test]
    fn a_hiccup_is_one_unit_whether_it_lies_in_one_span_or_in_two() {
        for begin in [4.0, 4.5, 5.0, 5.5, 5.9] {
            let episodes = seen(20, |name, at| name == "new" && (begin..begin + 1.0).contains(&at));
            assert_eq!(episodes.units(Canary).failures, 1, "{begin}");
            assert_eq!(episodes.units(Stable).failures, 0);
        }
        let long = seen(20, |name, at| name == "new" && (4.0..12.0).contains(&at));
        assert_eq!(long.units(Canary).failures, 2, "an episode of four spans");
    }

    #[test]
    fn a_pod_that_always_fails_is_clear_after_a_few_spans() {
        let ln_e_value = |seconds| seen(seconds, |name, _| name == "new").peak_ln_e_value();
        assert!(ln_e_value(14) >= 20_f64.ln(), "{}", ln_e_value(14));
        assert!(ln_e_value(6) < 20_f64.ln(), "{}", ln_e_value(6));
    }

    #[test]
    fn an_incident_of_all_pods_has_no_evidence() {
        for begin in [0.0, 3.0, 7.5] {
            let episodes = seen(40, |_, at| (begin..begin + 5.0).contains(&at));
            assert_close(episodes.peak_ln_e_value(), 0.0);
        }
    }

    #[test]
    fn of_pods_with_more_requests_only_a_part_is_looked_at() {
        let mut episodes = episodes();
        for tick in 0..1000_u32 {
            let at = f64::from(tick) / 10.0;
            (0..5).for_each(|_| observe(&mut episodes, (Canary, Some("new")), at, false));
            observe(&mut episodes, (Stable, Some("one")), at, false);
        }
        assert_close(episodes.part(Canary), 0.2);
        assert_close(episodes.part(Stable), 1.0);
        let looked_at = |release| {
            let pod = episodes.pods.iter().find(|pod| pod.release == release).expect("it has answered");
            (pod.requests, pod.looked_at.requests)
        };
        assert_eq!((looked_at(Canary), looked_at(Stable)), ((100, 20), (20, 20)));
    }

    #[test]
    fn an_answer_without_a_pod_is_of_the_one_that_was_seen_last() {
        let mut episodes = episodes();
        observe(&mut episodes, (Canary, Some("new")), 0.0, false);
        observe(&mut episodes, (Canary, None), 0.1, true);
        assert_eq!((episodes.pods.len(), episodes.pods[0].looked_at), (1, counts(1, 2)));
    }

    /// Windows of pods that are scraped this often, each at a moment of its own: the canary's half a second before stable's
    /// first one. Each has three requests a second, of which those fail for which `fails` says so.
    fn scraped(episodes: &mut Episodes, interval: u32, number: u32, fails: impl Fn(&str, f64) -> bool) {
        for round in 0..number {
            let pods =
                [(Canary, "new", 0.0), (Stable, "one", 0.5), (Stable, "two", 1.5), (Stable, "three", 3.5)];
            for (release, pod, moment) in pods {
                let since = f64::from(interval * round) + moment;
                let requests = (0..3 * interval).map(|request| since + f64::from(request) / 3.0);
                let failures = requests.filter(|at| fails(pod, *at)).count();
                let window = Window {
                    release,
                    pod: pod.into(),
                    since,
                    until: since + f64::from(interval),
                    counts: counts(u64::try_from(failures).expect("few"), u64::from(3 * interval)),
                    restarted: false,
                    is_warm_up: false,
                    strata: Vec::new(),
                    latencies: Vec::new(),
                };
                // the interval is known after the first scrapes
                episodes.observe_windows(&[window], if round == 0 { 0.0 } else { interval.into() });
            }
        }
        episodes.end();
    }

    #[test]
    fn a_window_is_a_unit() {
        let mut episodes = episodes();
        scraped(&mut episodes, 15, 10, |pod, at| pod == "new" && (20.0..21.0).contains(&at));
        assert_eq!((episodes.units(Canary), episodes.units(Stable)), (counts(1, 10), counts(0, 30)));
        assert_eq!(episodes.span(), Duration::from_secs(15));
    }

    #[test]
    fn several_windows_are_a_unit_if_episodes_are_longer() {
        let mut episodes = Episodes::new(Duration::from_secs(14));
        scraped(&mut episodes, 5, 30, |pod, at| pod == "new" && (62.0..76.0).contains(&at));
        assert_eq!(
            episodes.units(Canary),
            counts(1, 9),
            "an episode may go on in the next one, which is left out"
        );
        assert_eq!(episodes.units(Stable), counts(0, 30));
        assert_eq!(episodes.span(), Duration::from_secs(15));
    }

    /// A missed scrape makes a window longer.
    #[test]
    fn in_each_span_a_pod_has_one_unit_also_if_a_scrape_is_missing() {
        let mut episodes = episodes();
        let window = |release, pod: &str, since, until| Window {
            release,
            pod: pod.into(),
            since,
            until,
            counts: counts(0, 10),
            restarted: false,
            is_warm_up: false,
            strata: Vec::new(),
            latencies: Vec::new(),
        };
        let windows = [
            window(Canary, "new", 0.0, 10.0),
            window(Stable, "one", 5.0, 15.0),
            window(Canary, "new", 10.0, 30.0),
            window(Stable, "one", 15.0, 25.0),
            window(Stable, "one", 25.0, 35.0),
            window(Canary, "new", 30.0, 40.0),
        ];
        // of one round of queries: pod by pod
        let (canary, stable): (Vec<_>, Vec<_>) = windows.into_iter().partition(|one| one.release == Canary);
        episodes.observe_windows(&[canary, stable].concat(), 10.0);
        assert_eq!(episodes.units(Canary).requests, 2, "{episodes:?}");
        episodes.end();
        assert_eq!((episodes.units(Canary).requests, episodes.units(Stable).requests), (3, 3));
    }

    #[test]
    fn a_pod_that_always_fails_is_clear_after_a_few_windows() {
        let ln_e_value = |windows| {
            let mut episodes = episodes();
            scraped(&mut episodes, 15, windows, |pod, _| pod == "new");
            episodes.peak_ln_e_value()
        };
        assert!(
            ln_e_value(4) >= 20_f64.ln() && ln_e_value(2) < 20_f64.ln(),
            "{} {}",
            ln_e_value(4),
            ln_e_value(2)
        );
    }

    /// Some begin between two scrapes, so that they lie in one span for the canary, and in the next one for stable.
    #[test]
    fn incidents_of_all_pods_are_no_evidence_although_scrapes_divide_them() {
        for begin in [14.9, 15.1, 16.0] {
            let mut episodes = episodes();
            scraped(&mut episodes, 15, 200, |_, at| (begin..begin + 2.0).contains(&(at % 60.0)));
            assert!(episodes.peak_ln_e_value() < 10_f64.ln(), "{begin}: {}", episodes.peak_ln_e_value());
        }
    }

    #[test]
    fn of_the_failures_of_windows_a_part_is_looked_at_and_none_is_lost() {
        let (mut due, mut due_failed, mut looked_at) = (0.5, 0.5, counts(0, 0));
        for number in 0..1000 {
            let requests = take_part(&mut due, 0.3 * 7.0, 7);
            let failures = take_part(&mut due_failed, 0.3 * f64::from(number % 8), requests);
            looked_at += counts(failures, requests);
        }
        assert_eq!((looked_at.requests, looked_at.failures), (2100, 1050));
    }

    #[test]
    fn pods_that_are_gone_make_room_for_others() {
        let mut episodes = episodes();
        for number in 0..10_000_u32 {
            let (name, at) = (format!("pod-{number}"), f64::from(number) / 10.0);
            observe(&mut episodes, (Stable, Some(&name)), at, false);
        }
        assert_eq!(episodes.pods.len(), MOST_PODS);
        assert!(episodes.units(Stable).requests > 9_000, "{:?}", episodes.units(Stable));
    }
}
