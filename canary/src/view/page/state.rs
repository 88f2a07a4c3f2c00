//! The state of a trial that the page shows, as JSON.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant, SystemTime},
};

use serde::Serialize;

use super::{
    history::{History, Point},
    progress::Progress,
};
use crate::{
    source::{Attribution, Cause},
    trial::{
        Trial,
        tally::{Latencies, Recent, SeenPod},
    },
    view::{sentence, word},
};
use canary_judge::{Estimate, Release, Verdict};

/// The maximum number of pods that are shown.
const MOST_PODS: usize = 50;
/// How long a changed label is marked.
const STANDS_OUT: Duration = Duration::from_secs(15);

/// What the page shows above the trial.
#[derive(Clone, Debug)]
pub(crate) struct Heading<'a> {
    /// The name of what is watched.
    pub(crate) title: &'a str,
    /// Since when requests are counted, in UTC.
    pub(crate) counting_since: String,
    /// When this process started, in UTC.
    pub(crate) process_started: String,
    /// The same moment on both clocks.
    pub(crate) clocks: (Instant, SystemTime),
    /// The progress of the rehearsal, if this is one.
    pub(crate) rehearsal: Option<Progress>,
}

/// The trial that the page shows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subject<'a> {
    /// Its name.
    pub(crate) id: &'a str,
    pub(crate) trial: &'a Trial,
    pub(crate) history: &'a History,
    /// What there is to know besides the verdict, as a sentence.
    pub(crate) note: Option<&'a str>,
}

/// What the page shows of a trial.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct State<'a> {
    trial: &'a str,
    /// Seconds since the trial began.
    seconds: f64,
    /// The name of what is watched.
    title: &'a str,
    /// When the process began to count.
    counting_since: &'a str,
    process_started: &'a str,
    /// When the trial began.
    trial_began: String,
    paused: bool,
    decision: &'static str,
    sentence: String,
    price_sentence: Option<String>,
    requests: u64,
    /// Requests a second since the trial began.
    rate: f64,
    /// The maximum failure rate of a release.
    limit: f64,
    alpha: f64,
    evidence: Ln,
    sides: Sides,
    /// Whether the expected shares are given by a flag, and not by the number of pods.
    share_given: bool,
    /// The number of failures that name no release.
    unattributed: u64,
    no_answer: u64,
    causes: &'a BTreeMap<Cause, u64>,
    dots: Dots,
    history: Vec<Point>,
    pods: Vec<PodState<'a>>,
    more_pods: usize,
    rehearsal: Option<&'a Progress>,
}

#[derive(Clone, Copy, Debug, Serialize)]
struct Ln {
    ln_e_value: f64,
    /// The value at which the verdict is a roll-back.
    ln_threshold: f64,
}

#[derive(Clone, Copy, Debug, Serialize)]
struct Sides {
    stable: Side,
    canary: Side,
}

#[derive(Clone, Copy, Debug, Serialize)]
struct Side {
    success: u64,
    failure: u64,
    slow: u64,
    /// Of the last requests.
    share: Option<f64>,
    expected_share: Option<f64>,
    lower: f64,
    upper: f64,
    /// Of the last requests.
    p50_ms: Option<f64>,
    p99_ms: Option<f64>,
}

/// The last requests in the order in which they ended, a character each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Dots {
    /// The number of the first one, counted from the trial's beginning.
    first: u64,
    outcomes: String,
}

#[derive(Clone, Debug, Serialize)]
struct PodState<'a> {
    name: &'a str,
    release: String,
    present: bool,
    namespace: &'a str,
    labels: &'a BTreeMap<String, String>,
    /// Labels that have changed lately, `release` included.
    changed: Vec<&'a str>,
    success: u64,
    failure: u64,
}

impl<'a> State<'a> {
    /// The state of the trial `now`.
    pub(crate) fn new(subject: &Subject<'a>, heading: &'a Heading, now: Instant) -> Self {
        let Subject { id, trial, history, note } = *subject;
        let (tally, verdict) = (trial.tally(), trial.verdict(now));
        let seconds = now.saturating_duration_since(tally.began()).as_secs_f64();
        let requests = tally.total().requests;
        let settings = trial.settings();
        let (pods, more_pods) = pods(trial, now);
        let rehearsal = heading.rehearsal.as_ref();
        Self {
            trial: id,
            seconds: (seconds * 1e3).round() / 1e3,
            title: heading.title,
            counting_since: &heading.counting_since,
            process_started: &heading.process_started,
            trial_began: time_of(tally.began(), heading.clocks),
            paused: rehearsal.is_some_and(|rehearsal| rehearsal.paused),
            decision: word(&verdict.decision),
            sentence: sentence(&verdict, note),
            price_sentence: trial.price(now).map(|price| verdict.price_sentence(&price)),
            requests,
            rate: if seconds > 0.0 { (requests as f64 / seconds * 1e3).round() / 1e3 } else { 0.0 },
            limit: settings.max_failure_rate.get(),
            alpha: settings.alpha.get(),
            evidence: Ln { ln_e_value: verdict.ln_e_value, ln_threshold: -settings.alpha.get().ln() },
            sides: Sides {
                stable: side(trial, Release::Stable, &verdict.stable),
                canary: side(trial, Release::Canary, &verdict.canary),
            },
            share_given: trial.given_share().is_some(),
            unattributed: tally.sides().unattributed,
            no_answer: tally.of(&Attribution::NoAnswer).requests,
            causes: tally.causes(),
            dots: dots(trial),
            history: points(history, trial, &verdict, now),
            pods,
            more_pods,
            rehearsal,
        }
    }
}

/// A moment as text, in UTC.
fn time_of(moment: Instant, (instant, time): (Instant, SystemTime)) -> String {
    let time = match moment.checked_duration_since(instant) {
        Some(after) => time.checked_add(after),
        None => time.checked_sub(instant.saturating_duration_since(moment)),
    };
    time.map(|time| humantime::format_rfc3339_seconds(time).to_string()).unwrap_or_default()
}

fn side(trial: &Trial, release: Release, estimate: &Estimate) -> Side {
    let tally = trial.tally();
    let attribution = Attribution::Release(release);
    let counts = tally.of(&attribution);
    let own = tally.recent().iter().filter(|one| one.attribution == attribution);
    let latencies: Latencies = own.filter_map(|one| one.latency).collect();
    let percentile = |percent| latencies.percentile(percent).map(|time| time.as_micros() as f64 / 1e3);
    Side {
        success: counts.successes(),
        failure: counts.failures,
        slow: counts.slow,
        share: tally.recent_share(&attribution),
        expected_share: trial.expected_share(&attribution, tally.pods()),
        lower: estimate.bounds.lower,
        upper: estimate.bounds.upper,
        p50_ms: percentile(50),
        p99_ms: percentile(99),
    }
}

fn dots(trial: &Trial) -> Dots {
    let recent = trial.tally().recent();
    let last = u64::try_from(recent.len()).unwrap_or(u64::MAX);
    Dots {
        first: trial.tally().total().requests.saturating_sub(last),
        outcomes: recent.iter().map(dot).collect(),
    }
}

/// `s`table, `c`anary, `o`ther or `u`nnamed, a capital letter for a failure, and `!` for no answer.
fn dot(Recent { attribution, failed, .. }: &Recent) -> char {
    let letter = match attribution {
        Attribution::Release(Release::Stable) => 's',
        Attribution::Release(Release::Canary) => 'c',
        Attribution::Other(_) => 'o',
        Attribution::Unnamed => 'u',
        Attribution::NoAnswer => '!',
    };
    if *failed { letter.to_ascii_uppercase() } else { letter }
}

fn points(history: &History, trial: &Trial, verdict: &Verdict, now: Instant) -> Vec<Point> {
    history.points().iter().copied().chain([Point::new(trial, verdict, now)]).collect()
}

/// The pods to show, answering ones first, and the canary's before the others, and the number of further pods.
fn pods(trial: &Trial, now: Instant) -> (Vec<PodState<'_>>, usize) {
    let mut pods: Vec<_> = trial.tally().pods().iter().collect();
    // otherwise by name, because the sort is stable
    pods.sort_by_key(|(_, pod)| (!pod.present, pod.release.release() != Some(Release::Canary)));
    let more = pods.len().saturating_sub(MOST_PODS);
    pods.truncate(MOST_PODS);
    (pods.into_iter().map(|(name, pod)| pod_state(name, pod, now)).collect(), more)
}

fn pod_state<'a>(name: &'a str, pod: &'a SeenPod, now: Instant) -> PodState<'a> {
    PodState {
        name,
        release: pod.release.to_string(),
        present: pod.present,
        namespace: &pod.namespace,
        labels: &pod.labels,
        changed: pod.changed_within(STANDS_OUT, now).collect(),
        success: pod.counts.successes(),
        failure: pod.counts.failures,
    }
}

#[cfg(test)]
mod tests {
    use canary_judge::{Outcome, Settings};

    use super::*;
    use crate::{
        source::{Answer, Observation, Response},
        trial::Coverage,
    };

    #[test]
    fn the_pods_of_the_canary_are_shown_first_however_many_others_there_are() {
        let now = Instant::now();
        let mut trial = Trial::new(Settings::default(), None, Coverage::Sample, now);
        let pods = (0..60).map(|pod| (format!("a-{pod}"), "stable")).chain([("z".to_owned(), "canary")]);
        for (number, (pod, release)) in (0..).zip(pods) {
            let attribution = Attribution::of_answer(Some(release));
            let (outcome, status, latency, pod) = (Outcome::Success, None, None, Some(pod));
            let answer = Answer { attribution, outcome, status, latency, pod, info: None };
            trial.observe(&Observation {
                number,
                sent: now,
                stratum: None,
                response: Response::Answer(answer),
            });
        }
        let (shown, more) = super::pods(&trial, now);
        assert_eq!((shown[0].name, shown.len(), more), ("z", MOST_PODS, 11));
    }
}
