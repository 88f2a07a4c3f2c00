//! What decides: the reasons to roll back, the rule for a promotion, and the verdict they come to.

use std::time::Duration;

use serde::Serialize;

use super::{
    bounds::{ConfidenceSequence, Interval},
    comparison::SequentialTest,
    numbers::Fraction,
    price::{Budget, Price},
};
use crate::release::{Counts, Release};

/// What a judge goes by.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Settings {
    /// The greatest probability, however often one looks, of calling for a roll-back without a cause, and
    /// that of promoting a canary that fails more often than `max_failure_rate`.
    pub alpha: Fraction,
    /// The failure rate that a canary must not pass.
    pub max_failure_rate: Fraction,
}

impl Default for Settings {
    /// α = 0.05, and at most 1 % of requests failing.
    fn default() -> Self {
        Self { alpha: Fraction(0.05), max_failure_rate: Fraction(0.01) }
    }
}

/// Judges a canary by the answers of a service behind which it runs beside the stable release.
///
/// - Roll back when the canary is worse than stable (a [`SequentialTest`]) or when it fails more than
///   [`max_failure_rate`](Settings::max_failure_rate) of its requests (the lower bound of a
///   [`ConfidenceSequence`]). Each of the two may err with probability α/2. Either stays valid once reached,
///   whatever is seen later.
/// - Promote when the upper bound of the canary's failure rate, from a confidence sequence for α, is at or
///   below that limit, and no roll-back has been called for.
///
/// A failure that names no release (no answer at all, a proxy's 502) may have been the canary's or not. So it
/// counts against the canary for promotion, and not at all for a roll-back. A success that names no release
/// says nothing about either.
#[derive(Clone, Debug)]
pub struct Judge {
    settings: Settings,
    stable: Counts,
    canary: Counts,
    unnamed: Counts,
    /// The level of each of the two reasons to roll back.
    roll_back_alpha: f64,
    roll_back_sequence: ConfidenceSequence,
    promotion_sequence: ConfidenceSequence,
    test: SequentialTest,
    worse_than_stable: Option<Evidence>,
    above_limit: Option<Evidence>,
}

/// The counts at which a reason to roll back was first there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Evidence {
    /// The canary's answers at that time.
    pub canary: Counts,
    /// Stable's answers at that time.
    pub stable: Counts,
}

/// Further answers beyond which a promotion is said to be out of reach.
pub(super) const FORESIGHT: u64 = 100_000;

impl Judge {
    /// A judge that has seen nothing.
    pub fn new(settings: Settings) -> Self {
        let alpha = settings.alpha.get();
        let roll_back_alpha = alpha / 2.0;
        Self {
            settings,
            roll_back_alpha,
            roll_back_sequence: ConfidenceSequence::new(roll_back_alpha),
            promotion_sequence: ConfidenceSequence::new(alpha),
            stable: Counts::default(),
            canary: Counts::default(),
            unnamed: Counts::default(),
            test: SequentialTest::new(),
            worse_than_stable: None,
            above_limit: None,
        }
    }

    /// Takes in the outcome of the next request; `release` is `None` where no release is named. An outcome
    /// has failed when it is anything but an answer with a 2xx status.
    pub fn observe(&mut self, release: Option<Release>, failed: bool) {
        match release {
            None => return self.unnamed.record(failed),
            Some(Release::Stable) => {
                self.stable.record(failed);
                self.test.observe(Release::Stable, failed);
            }
            Some(Release::Canary) => {
                self.canary.record(failed);
                self.test.observe(Release::Canary, failed);
            }
        }
        let evidence = Evidence { canary: self.canary, stable: self.stable };
        if self.test.rejects(self.roll_back_alpha) {
            self.worse_than_stable.get_or_insert(evidence);
        }
        if self.roll_back_sequence.is_above(self.canary, self.settings.max_failure_rate.get()) {
            self.above_limit.get_or_insert(evidence);
        }
    }

    /// What this judge goes by.
    pub fn settings(&self) -> Settings {
        self.settings
    }

    /// The outcomes of requests that `release` answered.
    pub fn counts(&self, release: Release) -> Counts {
        match release {
            Release::Stable => self.stable,
            Release::Canary => self.canary,
        }
    }

    /// The outcomes of requests that name no release.
    pub fn unnamed(&self) -> Counts {
        self.unnamed
    }

    /// Between which bounds the failure rate of `release` lies, with probability 1 − α/2, however often one
    /// looks. Failures that name no release are left out.
    pub fn bounds(&self, release: Release) -> Interval {
        self.roll_back_sequence.interval(self.counts(release))
    }

    /// The bound that the canary's failure rate is below with probability 1 − α, however often one looks,
    /// with all failures that name no release counted against it: what a promotion goes by.
    pub fn promotion_bound(&self) -> f64 {
        self.promotion_sequence.interval(self.counted_against_canary()).upper
    }

    fn counted_against_canary(&self) -> Counts {
        self.canary + Counts { requests: self.unnamed.failures, failures: self.unnamed.failures }
    }

    fn decision(&self) -> Decision {
        let limit = self.settings.max_failure_rate.get();
        if self.worse_than_stable.is_some() || self.above_limit.is_some() {
            return Decision::RollBack {
                worse_than_stable: self.worse_than_stable,
                above_limit: self.above_limit,
                stable_above_limit: self.roll_back_sequence.is_above(self.stable, limit),
            };
        }
        match self.promotion_sequence.successes_until_below(self.counted_against_canary(), limit, FORESIGHT) {
            Some(0) => Decision::Promote,
            more_answers => Decision::NotYet { more_answers },
        }
    }

    /// What the answers so far say.
    pub fn verdict(&self) -> Verdict {
        let report = |release| Estimate { counts: self.counts(release), bounds: self.bounds(release) };
        Verdict {
            decision: self.decision(),
            canary: report(Release::Canary),
            stable: report(Release::Stable),
            unnamed: self.unnamed,
            promotion_bound: self.promotion_bound(),
            p_value: self.test.p_value(),
            settings: self.settings,
        }
    }

    /// What the canary has cost in the time `elapsed` since the first request; `None` before stable has
    /// answered, for there is nothing to compare with.
    pub fn price(&self, budget: Budget, elapsed: Duration) -> Option<Price> {
        let overall = (self.stable + self.canary + self.unnamed).rate()?;
        Some(Price::new(overall, self.stable.rate()?, budget, elapsed))
    }
}

/// A verdict on a canary, with the numbers it rests on. Shown, it is one sentence.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Verdict {
    /// What to do.
    #[serde(flatten)]
    pub decision: Decision,
    /// The canary's answers.
    pub canary: Estimate,
    /// The stable release's answers.
    pub stable: Estimate,
    /// Requests that name no release.
    pub unnamed: Counts,
    /// See [`Judge::promotion_bound`].
    pub promotion_bound: f64,
    /// That of the test whether the canary is worse than stable: see [`SequentialTest::p_value`].
    pub p_value: f64,
    /// What the judge goes by.
    pub settings: Settings,
}

/// What has been seen of one release.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// Its answers.
    #[serde(flatten)]
    pub counts: Counts,
    /// See [`Judge::bounds`].
    #[serde(flatten)]
    pub bounds: Interval,
}

/// What to do with a canary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "decision", rename_all = "snake_case")]
pub enum Decision {
    /// It may take all traffic.
    Promote,
    /// Take it away: for at least one of two reasons, each with the counts at which it was first there.
    RollBack {
        /// It fails more often than stable.
        worse_than_stable: Option<Evidence>,
        /// It fails more often than the limit allows.
        above_limit: Option<Evidence>,
        /// Whether stable, too, fails more often than the limit allows, as far as is known by now.
        stable_above_limit: bool,
    },
    /// Too little is known.
    NotYet {
        /// After how many more answers of the canary it could be promoted if all of them succeed; `None`
        /// where that would be more than 100,000.
        more_answers: Option<u64>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::Traffic;
    use Release::{Canary, Stable};

    fn judge(outcomes: impl IntoIterator<Item = (Option<Release>, bool)>) -> Judge {
        let mut judge = Judge::new(Settings::default());
        for (release, failed) in outcomes {
            judge.observe(release, failed);
        }
        judge
    }

    /// Rounds of three answers of stable and one of the canary.
    fn rounds(rounds: usize, stable_failed: bool, canary_failed: bool) -> Vec<(Option<Release>, bool)> {
        let stable = (Some(Stable), stable_failed);
        [stable, stable, stable, (Some(Canary), canary_failed)].repeat(rounds)
    }

    fn repeated(release: Option<Release>, failed: bool, times: usize) -> Vec<(Option<Release>, bool)> {
        vec![(release, failed); times]
    }

    fn budget() -> Budget {
        Budget { traffic: Traffic::new(100.0).unwrap(), slo: Fraction::new(0.999).unwrap() }
    }

    #[test]
    fn a_canary_that_always_succeeds_is_promoted_after_457_answers() {
        let before = judge(rounds(456, false, false)).verdict();
        assert_eq!(before.decision, Decision::NotYet { more_answers: Some(1) });
        assert!(before.promotion_bound > 0.01);

        let after = judge(rounds(457, false, false)).verdict();
        assert_eq!(after.decision, Decision::Promote);
        assert!(after.promotion_bound <= 0.01);
        assert_eq!(
            after.to_string(),
            "Promote: the canary has failed 0 of 457 requests, so at most 1 % of its requests fail \
             (the limit is 1 %), and nothing shows it to be worse than stable, which has failed 0 of 1371."
        );
    }

    #[test]
    fn the_answers_still_to_come_are_as_many_as_it_then_takes() {
        for outcomes in [Vec::new(), rounds(1, false, true), rounds(100, true, false)] {
            let mut judge = judge(outcomes);
            let Decision::NotYet { more_answers: Some(more) } = judge.verdict().decision else {
                panic!("{}", judge.verdict());
            };
            for _ in 0..more {
                assert_ne!(judge.verdict().decision, Decision::Promote);
                judge.observe(Some(Canary), false);
            }
            assert_eq!(judge.verdict().decision, Decision::Promote);
        }
    }

    #[test]
    fn before_the_first_answer_it_says_what_it_would_take() {
        assert_eq!(
            judge([]).verdict().to_string(),
            "Not yet: the canary has not answered; about 457 more of its answers would do if all succeed."
        );
    }

    #[test]
    fn failures_that_name_no_release_count_against_promotion_and_not_for_roll_back() {
        let mut outcomes = rounds(457, false, false);
        outcomes.push((None, true));
        let verdict = judge(outcomes).verdict();
        assert_eq!(verdict.decision, Decision::NotYet { more_answers: Some(755 - 458) });
        assert_eq!(
            verdict.to_string(),
            "Not yet: the canary has failed 0 of 457 requests, 1 of 458 with the failures that name no \
             release, so at most 1.6 % of its requests fail (the limit is 1 %), and nothing shows it to be \
             worse than stable, which has failed 0 of 1371; about 297 more of its answers would do if all \
             succeed."
        );

        let mut outcomes = rounds(50, false, false);
        outcomes.extend(repeated(None, true, 50));
        assert!(matches!(judge(outcomes).verdict().decision, Decision::NotYet { .. }));
    }

    #[test]
    fn a_canary_that_hangs_is_not_promoted_for_its_survivors() {
        let mut outcomes = rounds(1000, false, false);
        outcomes.extend(repeated(None, true, 1000));
        let verdict = judge(outcomes).verdict();
        assert_eq!(verdict.decision, Decision::NotYet { more_answers: None }, "{verdict}");
        assert!(
            verdict.to_string().ends_with("; more than 100000 more of its answers would have to succeed.")
        );
    }

    #[test]
    fn successes_that_name_no_release_say_nothing() {
        let mut outcomes = rounds(457, false, false);
        outcomes.extend(repeated(None, false, 1000));
        let judge = judge(outcomes);
        assert_eq!(judge.verdict().decision, Decision::Promote);
        assert_eq!(judge.unnamed(), Counts { requests: 1000, failures: 0 });
    }

    #[test]
    fn a_broken_canary_is_rolled_back_for_both_reasons() {
        let judge = judge(rounds(7, false, true));
        let verdict = judge.verdict();
        let at = |rounds| Evidence {
            canary: Counts { requests: rounds, failures: rounds },
            stable: Counts { requests: 3 * rounds, failures: 0 },
        };
        assert_eq!(
            verdict.decision,
            Decision::RollBack {
                worse_than_stable: Some(at(3)),
                above_limit: Some(at(3)),
                stable_above_limit: false
            }
        );
        assert_eq!(
            verdict.to_string(),
            "Roll back: the canary is worse than stable (clear after 3 of its answers) and fails more than \
             1 % of its requests (clear after 3 of its answers): it has failed 7 of 7 (between 6.8 % and \
             100 % of its requests), and stable 0 of 21 (between 0 % and 18 % of its requests)."
        );
    }

    #[test]
    fn a_roll_back_stays_valid_whatever_comes_later() {
        let mut outcomes = rounds(5, false, true);
        outcomes.extend(rounds(10_000, true, false));
        let verdict = judge(outcomes).verdict();
        assert!(verdict.promotion_bound < 0.01, "{verdict}");
        assert!(matches!(verdict.decision, Decision::RollBack { .. }), "{verdict}");
    }

    #[test]
    fn a_canary_that_is_worse_than_stable_is_not_promoted_below_the_limit() {
        let mut judge =
            Judge::new(Settings { max_failure_rate: Fraction::new(0.5).unwrap(), ..Settings::default() });
        for round in 0..200 {
            for (release, failed) in rounds(1, false, round % 10 == 0) {
                judge.observe(release, failed);
            }
        }
        let verdict = judge.verdict();
        assert!(verdict.promotion_bound < 0.5);
        assert!(
            matches!(
                verdict.decision,
                Decision::RollBack { worse_than_stable: Some(_), above_limit: None, .. }
            ),
            "{verdict}"
        );
    }

    #[test]
    fn where_stable_passes_the_limit_too_the_verdict_says_so() {
        let verdict = judge(rounds(7, true, true)).verdict();
        assert!(
            matches!(
                verdict.decision,
                Decision::RollBack {
                    worse_than_stable: None,
                    above_limit: Some(_),
                    stable_above_limit: true
                }
            ),
            "{verdict}"
        );
        assert!(
            verdict
                .to_string()
                .ends_with("; stable fails more than 1 % too, so the cause may lie outside the canary."),
            "{verdict}"
        );
    }

    #[test]
    fn the_serialized_verdict_holds_the_decision_and_the_numbers() {
        let verdict = serde_json::to_value(judge(rounds(7, false, true)).verdict()).unwrap();
        assert_eq!(verdict["decision"], "roll_back");
        assert_eq!(verdict["above_limit"]["canary"]["answers"], 3);
        assert_eq!(verdict["canary"]["failures"], 7);
        assert!(verdict["canary"]["lower"].as_f64().unwrap() > 0.01);
        assert_eq!(verdict["settings"]["alpha"], 0.05);

        let verdict = serde_json::to_value(judge([]).verdict()).unwrap();
        assert_eq!(verdict["decision"], "not_yet");
        assert_eq!(verdict["more_answers"], 457);
    }

    #[test]
    fn numbers_stay_finite_after_a_long_and_clear_failure() {
        let verdict = judge(rounds(100_000, false, true)).verdict();
        let Estimate { bounds, .. } = verdict.canary;
        for number in [verdict.p_value, verdict.promotion_bound, bounds.lower, bounds.upper] {
            assert!((0.0..=1.0).contains(&number), "{verdict:?}");
        }
    }

    #[test]
    fn the_price_of_a_failing_quarter_is_its_share_of_the_months_budget() {
        let price = judge(rounds(7, false, true)).price(budget(), Duration::from_secs(60)).unwrap();
        // A quarter of 100 requests a second for a minute, of 0.1 % of 259,200,000 in a month.
        assert!((price.failed_requests - 1500.0).abs() < 1e-6);
        assert!((price.budget_share - 1500.0 / 259_200.0).abs() < 1e-9);
        assert_eq!(
            price.to_string(),
            "The canary has cost about 1500 failed requests, 0.58 % of a month's error budget."
        );
    }

    #[test]
    fn requests_without_an_answer_have_their_price() {
        let mut outcomes = repeated(Some(Stable), false, 75);
        outcomes.extend(repeated(None, true, 25));
        let price = judge(outcomes).price(budget(), Duration::from_secs(60)).unwrap();
        assert!((price.failed_requests - 1500.0).abs() < 1e-6);
    }

    #[test]
    fn a_canary_better_than_stable_costs_nothing() {
        let price = judge(rounds(7, true, false)).price(budget(), Duration::from_secs(60)).unwrap();
        assert_eq!(price, Price { failed_requests: 0.0, budget_share: 0.0 });
        assert_eq!(price.to_string(), "The canary has cost no requests beyond those that stable fails.");
    }

    #[test]
    fn there_is_no_price_before_stable_has_answered() {
        assert_eq!(judge([(Some(Canary), true)]).price(budget(), Duration::from_secs(60)), None);
    }
}
