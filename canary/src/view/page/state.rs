//! The state of a trial that the page shows, as JSON.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant, SystemTime},
};

use serde::Serialize;

use super::{
    history::{History, Point, Present},
    progress::Progress,
    rules::{self, Rules},
    versions::{self, Line},
};
use crate::{
    source::{Attribution, Cause, FailingAnswer},
    trial::{
        Trial,
        tally::{Latencies, Recent, SeenPod, Statuses},
    },
    view::{sentence, word},
};
use canary_judge::{Absence, Counts, Decision, Estimate, Reason, Release, StratumEvidence, Verdict};

/// The maximum number of pods that are shown.
const MOST_PODS: usize = 50;
/// How long a changed label is marked.
pub(super) const STANDS_OUT: Duration = Duration::from_secs(15);

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
    /// What is wrong with the whole service at the moment.
    pub(crate) outage: Option<Outage>,
    /// The last answer that was a failure, of any version.
    pub(crate) last_failure: Option<FailingAnswer>,
}

/// A time in which no request succeeds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Outage {
    /// `no_answer`, or `no_success` if answers come and all of them fail.
    pub(crate) kind: &'static str,
    /// When it began, in UTC.
    pub(crate) since: String,
    /// How long it lasts.
    pub(crate) seconds: u64,
    /// The number of requests in that time.
    pub(crate) requests: u64,
    /// The last cause, in words.
    pub(crate) cause: String,
}

/// The trial that the page shows.
#[derive(Clone, Debug)]
pub(crate) struct Subject<'a> {
    /// Its name.
    pub(crate) id: &'a str,
    pub(crate) trial: &'a Trial,
    pub(crate) history: &'a History,
    pub(crate) rules: &'a Rules,
    /// What there is to know besides the verdict, as a sentence.
    pub(crate) note: Option<&'a str>,
    /// The trials of other versions that answer now, with their canary's answers.
    pub(crate) others: &'a [(&'a str, Decision, Counts)],
    /// The two ends of the last time in which nothing was seen, in UTC.
    pub(crate) gap: Option<[String; 2]>,
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
    standing: Standing,
    sentence: String,
    price_sentence: Option<String>,
    requests: u64,
    /// Requests a second since the trial began.
    rate: f64,
    present: Present,
    /// The maximum failure rate of a release.
    limit: f64,
    /// The upper bound of the canary's failure rate that a promotion by the limit takes, from 0 to 1.
    promotion_bound: f64,
    /// The number of further answers of the canary until a promotion, if all of them succeed; null if there is none, or
    /// if it takes too many.
    more_answers: Option<u64>,
    /// The greatest share of the traffic for the canary at the moment, from 0 to 1.
    max_share: f64,
    /// What was compared within each kind of request; empty if requests are not divided.
    strata: Vec<StratumEvidence>,
    /// What the verdict rests on.
    judged: Judged,
    alpha: f64,
    evidence: Ln,
    sides: Sides,
    /// Whether the expected shares are given by a flag, and not by the number of pods.
    share_given: bool,
    /// The number of failures that name neither release.
    unattributed: u64,
    no_answer: u64,
    causes: &'a BTreeMap<Cause, u64>,
    failing: Failing<'a>,
    dots: Dots,
    history: Vec<Point>,
    pods: Vec<PodState<'a>>,
    more_pods: usize,
    /// A line for each version.
    versions: Vec<Line>,
    more_versions: usize,
    /// Other trials of versions that answer now.
    others: Vec<Other<'a>>,
    /// The two ends of the last time in which nothing was seen, because the server did not run, in UTC.
    gap: Option<[String; 2]>,
    /// What rules of thumb say; null where single requests are not known, and after a restart.
    rules: Option<rules::Shown>,
    /// When the judge decided on what it says now, in seconds since the trial began, without pauses.
    sure_after: Option<f64>,
    /// Why it is promoted.
    reason: Option<Reason>,
    rehearsal: Option<&'a Progress>,
    outage: Option<&'a Outage>,
}

/// The decision, and whether there is a canary that it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Standing {
    /// No canary has answered in this trial.
    NoCanary,
    /// The canary does not answer any more, and there was no roll-back.
    Gone,
    /// The canary does not answer any more, after the verdict was a roll-back.
    RolledBack,
    Promote,
    RollBack,
    NotYet,
    Hold,
}

impl Standing {
    fn of(trial: &Trial, verdict: &Verdict) -> Self {
        let tally = trial.tally();
        let canary = Attribution::Release(Release::Canary);
        let has_answered = tally.of(&canary).requests > 0;
        let mut pods = tally.pods().iter().map(|(_, pod)| pod).filter(|pod| pod.release == canary).peekable();
        let is_silent = matches!(verdict.absence, Some(Absence::Silent(_)));
        // where pods are known, it is seen earlier that they are gone
        let is_gone = has_answered && (is_silent || pods.peek().is_some() && pods.all(|pod| !pod.present));
        match verdict.decision {
            Decision::RollBack { .. } if is_gone => Self::RolledBack,
            _ if is_gone => Self::Gone,
            _ if !has_answered => Self::NoCanary,
            Decision::RollBack { .. } => Self::RollBack,
            Decision::Promote { .. } => Self::Promote,
            Decision::NotYet => Self::NotYet,
            Decision::Hold => Self::Hold,
        }
    }
}

/// The answers that were failures.
#[derive(Clone, Debug, Serialize)]
struct Failing<'a> {
    /// Their status codes in this trial.
    statuses: &'a Statuses,
    /// The last one, of any trial.
    last: Option<LastFailure<'a>>,
}

#[derive(Clone, Debug, Serialize)]
struct LastFailure<'a> {
    /// In UTC.
    at: String,
    status: u16,
    release: String,
    pod: Option<&'a str>,
    /// The beginning of its body.
    body: &'a str,
}

impl<'a> LastFailure<'a> {
    fn new(last: &'a FailingAnswer, clocks: (Instant, SystemTime)) -> Self {
        Self {
            at: time_of(last.at, clocks),
            status: last.status,
            release: last.attribution.to_string(),
            pod: last.pod.as_deref(),
            body: last.body.as_deref().unwrap_or("(its body is incomplete, or too long)"),
        }
    }
}

#[derive(Clone, Copy, Debug, Serialize)]
struct Other<'a> {
    trial: &'a str,
    decision: &'static str,
    #[serde(flatten)]
    counts: Counts,
}

#[derive(Clone, Copy, Debug, Serialize)]
struct Judged {
    stable: Counts,
    canary: Counts,
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
        let Subject { id, trial, history, rules, note, others, ref gap } = *subject;
        let (tally, verdict) = (trial.tally(), trial.verdict(now));
        let seconds = now.saturating_duration_since(tally.began()).as_secs_f64();
        let requests = tally.total().requests;
        let settings = trial.settings();
        let (pods, more_pods) = pods(trial, now);
        let (versions, more_versions) = versions::lines(tally.pods(), now);
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
            standing: Standing::of(trial, &verdict),
            sentence: sentence(&verdict, note),
            price_sentence: trial.price(now).map(|price| verdict.price_sentence(&price)),
            requests,
            rate: if seconds > 0.0 { (requests as f64 / seconds * 1e3).round() / 1e3 } else { 0.0 },
            present: history.present(trial),
            limit: settings.max_failure_rate.get(),
            promotion_bound: verdict.promotion_bound,
            max_share: verdict.max_share,
            strata: verdict.strata.clone(),
            more_answers: verdict.more_answers,
            judged: Judged { stable: verdict.stable.counts, canary: verdict.canary.counts },
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
            failing: Failing {
                statuses: tally.failing(),
                // as the status codes, only of this trial's time
                last: heading
                    .last_failure
                    .as_ref()
                    .filter(|last| last.at >= tally.began())
                    .map(|last| LastFailure::new(last, heading.clocks)),
            },
            dots: dots(trial),
            history: points(history, trial, &verdict, now),
            pods,
            more_pods,
            versions,
            more_versions,
            others: others
                .iter()
                .map(|(trial, decision, counts)| Other { trial, decision: word(decision), counts: *counts })
                .collect(),
            gap: gap.clone(),
            // they have not seen what was before a restart
            rules: rules.shown(trial).filter(|_| gap.is_none()),
            sure_after: rules.sure_after(),
            reason: match verdict.decision {
                Decision::Promote { reason, .. } => Some(reason),
                Decision::RollBack { .. } | Decision::NotYet | Decision::Hold => None,
            },
            rehearsal,
            outage: heading.outage.as_ref(),
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
                started: None,
                stratum: None,
                response: Response::Answer(answer),
            });
        }
        let (shown, more) = super::pods(&trial, now);
        assert_eq!((shown[0].name, shown.len(), more), ("z", MOST_PODS, 11));
    }
}
