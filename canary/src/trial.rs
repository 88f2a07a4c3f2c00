//! A canary on trial: what has been seen of it, and what may be said of that.

use std::{collections::VecDeque, time::Instant};

use crate::{
    judge::{Budget, Decision, Fraction, Judge, Price, Settings, Verdict},
    release::{Attribution, Batch, Outcome, Release, real},
    source::Observation,
    tally::{Pods, Tally},
};

/// Which part of the service's requests a trial sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coverage {
    /// Requests of our own, which stand for all that the service gets in that time.
    Sample,
    /// The requests that the price is for.
    All,
}

/// A tally and a judge of the same requests. The tally shows them as they end, the judge takes them in the order
/// of sending.
#[derive(Clone, Debug)]
pub struct Trial {
    settings: Settings,
    budget: Option<Budget>,
    coverage: Coverage,
    /// The canary's share of the requests where others than its pods' number decide it.
    given_share: Option<Fraction>,
    tally: Tally,
    judge: Judge,
    in_order: InOrder,
}

impl Trial {
    /// One in which nothing has been seen yet, as of `now`. Without a budget there is no share of it in the price.
    pub fn new(settings: Settings, budget: Option<Budget>, coverage: Coverage, now: Instant) -> Self {
        let (tally, judge) = (Tally::new(now), Judge::new(settings));
        Self { settings, budget, coverage, given_share: None, tally, judge, in_order: InOrder::default() }
    }

    /// The same, but the canary is expected to get that share of the requests, whatever the number of its pods. It
    /// decides nothing.
    #[must_use]
    pub fn with_given_share(self, given_share: Option<Fraction>) -> Self {
        Self { given_share, ..self }
    }

    /// Forgets what was seen: from `now` on it is another canary's trial. Requests that were sent before do not
    /// count, whenever they end.
    pub fn reset(&mut self, now: Instant) {
        self.tally = Tally::new(now);
        self.judge = Judge::new(self.settings);
        self.in_order.forget();
    }

    /// Takes in what came of one request.
    pub fn observe(&mut self, observation: &Observation) {
        let counts = observation.sent >= self.tally.began();
        if counts {
            self.tally.observe(observation);
        }
        let attributed = observation.attributed().filter(|_| counts);
        let outcome = attributed.map(|(attribution, outcome)| (attribution.release(), outcome));
        self.in_order.take(observation.number, outcome, observation.pod(), &mut self.judge);
    }

    /// Passes over the request of that number: it is part of the order of sending, and not of this trial.
    pub fn skip(&mut self, number: u64) {
        self.in_order.take(number, None, None, &mut self.judge);
    }

    /// Takes in what was counted in one interval of time.
    pub fn observe_batch(&mut self, batch: Batch) {
        self.tally.observe_batch(&batch);
        self.judge.observe_batch(batch);
    }

    /// No more will come: what is there counts as it is.
    pub fn end(&mut self) {
        self.judge.end();
    }

    /// What the judge goes by.
    pub fn settings(&self) -> Settings {
        self.settings
    }

    /// What was seen.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// The canary's share, where it is given.
    pub fn given_share(&self) -> Option<Fraction> {
        self.given_share
    }

    /// The share of requests that is to be expected of a release, from 0 to 1: the one that is given, or else that
    /// which these pods would have if each got the same. None where that is not known.
    pub fn expected_share(&self, release: &Attribution, pods: &Pods) -> Option<f64> {
        let Some(canary) = self.given_share.map(Fraction::get) else { return pods.expected_share(release) };
        release.release().map(|release| match release {
            Release::Stable => 1.0 - canary,
            Release::Canary => canary,
        })
    }

    /// The roll-back or the promotion, once there is one.
    pub fn decided(&self) -> Option<Decision> {
        self.judge.decided()
    }

    /// What may be said.
    pub fn verdict(&self) -> Verdict {
        self.judge.verdict()
    }

    /// What the canary has cost until `now`; none before stable has answered.
    pub fn price(&self, now: Instant) -> Option<Price> {
        let scale = match (self.coverage, self.budget) {
            (Coverage::Sample, Some(budget)) => {
                let elapsed = now.saturating_duration_since(self.tally.began()).as_secs_f64();
                budget.traffic.get() * elapsed / real(self.tally.total().requests)
            }
            _ => 1.0,
        };
        Price::new(&self.tally.sides(), scale, self.budget)
    }
}

/// Outcomes as they come, until all that were sent before them are there.
///
/// Failures take longer than successes: a time-out comes seconds after the answers to requests that were sent
/// later. Whoever judges in the order of arrival promotes a canary by its fast survivors.
#[derive(Clone, Debug, Default)]
struct InOrder {
    /// The number of the request that the judge takes next.
    next: u64,
    /// What is there of that request and later ones.
    waiting: VecDeque<Option<Waiting>>,
}

/// A request that has ended.
#[derive(Clone, Debug)]
struct Waiting {
    /// The release, if it names one, and how it ended; none if it does not count.
    outcome: Option<(Option<Release>, Outcome)>,
    pod: Option<String>,
}

impl InOrder {
    /// What is waiting does not count.
    fn forget(&mut self) {
        self.waiting.iter_mut().flatten().for_each(|waiting| waiting.outcome = None);
    }

    fn take(
        &mut self,
        number: u64,
        outcome: Option<(Option<Release>, Outcome)>,
        pod: Option<&str>,
        judge: &mut Judge,
    ) {
        if number == self.next && self.waiting.is_empty() {
            // the usual case where outcomes come in order: no copy
            self.next += 1;
            observe(judge, outcome, pod);
            return;
        }
        let Some(place) = number.checked_sub(self.next).and_then(|place| usize::try_from(place).ok()) else {
            return; // each number is there once
        };
        if self.waiting.len() <= place {
            self.waiting.resize(place + 1, None);
        }
        self.waiting[place] = Some(Waiting { outcome, pod: pod.map(str::to_owned) });
        while let Some(waiting) = self.waiting.front_mut().and_then(Option::take) {
            self.waiting.pop_front();
            self.next += 1;
            observe(judge, waiting.outcome, waiting.pod.as_deref());
        }
    }
}

fn observe(judge: &mut Judge, outcome: Option<(Option<Release>, Outcome)>, pod: Option<&str>) {
    if let Some((release, outcome)) = outcome {
        judge.observe(release, outcome, pod);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        judge::FailingPods,
        release::{Attribution, Counts},
        source::{Answer, Cause, NoAnswer, Response},
    };

    fn trial(now: Instant) -> Trial {
        Trial::new(Settings::default(), None, Coverage::Sample, now)
    }

    fn answer(number: u64, sent: Instant, release: Release, outcome: Outcome) -> Observation {
        let pod = Some(format!("{release}-1"));
        let attribution = Attribution::Release(release);
        let answer = Answer { attribution, outcome, latency: None, pod, info: None };
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

    /// Four requests that are sent in turn: three to stable, one to the canary, which fails with `failed`.
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
    fn while_an_earlier_request_is_open_later_ones_decide_nothing() {
        let now = Instant::now();
        let mut trial = trial(now);
        for number in 1..10_000 {
            trial.observe(&turn(number, now, |_| true));
        }
        assert_eq!((trial.decided(), trial.verdict().canary.counts.requests), (None, 0));
        assert_eq!(trial.tally().of_release(Release::Canary).failures, 2500, "they are shown at once");
        trial.observe(&no_answer(0, now));
        assert!(matches!(trial.decided(), Some(Decision::RollBack { .. })), "{}", trial.verdict());
        assert_eq!(trial.verdict().unattributed, 1);
    }

    #[test]
    fn a_request_that_was_never_sent_holds_up_none() {
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
    fn after_a_reset_nothing_that_was_sent_before_counts_whenever_it_ends() {
        let (now, later) = (Instant::now(), Instant::now() + Duration::from_secs(1));
        let mut trial = trial(now);
        // number 0 is open; 1 to 999 have ended and wait for it; 1000 to 1099 are open, too
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
