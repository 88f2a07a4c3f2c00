//! A canary on trial: the requests seen so far, and the verdict on them.

mod edges;

use std::time::{Duration, Instant};

use self::edges::Edges;
use crate::{
    source::{Attribution, Interval, Observation, Seen},
    tally::{Pods, Tally},
};
use canary_judge::{
    Batch, Budget, Decision, Fraction, Judge, Price, Release, Request, Settings, Traffic, Verdict,
};

/// The part of the service's requests that a trial sees.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Coverage {
    /// Requests that canary itself sends. They stand for all requests that the service gets in the same time.
    Sample,
    /// All requests that the price is about.
    All,
    /// All that the service gets, so that they tell its traffic, too. With the service level objective.
    Counted(Fraction),
}

/// A tally and a judge of the same requests. The tally counts requests as they end. The judge gets them in the
/// order in which they were sent.
#[derive(Clone, Debug)]
pub struct Trial {
    settings: Settings,
    budget: Option<Budget>,
    coverage: Coverage,
    /// The canary's share of the requests where others than its pods' number decide it.
    given_share: Option<Fraction>,
    tally: Tally,
    judge: Judge,
    edges: Edges,
    /// The time that intervals were counted in.
    counted_for: Duration,
}

impl Trial {
    /// A trial without requests that starts `now`. Without a budget, the price has no share of the budget.
    pub fn new(settings: Settings, budget: Option<Budget>, coverage: Coverage, now: Instant) -> Self {
        let (tally, judge) = (Tally::new(now), Judge::new(settings));
        let edges = Edges::default();
        Self {
            settings,
            budget,
            coverage,
            given_share: None,
            tally,
            judge,
            edges,
            counted_for: Duration::ZERO,
        }
    }

    /// The same, but the canary is expected to get that share of the requests, whatever the number of its pods. It
    /// decides nothing.
    #[must_use]
    pub fn with_given_share(self, given_share: Option<Fraction>) -> Self {
        Self { given_share, ..self }
    }

    /// Starts the trial again, as of `now`, for another canary. Requests that were sent before `now` do not
    /// count, even if they end later.
    pub fn reset(&mut self, now: Instant) {
        self.tally = Tally::new(now);
        self.judge.reset();
        self.edges.forget();
        self.counted_for = Duration::ZERO;
    }

    /// Counts what a source yields.
    pub fn see(&mut self, seen: &Seen) {
        match seen {
            Seen::Request(observation) => self.observe(observation),
            Seen::Interval(interval) => self.observe_interval(interval, interval.batch(|_| true)),
            Seen::Trouble(why) => self.tally.observe_trouble(why),
        }
    }

    /// Counts the result of one request.
    pub fn observe(&mut self, observation: &Observation) {
        let counts = observation.sent >= self.tally.began();
        if counts {
            self.tally.observe(observation);
        }
        let attributed = observation.attributed().filter(|_| counts);
        let request = attributed.map(|(attribution, outcome)| {
            let (release, pod) = (attribution.release(), observation.pod());
            Request { release, outcome, pod }
        });
        self.judge.observe_numbered(observation.number, request);
    }

    /// Skips the request with this number: the number is part of the order of sending, but the request is not
    /// part of this trial.
    pub fn skip(&mut self, number: u64) {
        self.judge.observe_numbered(number, None);
    }

    /// Counts the requests of one interval of time.
    pub fn observe_batch(&mut self, batch: Batch) {
        self.tally.observe_batch(&batch);
        self.judge.observe_batch(batch);
    }

    /// Counts `batch`, the part of the interval that belongs to this trial. The judge gets it a few batches later,
    /// unless it lies at the edge of a change: the counters of different pods are read at different moments.
    pub fn observe_interval(&mut self, interval: &Interval, batch: Batch) {
        let counts = interval.since.is_none_or(|since| since >= self.tally.began());
        if counts {
            self.tally.observe_batch(&batch);
            self.counted_for += interval.length;
        }
        if let Some(batch) = self.edges.next(batch, counts) {
            self.judge.observe_batch(batch);
        }
    }

    /// Call this when no more requests will come. The judge then counts its last batch, even if it is incomplete.
    pub fn end(&mut self) {
        self.edges.end().for_each(|batch| self.judge.observe_batch(batch));
        self.judge.end();
    }

    /// The counted requests a second; `None` for single requests, and before the first interval.
    pub fn counted_rate(&self) -> Option<f64> {
        let seconds = self.counted_for.as_secs_f64();
        (seconds > 0.0).then(|| (self.tally.total().requests as f64) / seconds)
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

    /// The expected share of a release, from 0 to 1: the given one, or its part of `pods`. `None` if it is unknown.
    pub fn expected_share(&self, release: &Attribution, pods: &Pods) -> Option<f64> {
        let Some(canary) = self.given_share.map(Fraction::get) else { return pods.expected_share(release) };
        release.release().map(|release| match release {
            Release::Stable => 1.0 - canary,
            Release::Canary => canary,
        })
    }

    /// The roll-back or promotion, once decided.
    pub fn decided(&self) -> Option<Decision> {
        self.judge.decided()
    }

    /// The verdict on the requests so far.
    pub fn verdict(&self) -> Verdict {
        self.judge.verdict()
    }

    /// The cost of the canary until `now`; `None` before stable has answered.
    pub fn price(&self, now: Instant) -> Option<Price> {
        let scale = match (self.coverage, self.budget) {
            (Coverage::Sample, Some(budget)) => {
                let elapsed = now.saturating_duration_since(self.tally.began()).as_secs_f64();
                budget.traffic.get() * elapsed / (self.tally.total().requests as f64)
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
        Price::new(&self.tally.sides(), scale, budget)
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
        Observation { number, sent, response: Response::Answer(answer) }
    }

    fn no_answer(number: u64, sent: Instant) -> Observation {
        let response = Response::NoAnswer(NoAnswer {
            attribution: Attribution::NoAnswer,
            cause: Cause::TimedOut,
            detail: "late".to_owned(),
        });
        Observation { number, sent, response }
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
            trial.verdict()
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
        assert_eq!((trial.decided(), trial.verdict().canary.counts.requests), (None, 0));
        assert_eq!(trial.tally().of_release(Release::Canary).failures, 2500, "the tally counts them at once");
        trial.observe(&no_answer(0, now));
        assert!(matches!(trial.decided(), Some(Decision::RollBack { .. })), "{}", trial.verdict());
        assert_eq!(trial.verdict().unattributed, 1);
    }

    #[test]
    fn an_unsent_request_does_not_block_later_ones() {
        let now = Instant::now();
        let mut trial = trial(now);
        for number in 1..400 {
            trial.observe(&turn(number, now, |_| true));
        }
        trial.observe(&Observation { response: Response::Unsent("no port".to_owned()), ..no_answer(0, now) });
        assert!(matches!(trial.decided(), Some(Decision::RollBack { .. })), "{}", trial.verdict());
        assert_eq!(trial.verdict().unattributed, 0);
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
        let verdict = trial.verdict();
        assert_eq!((verdict.canary.counts, verdict.stable.counts), (counts(10), counts(30)));
        assert_eq!((trial.tally().total(), trial.decided()), (counts(40), None));
        assert_eq!(verdict.failing_pods, FailingPods::default());
    }
}
