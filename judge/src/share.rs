//! The greatest share of the traffic that a canary may get for now.
//!
//! The worst canary that is still possible fails the part `promotion_bound` of its requests. With the share s, it fails
//! s × `promotion_bound` of all requests. That is at most R times the error budget if
//!
//! ```text
//! s ≤ max_share = R × (1 − SLO) / promotion_bound
//! ```
//!
//! The bound is valid at all times at once, so also at those at which a share is chosen.
//!
//! # A loop that follows it
//!
//! If the weight follows `max_share`, outcomes decide about routing. The comparison with stable allows that between
//! batches, and not within one: a share that falls at once after a failure leaves a batch in which that failure is surely
//! the canary's. So `max_share` rests on complete batches only. With counters that are scraped, batches of several lengths
//! run beside each other. There it rests on what was known when all of them ended at once.

use serde::{Deserialize, Serialize};

use crate::{settings::Settings, verdict::Decision};

/// While the canary is on trial, stable must still answer, to be compared with.
pub(crate) const MOST_ON_TRIAL: f64 = 0.5;

/// The bound on which `max_share` rests, where it is not that of the moment.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(crate) struct Share {
    bound: f64,
}

impl Share {
    /// Nothing is known.
    pub(crate) const UNKNOWN: Self = Self { bound: 1.0 };

    /// All batches have ended, with this bound of the canary's failure rate.
    pub(crate) fn all_batches_end(&mut self, bound: f64) {
        self.bound = bound;
    }

    /// The bound on which it rests.
    pub(crate) fn bound(self) -> f64 {
        self.bound
    }
}

/// The greatest share of the traffic for a canary that fails at most `bound` of its requests, with this decision.
pub(crate) fn max_share(settings: Settings, decision: &Decision, bound: f64) -> f64 {
    match decision {
        Decision::RollBack { .. } => 0.0,
        Decision::Promote { .. } => 1.0,
        Decision::NotYet | Decision::Hold => (settings.allowed() / bound).min(MOST_ON_TRIAL),
    }
}

impl Settings {
    /// The share of all requests that may fail because of the canary while it is on trial: R × (1 − SLO).
    pub(crate) fn allowed(&self) -> f64 {
        self.max_burn.map_or(self.max_failure_rate.get(), |burn| burn.get() * self.budget())
    }

    /// How many times the error budget a canary with all traffic burns, if it fails this part of its requests.
    pub(crate) fn burn(&self, rate: f64) -> f64 {
        rate / self.budget()
    }

    fn budget(&self) -> f64 {
        1.0 - self.slo.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Absence, Burn, Fraction, Judge, Outcome, Release, Request, testing::assert_close};

    /// A judge that has seen so many good rounds of three answers of stable and one of the canary, and then bad ones.
    fn judge(settings: Settings, good: usize, bad: usize) -> Judge {
        let mut judge = Judge::new(settings);
        let rounds = [Outcome::Success].repeat(good).into_iter().chain([Outcome::Failure].repeat(bad));
        for outcome in rounds {
            (0..3).for_each(|_| judge.observe(Request::new(Some(Release::Stable), Outcome::Success)));
            judge.observe(Request::new(Some(Release::Canary), outcome));
        }
        judge
    }

    #[test]
    fn the_share_is_that_at_which_the_worst_canary_burns_no_more_than_is_allowed() {
        let settings = Settings::default();
        assert_close(judge(settings, 0, 0).verdict().max_share, 0.01);
        let verdict = judge(settings, 20, 0).verdict();
        assert_close(verdict.max_share * verdict.promotion_bound, 0.01);
        let strict = Settings {
            max_burn: Some(Burn::new(2.0).unwrap()),
            slo: Fraction::new(0.99).unwrap(),
            ..settings
        };
        let verdict = judge(strict, 20, 0).verdict();
        assert_close(verdict.max_share * verdict.promotion_bound, 2.0 * 0.01);
    }

    #[test]
    fn it_is_at_most_a_half_before_a_promotion_then_all_and_nothing_after_a_roll_back() {
        let settings = Settings::default();
        assert_close(judge(settings, 340, 0).verdict().max_share, 0.5);
        let promoted = judge(settings, 400, 0).verdict();
        assert_close(promoted.max_share, 1.0);
        assert_close(promoted.during(Some(Absence::Restarted)).max_share, 0.5);
        assert_close(judge(settings, 0, 10).verdict().max_share, 0.0);
    }

    #[test]
    fn it_falls_after_failures_at_the_end_of_their_batch_only() {
        let mut judge = judge(Settings::default(), 100, 0);
        let before = judge.verdict().max_share;
        judge.observe(Request::new(Some(Release::Canary), Outcome::Failure));
        assert_close(judge.verdict().max_share, before);
        (0..11).for_each(|_| judge.observe(Request::new(Some(Release::Stable), Outcome::Success)));
        assert!(judge.verdict().max_share < before);
        let sentence = judge.verdict().to_string();
        assert!(
            sentence.contains(" of the traffic for now: the worst canary still possible fails "),
            "{sentence}"
        );
    }
}
