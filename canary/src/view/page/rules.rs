//! What rules of thumb say about the same requests, beside the judge.

use std::{
    mem::{Discriminant, discriminant},
    time::Instant,
};

use serde::Serialize;

use crate::{source::Observation, trial::Trial};
use canary_judge::{
    Decision, Release, Settings, count, percent,
    rules::{GOOD_CANARY, RulesOfThumb, Said},
};

/// The rules of a trial, and when its judge said "roll back".
#[derive(Clone, Debug, Default)]
pub(crate) struct Rules {
    thumb: RulesOfThumb,
    judge: Option<Said>,
    /// What the judge has decided, and when, in seconds since the trial began.
    sure: Option<(Discriminant<Decision>, f64)>,
}

impl Rules {
    /// Takes in a request that `trial` has just counted.
    pub(crate) fn observe(&mut self, trial: &Trial, observation: &Observation, now: Instant) {
        if observation.sent < trial.tally().began() {
            return;
        }
        let Some((attribution, outcome)) = observation.attributed() else { return };
        let seconds = trial.running_for(now).as_secs_f64();
        self.thumb.observe(attribution.release(), outcome, seconds);
        let decided = trial.decided(now);
        self.sure = decided.map(|decision| match (discriminant(&decision), self.sure) {
            (same, Some((before, since))) if same == before => (same, since),
            (new, _) => (new, seconds),
        });
        if self.judge.is_none() && matches!(decided, Some(Decision::RollBack { .. })) {
            self.judge = Some(Said { seconds, canary: trial.tally().of_release(Release::Canary) });
        }
    }

    /// When the judge decided on what it says now, in seconds since the trial began, as the rules' times.
    pub(super) fn sure_after(&self) -> Option<f64> {
        self.sure.map(|(_, seconds)| rounded(seconds))
    }

    /// What the page shows of them; `None` where single requests are not known.
    pub(super) fn shown(&self, trial: &Trial) -> Option<Shown> {
        let is_counted = trial.tally().recent().is_empty() && trial.tally().total().requests > 0;
        let line = |name, said: Option<Said>, wrong, judge| Line {
            name,
            said: said.map(|said| rounded(said.seconds)),
            answers: said.map(|said| said.canary.requests),
            wrong,
            judge,
        };
        let thumb = self.thumb.said().zip(GOOD_CANARY.wrong);
        let thumb = thumb.map(|((name, said), wrong)| line(name, said, wrong, false));
        let (settings, usual) = (trial.settings(), Settings::default());
        // with another α, only its promise is known
        let judge = if (settings.alpha, settings.max_ratio) == (usual.alpha, usual.max_ratio) {
            line("The judge", self.judge, GOOD_CANARY.wrong_of_the_judge, true)
        } else {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to 100")]
            let promised = (settings.alpha.get() * 100.0).ceil() as u32;
            line("The judge (at most)", self.judge, promised, true)
        };
        (!is_counted).then(|| Shown { list: thumb.chain([judge]).collect(), setting: setting() })
    }
}

fn rounded(seconds: f64) -> f64 {
    (seconds * 10.0).round() / 10.0
}

/// The setting in which it was measured how often each is wrong.
fn setting() -> String {
    let every = (1.0 / GOOD_CANARY.share).round();
    format!(
        "in {} trials of {} min with {} requests/s, 1 in {every} to the canary; both fail {}",
        count(GOOD_CANARY.trials.into()),
        GOOD_CANARY.seconds / 60.0,
        GOOD_CANARY.rate,
        percent(GOOD_CANARY.failure_rate),
    )
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Shown {
    list: Vec<Line>,
    setting: String,
}

#[derive(Clone, Copy, Debug, Serialize)]
struct Line {
    name: &'static str,
    /// When it first said "roll back", in seconds since the trial began, without pauses.
    said: Option<f64>,
    /// After so many answers of the canary.
    answers: Option<u64>,
    /// How many of 100 good canaries it rolls back.
    wrong: u32,
    judge: bool,
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use canary_judge::Outcome::{self, Failure, Success};

    use super::*;
    use crate::{
        source::{Answer, Attribution, Response},
        trial::Coverage,
    };

    #[test]
    fn the_judge_is_sure_from_the_decision_on_that_it_still_has() {
        let began = Instant::now();
        let mut trial = Trial::new(Settings::default(), None, Coverage::Sample, began);
        let mut rules = Rules::default();
        let mut number = 0;
        let mut answer = |release: Release, outcome: Outcome| {
            let now = began + Duration::from_millis(100) * u32::try_from(number).expect("few");
            let answer = Answer {
                attribution: Attribution::Release(release),
                outcome,
                status: None,
                latency: None,
                pod: None,
                info: None,
            };
            let response = Response::Answer(answer);
            let observation = Observation { number, sent: now, started: None, stratum: None, response };
            trial.observe(&observation);
            rules.observe(&trial, &observation, now);
            number += 1;
            (rules.sure_after(), trial.decided(now), now.duration_since(began).as_secs_f64())
        };
        // it may decide with either answer of a pair, 0.1 s apart
        let (mut sure, mut decided) = (None, None);
        while sure.is_none() {
            answer(Release::Stable, Success);
            let seconds;
            (sure, decided, seconds) = answer(Release::Canary, Success);
            assert!(seconds < 300.0, "a good canary is promoted");
            assert_eq!(sure.is_some(), decided.is_some(), "it is sure when it has decided");
            assert!(sure.is_none_or(|sure| (sure - seconds).abs() < 0.16), "{sure:?}, {seconds}");
        }
        assert!(matches!(decided, Some(Decision::Promote { .. })));
        let first = sure;
        answer(Release::Stable, Success);
        assert_eq!(answer(Release::Canary, Success).0, first, "the time stays while the decision does");
        loop {
            answer(Release::Stable, Success);
            let (sure, decided, seconds) = answer(Release::Canary, Failure);
            if matches!(decided, Some(Decision::RollBack { .. })) {
                assert!(sure.is_some_and(|sure| (sure - seconds).abs() < 0.16), "{sure:?}, {seconds}");
                break;
            }
            assert!(seconds < 600.0, "a canary that fails is rolled back");
        }
    }
}
