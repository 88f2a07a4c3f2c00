//! A canary on trial: what was counted, and the verdict on it.

mod flags;
mod halves;
mod outlook;
mod record;
mod seen_share;
mod soak;
pub mod tally;
mod warm_up;

use std::{
    io::{self, Write},
    time::{Duration, Instant},
};

pub use self::{
    flags::TrialFlags,
    halves::{Fitness, Half, Halves, HalvesReport},
    outlook::CountedOutlook,
    record::{Record, RecordError},
};
use self::{
    seen_share::SeenShare,
    soak::Soak,
    tally::{Pods, Tally},
    warm_up::WarmUps,
};

use serde::{Deserialize, Serialize};

use canary_judge::{
    Absence, Batch, Budget, Decision, Fraction, Judge, Price, Release, Request, Settings, Traffic, Verdict,
    Window,
};

pub use crate::source::Coverage;
use crate::source::{
    Attribution, Health, Interval, Observation, Response, Seen,
    lines::{Header, Recorder},
};

/// A tally and a judge of the same requests. The tally counts requests as they end. The judge counts what the verdict rests
/// on, and what waits for it. Both together are always what the tally has counted.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Trial {
    settings: Settings,
    budget: Option<Budget>,
    coverage: Coverage,
    /// The canary's share of the requests where others than its pods' number decide it.
    given_share: Option<Fraction>,
    tally: Tally,
    judge: Judge,
    presence: Presence,
    warm_ups: WarmUps,
    soak: Option<Soak>,
    seen_share: SeenShare,
    /// The oldest beginning and the newest end of the windows that were counted, by their clock.
    counted_from: Option<(f64, f64)>,
    /// Whether nothing has been counted since an interruption.
    interrupted: bool,
    #[serde(skip)] // a server that restarts does not pause
    pauses: Pauses,
}

/// The times in which a person has paused the requests. The canary cannot answer then, so they do not count as time.
#[derive(Clone, Copy, Debug, Default)]
struct Pauses {
    /// Since when there is a pause.
    since: Option<Instant>,
    /// The length of those before, since the trial began.
    total: Duration,
}

impl Pauses {
    fn set(&mut self, paused: bool, now: Instant) {
        match (self.since, paused) {
            (None, true) => self.since = Some(now),
            (Some(since), false) => {
                self.total += now.saturating_duration_since(since);
                self.since = None;
            }
            (None, false) | (Some(_), true) => {}
        }
    }

    /// The length of all pauses until `now`.
    fn until(&self, now: Instant) -> Duration {
        self.total + self.since.map(|since| now.saturating_duration_since(since)).unwrap_or_default()
    }

    /// A moment by a clock that stands still in pauses.
    fn clock(&self, moment: Instant) -> Instant {
        moment.checked_sub(self.until(moment)).unwrap_or(moment)
    }
}

/// When the canary answered last, and when one of its pods restarted last.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
struct Presence {
    #[serde(with = "crate::moment")]
    answered: Option<Instant>,
    #[serde(with = "crate::moment")]
    restarted: Option<Instant>,
    /// Since when one of its pods is not ready, or it has none, where that is told.
    #[serde(skip)] // it is told anew after a restart
    unready: Option<Instant>,
    /// The time between two scrapes, if there are scrapes.
    scrape: Duration,
}

/// A canary that does not answer for this long is absent, or for three scrapes if that is longer.
const SILENCE: Duration = Duration::from_secs(30);
/// Or for this many times the usual time between two of its answers, if that is longer: with little traffic, a longer
/// silence has a probability of e^−5.
const USUAL_GAPS: u32 = 5;

/// A longer time between two scrapes is an interruption.
const LONGEST_SCRAPE: Duration = Duration::from_secs(300);

impl Presence {
    fn see_answer(&mut self, at: Instant) {
        self.answered = self.answered.max(Some(at));
    }

    fn see_window(&mut self, window: &Window, at: Instant) {
        if window.until > window.since {
            let length = Duration::try_from_secs_f64(window.until - window.since).unwrap_or_default();
            self.scrape = length.min(LONGEST_SCRAPE);
        }
        if window.release == Release::Canary {
            if window.counts.requests > 0 {
                self.see_answer(at);
            }
            if window.restarted {
                self.restarted = Some(at);
            }
        }
    }

    /// Whether the canary is absent `now`, after so many answers since `began`.
    fn absence(&self, answers: u64, began: Instant, now: Instant) -> Option<Absence> {
        let long = SILENCE.max(3 * self.scrape);
        if let Some(answered) = self.answered {
            let gap = answered.saturating_duration_since(began).div_f64(answers.max(1) as f64);
            let silent = now.saturating_duration_since(answered);
            if silent >= long.max(gap * USUAL_GAPS) {
                return Some(Absence::Silent(silent));
            }
        }
        if let Some(since) = self.unready {
            return Some(Absence::Unready(now.saturating_duration_since(since)));
        }
        let is_recent = |at: Instant| now.saturating_duration_since(at) < long;
        self.restarted.filter(|at| is_recent(*at)).map(|_| Absence::Restarted)
    }
}

impl Trial {
    /// A trial without requests that starts `now`. Without a budget, the price has no share of the budget.
    pub fn new(settings: Settings, budget: Option<Budget>, coverage: Coverage, now: Instant) -> Self {
        Self {
            settings,
            budget,
            coverage,
            given_share: None,
            tally: Tally::new(now),
            judge: Judge::new(settings),
            presence: Presence::default(),
            warm_ups: WarmUps::default(),
            soak: None,
            seen_share: SeenShare::default(),
            counted_from: None,
            interrupted: false,
            pauses: Pauses::default(),
        }
    }

    /// The same, but the canary is expected to get that share of the requests, whatever the number of its pods. It
    /// decides nothing.
    #[must_use]
    pub fn with_given_share(self, given_share: Option<Fraction>) -> Self {
        Self { given_share, ..self }
    }

    /// Sets the canary's share of the requests, where something other than the number of pods decides it.
    pub(crate) fn set_given_share(&mut self, given_share: Option<Fraction>) {
        self.given_share = given_share;
    }

    /// Sets the requests a second that the service gets, for the price.
    pub(crate) fn set_traffic(&mut self, traffic: Traffic) {
        if let Some(budget) = &mut self.budget {
            budget.traffic = traffic;
        }
    }

    /// The same, but the canary keeps each share for this time before it may get more.
    #[must_use]
    pub fn with_soak(self, time: Option<Duration>) -> Self {
        Self { soak: time.map(Soak::new), ..self }
    }

    /// Starts the trial again, as of `now`, for another canary. Requests that were sent before `now` do not
    /// count, even if they end later.
    pub fn reset(&mut self, now: Instant) {
        self.tally = self.tally.anew(now);
        self.judge.reset();
        // whether its pods are ready is told only when it changes
        self.presence = Presence { unready: self.presence.unready, ..Presence::default() };
        self.warm_ups.reset();
        self.seen_share = SeenShare::default();
        if let Some(soak) = &mut self.soak {
            soak.reset();
        }
        self.counted_from = None;
        self.interrupted = false;
        self.pauses = Pauses { since: self.pauses.since.map(|_| now), total: Duration::ZERO };
    }

    /// Says that a person has paused the requests, or goes on. The canary does not count as absent because of a pause.
    pub fn pause(&mut self, paused: bool, now: Instant) {
        self.pauses.set(paused, now);
    }

    /// For how long the trial has run, without the times in which a person has paused it.
    pub fn running_for(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.tally.began()).saturating_sub(self.pauses.until(now))
    }

    /// Counts what a source yields.
    pub fn see(&mut self, seen: &Seen) {
        match seen {
            Seen::Request(observation) => self.observe(observation),
            Seen::Interval(interval) => self.observe_interval(interval, |_| true),
            Seen::Health(health) => self.observe_health(health),
            Seen::Trouble(why) => self.tally.observe_trouble(why),
        }
    }

    /// Counts the result of one request.
    pub fn observe(&mut self, observation: &Observation) {
        let counts = observation.sent >= self.tally.began();
        let warm_up = self.settings.warm_up;
        let is_warm_up = warm_up.is_some_and(|time| self.warm_ups.of_request(observation, time));
        if counts {
            self.tally.observe(observation);
            if let Response::Answer(answer) = &observation.response
                && answer.attribution.release() == Some(Release::Canary)
            {
                let at = observation.sent + answer.latency.unwrap_or_default();
                self.presence.see_answer(self.pauses.clock(at));
            }
            if let Some(release) = observation.attributed().and_then(|(attribution, _)| attribution.release())
            {
                self.seen_share.see(release, 1, observation.sent, Duration::ZERO);
            }
        }
        let began = self.tally.began();
        let sent = self.settings.episodes.map(|_| observation.sent.saturating_duration_since(began));
        let attributed = observation.attributed().filter(|_| counts);
        let request = attributed.map(|(attribution, outcome)| {
            let latency = observation.latency();
            Request::new(attribution.release(), outcome)
                .with_pod(observation.pod())
                .with_stratum(observation.stratum.as_deref())
                .with_sent(sent)
                .with_latency(latency)
                .with_warm_up(is_warm_up)
        });
        self.judge.observe_numbered(observation.number, request);
        self.trust_warm_up(observation.sent);
        self.hold_share(observation.sent);
        self.check();
    }

    /// Skips the request with this number: the number is part of the order of sending, but the request is not
    /// part of this trial.
    pub fn skip(&mut self, number: u64) {
        self.judge.observe_numbered(number, None);
    }

    /// Counts the requests of one interval of time, of this stratum if requests are divided.
    pub fn observe_batch(&mut self, stratum: Option<&str>, batch: Batch) {
        self.tally.observe_batch(&batch);
        match stratum {
            Some(stratum) => self.judge.observe_batch_of(stratum, batch),
            None => self.judge.observe_batch(batch),
        }
        self.check();
    }

    /// Counts the windows of stable, and of those versions of the canary for which `takes` is true.
    pub fn observe_interval(&mut self, interval: &Interval, takes: impl Fn(&str) -> bool) {
        let mut counted = Batch::default();
        let mut windows = Vec::new();
        let began = self.tally.began();
        for counted_window in interval.windows(takes) {
            let window = &counted_window.window;
            if interval.since(window).is_none_or(|since| since < began) {
                continue;
            }
            let warm_up = self.settings.warm_up;
            let is_warm_up =
                warm_up.is_some_and(|time| self.warm_ups.of_window(interval, counted_window, time));
            let (mut from, until) = self.counted_from.unwrap_or((window.since, window.until));
            if self.interrupted {
                from += (window.since - until).max(0.0); // nothing was counted in between
                self.interrupted = false;
            }
            self.counted_from = Some((from.min(window.since), until.max(window.until)));
            counted.add(window.release, window.counts);
            self.presence.see_window(window, self.pauses.clock(interval.at));
            windows.push(Window { is_warm_up, ..window.clone() });
        }
        for release in Release::BOTH {
            let answers = counted.of(release).requests;
            self.seen_share.see(release, answers, interval.at, self.presence.scrape);
        }
        self.tally.observe_batch(&counted);
        self.judge.observe_scrapes(windows);
        self.trust_warm_up(interval.at);
        self.hold_share(interval.at);
        self.check();
    }

    /// Notes the share that the evidence allows at this time, if it is to be held.
    fn hold_share(&mut self, at: Instant) {
        if let Some(soak) = &mut self.soak
            && self.judge.counted().canary.requests > 0
            && soak.is_due(at)
        {
            soak.see(self.judge.max_share(), at);
        }
    }

    /// Once answers of the canary have been left out for long enough, until this time, they can decide.
    fn trust_warm_up(&mut self, at: Instant) {
        if self.settings.warm_up.is_some_and(|time| self.warm_ups.is_trusted(at, time)) {
            self.judge.trust_warm_up();
        }
    }

    /// What was counted is what the verdict rests on and what waits.
    fn check(&self) {
        debug_assert_eq!(self.tally.sides(), self.judge.counted(), "each request counts once");
    }

    /// Goes on after an interruption, as it was read, with the price and the share of `like`. `false` if it cannot be a
    /// trial's: the tally and the judge have not counted the same.
    pub(crate) fn resume(&mut self, like: &Self) -> bool {
        (self.budget, self.coverage, self.given_share) = (like.budget, like.coverage, like.given_share);
        let Settings { slo, max_burn, .. } = like.settings;
        self.settings = Settings { slo, max_burn, ..self.settings };
        self.judge.allow(self.settings);
        self.soak = match (self.soak, like.soak) {
            (Some(soak), Some(like)) => Some(soak.with_time_of(like)),
            (_, like) => like,
        };
        self.interrupted = self.counted_from.is_some();
        self.tally.is_sound() && self.judge.resume() && self.tally.sides() == self.judge.counted()
    }

    /// What decides about the evidence: the trial of a file goes on only with the same.
    pub(crate) fn terms(&self) -> String {
        let Settings {
            alpha,
            max_failure_rate,
            max_ratio,
            min_answers,
            max_latency,
            slower_by,
            warm_up,
            episodes,
            ..
        } = self.settings;
        let slower_by = slower_by.map_or_else(|| "none".to_owned(), |tolerance| tolerance.get().to_string());
        let [latency, warm_up] = [max_latency, warm_up]
            .map(|time| time.map_or_else(|| "none".to_owned(), |time| format!("{time:?}")));
        // a state file of before has no such flag
        let episodes = episodes.map(|time| format!(" --episodes {time:?}")).unwrap_or_default();
        format!(
            "--alpha {} --max-failure-rate {} --max-ratio {} --min-answers {min_answers} --max-latency {latency} \
             --slower-by {slower_by} --warm-up {warm_up}{episodes}",
            alpha.get(),
            max_failure_rate.get(),
            max_ratio.get(),
        )
    }

    /// The same for people: flags and their values.
    pub(crate) fn shown_terms(&self) -> Vec<(&'static str, String)> {
        let Settings { alpha, max_failure_rate, max_ratio, min_answers, .. } = self.settings;
        let Settings { max_latency, slower_by, warm_up, episodes, .. } = self.settings;
        let time = |flag, time: Option<Duration>| Some((flag, format!("{:?}", time?)));
        let all = [
            Some(("--alpha", alpha.get().to_string())),
            Some(("--max-failure-rate", max_failure_rate.get().to_string())),
            Some(("--max-ratio", max_ratio.get().to_string())),
            Some(("--min-answers", min_answers.to_string())),
            time("--max-latency", max_latency),
            slower_by.map(|tolerance| ("--slower-by", tolerance.get().to_string())),
            time("--warm-up", warm_up),
            time("--episodes", episodes),
        ];
        all.into_iter().flatten().collect()
    }

    /// Takes in what Kubernetes tells about the canary's pods.
    pub fn observe_health(&mut self, health: &Health) {
        self.presence.unready = health.unready.map(|since| self.pauses.clock(since));
        if health.at >= self.tally.began() && health.restarts > 0 {
            self.presence.restarted = Some(self.pauses.clock(health.at));
            self.judge.observe_restarts(health.restarts);
        }
    }

    /// Call this when no more requests will come. The judge then counts its last batch, even if it is incomplete.
    pub fn end(&mut self) {
        self.judge.end();
    }

    /// The counted requests a second; `None` for single requests, and before the first interval.
    pub fn counted_rate(&self) -> Option<f64> {
        let seconds = self.counted_from.map(|(from, until)| until - from)?;
        (seconds > 0.0).then(|| self.tally.total().requests as f64 / seconds)
    }

    /// Begins a record of this trial, which has no requests yet.
    ///
    /// # Errors
    /// If the output cannot be written.
    pub fn record_to<W: Write>(&self, output: W) -> io::Result<Recorder<W>> {
        let Self { settings, coverage, budget, .. } = *self;
        Recorder::new(output, self.tally.began(), Header { settings, coverage, budget })
    }

    /// The judge's settings.
    pub fn settings(&self) -> Settings {
        self.settings
    }

    /// The counts, latencies and pods so far.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// The canary's share of the requests, if it is given.
    pub fn given_share(&self) -> Option<Fraction> {
        self.given_share
    }

    /// The canary's share of the requests `now`, from 0 to 1; `None` if hardly anything answers.
    pub fn seen_share(&self, now: Instant) -> Option<f64> {
        self.seen_share.share(now, self.presence.scrape)
    }

    /// The expected share of a release, from 0 to 1: the given one, or its part of `pods`. `None` if it is unknown.
    pub fn expected_share(&self, release: &Attribution, pods: &Pods) -> Option<f64> {
        let Some(canary) = self.given_share.map(Fraction::get) else { return pods.expected_share(release) };
        release.release().map(|release| match release {
            Release::Stable => 1.0 - canary,
            Release::Canary => canary,
        })
    }

    /// Whether the canary is absent `now`. Then there is no promotion.
    pub fn absence(&self, now: Instant) -> Option<Absence> {
        let answers = self.tally.of_release(Release::Canary).requests;
        self.presence.absence(answers, self.tally.began(), self.pauses.clock(now))
    }

    /// The roll-back or promotion, once decided. A promotion is not decided while the canary is absent.
    pub fn decided(&self, now: Instant) -> Option<Decision> {
        self.judge
            .decided()
            .filter(|decision| !matches!(decision, Decision::Promote { .. }) || self.absence(now).is_none())
    }

    /// The verdict on the requests so far.
    pub fn verdict(&self, now: Instant) -> Verdict {
        let verdict = self.judge.verdict().during(self.absence(now));
        match &self.soak {
            Some(soak) => soak.limit(verdict),
            None => verdict,
        }
    }

    /// The cost of the canary until `now`; `None` before stable has answered.
    pub fn price(&self, now: Instant) -> Option<Price> {
        let scale = match (self.coverage, self.budget) {
            (Coverage::Sample, Some(budget)) => {
                let elapsed = self.running_for(now).as_secs_f64();
                budget.traffic.get() * elapsed / self.tally.total().requests as f64
            }
            _ => 1.0,
        };
        let budget = match self.coverage {
            Coverage::Counted(slo) => {
                let traffic = self.counted_rate().and_then(|rate| Traffic::new(rate).ok());
                traffic.map(|traffic| Budget { traffic, slo })
            }
            Coverage::Sample | Coverage::All => self.budget,
        };
        match self.judge.by_stratum() {
            Some(strata) => Price::of_strata(&strata, scale, budget),
            None => Price::new(&self.judge.counted(), scale, budget),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::source::{Answer, Attribution, Cause, NoAnswer, Response};
    use canary_judge::{Counts, FailingPods, Outcome};

    fn trial(now: Instant) -> Trial {
        Trial::new(Settings::default(), None, Coverage::Sample, now)
    }

    fn answer(number: u64, sent: Instant, release: Release, outcome: Outcome) -> Observation {
        let pod = Some(format!("{release}-1"));
        let attribution = Attribution::Release(release);
        let answer = Answer { attribution, outcome, status: None, latency: None, pod, info: None };
        Observation { number, sent, started: None, stratum: None, response: Response::Answer(answer) }
    }

    fn no_answer(number: u64, sent: Instant) -> Observation {
        let response = Response::NoAnswer(NoAnswer {
            attribution: Attribution::NoAnswer,
            cause: Cause::TimedOut,
            detail: "late".to_owned(),
            pod: None,
            info: None,
        });
        Observation { number, sent, started: None, stratum: None, response }
    }

    /// Of every four requests, three go to stable and one to the canary. The canary fails if `failed` says so.
    fn turn(number: u64, sent: Instant, failed: impl Fn(u64) -> bool) -> Observation {
        let release = if number % 4 == 3 { Release::Canary } else { Release::Stable };
        let fails = release == Release::Canary && failed(number);
        answer(number, sent, release, if fails { Outcome::Failure } else { Outcome::Success })
    }

    #[test]
    fn the_order_of_arrival_makes_no_difference() {
        let now = Instant::now();
        let outcomes: Vec<_> = (0..4000).map(|number| turn(number, now, |number| number % 50 == 3)).collect();
        let verdict_of = |order: &[usize]| {
            let mut trial = trial(now);
            for place in order {
                trial.observe(&outcomes[*place]);
            }
            trial.end();
            trial.verdict(now)
        };
        let mut order: Vec<_> = (0..4000).collect();
        let in_order = verdict_of(&order);
        assert_eq!(in_order.canary.counts, Counts { requests: 1000, failures: 40, slow: 0 });
        let mut rng = fastrand::Rng::with_seed(12);
        for _ in 0..20 {
            rng.shuffle(&mut order);
            assert_eq!(verdict_of(&order), in_order);
        }
    }

    #[test]
    fn later_requests_do_not_decide_while_an_earlier_one_is_open() {
        let now = Instant::now();
        let mut trial = trial(now);
        for number in 1..10_000 {
            trial.observe(&turn(number, now, |_| true));
        }
        assert_eq!((trial.decided(now), trial.verdict(now).canary.counts.requests), (None, 0));
        assert_eq!(trial.tally().of_release(Release::Canary).failures, 2500, "the tally counts them at once");
        trial.observe(&no_answer(0, now));
        assert!(matches!(trial.decided(now), Some(Decision::RollBack { .. })), "{}", trial.verdict(now));
        assert_eq!(trial.verdict(now).unattributed, 1);
    }

    #[test]
    fn an_unsent_request_does_not_block_later_ones() {
        let now = Instant::now();
        let mut trial = trial(now);
        for number in 1..400 {
            trial.observe(&turn(number, now, |_| true));
        }
        trial.observe(&Observation { response: Response::Unsent("no port".to_owned()), ..no_answer(0, now) });
        assert!(matches!(trial.decided(now), Some(Decision::RollBack { .. })), "{}", trial.verdict(now));
        assert_eq!(trial.verdict(now).unattributed, 0);
    }

    #[test]
    fn requests_sent_before_a_reset_do_not_count_even_if_they_end_later() {
        let (now, later) = (Instant::now(), Instant::now() + Duration::from_secs(1));
        let mut trial = trial(now);
        // request 0 is open; 1 to 999 have ended and wait for it; 1000 to 1099 are open, too
        for number in 1..1000 {
            trial.observe(&turn(number, now, |_| true));
        }
        trial.reset(later);
        for number in (1000..1100).chain([0]) {
            trial.observe(&turn(number, now, |_| true));
        }
        for number in 1100..1140 {
            trial.observe(&turn(number, later, |_| false));
        }
        trial.end();
        let counts = |requests| Counts { requests, failures: 0, slow: 0 };
        let verdict = trial.verdict(now);
        assert_eq!((verdict.canary.counts, verdict.stable.counts), (counts(10), counts(30)));
        assert_eq!((trial.tally().total(), trial.decided(now)), (counts(40), None));
        assert_eq!(verdict.failing_pods, FailingPods::default());
    }

    #[test]
    fn at_another_rate_each_failure_still_costs_one_request() {
        let start = Instant::now();
        let rate = |rate| Traffic::new(rate).expect("valid");
        let budget = Budget { traffic: rate(40.0), slo: Fraction::new(0.999).expect("valid") };
        let mut trial = Trial::new(Settings::default(), Some(budget), Coverage::Sample, start);
        for (began, now) in [(start, 40_u32), (start + Duration::from_secs(60), 80)] {
            trial.set_traffic(rate(f64::from(now)));
            trial.reset(began);
            let numbers = u64::from(now - 40)..u64::from(2 * now - 40);
            numbers.for_each(|number| trial.observe(&turn(number, began, |_| true)));
            let price = trial.price(began + Duration::from_secs(1)).expect("stable has answered");
            let failures = f64::from(now) / 4.0;
            assert!((price.failed_requests - failures).abs() < 0.01, "{price:?} at {now} requests a second");
        }
    }

    #[test]
    fn a_pause_is_no_absence_and_costs_nothing() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let budget =
            Budget { traffic: Traffic::new(40.0).expect("valid"), slo: Fraction::new(0.999).expect("valid") };
        let mut trial = Trial::new(Settings::default(), Some(budget), Coverage::Sample, start);
        let second = |trial: &mut Trial, second: u64, first: u64| {
            (0..40).for_each(|number| {
                trial.observe(&turn(first + number, at(second), |number| number % 400 == 3));
            });
        };
        (0..50).for_each(|number| second(&mut trial, number, 40 * number));
        let (verdict, price) = (trial.verdict(at(50)), trial.price(at(50)));
        assert!(price.is_some());
        trial.pause(true, at(50));
        for minute in 1..10 {
            let now = at(50 + 60 * minute);
            assert_eq!(
                (trial.absence(now), trial.verdict(now), trial.price(now)),
                (None, verdict.clone(), price)
            );
        }
        trial.pause(false, at(650));
        assert_eq!((trial.absence(at(650)), trial.price(at(650))), (None, price));
        assert_eq!(trial.absence(at(670)), None, "20 s without an answer are no absence");
        assert_eq!(
            trial.absence(at(681)),
            Some(Absence::Silent(Duration::from_secs(32))),
            "those of both sides of the pause"
        );
        (650..660).for_each(|number| second(&mut trial, number, 40 * (number - 600)));
        assert_eq!(trial.absence(at(661)), None);
        trial.pause(true, at(661));
        trial.reset(at(700));
        assert_eq!(trial.pauses.until(at(710)), Duration::from_secs(10), "a pause goes on in the next trial");
    }
}
