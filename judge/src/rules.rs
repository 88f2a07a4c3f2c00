//! Rules of thumb that people use instead of a judge, on the same stream of answers: to compare them with it, and to show
//! a class why it exists. They decide nothing, and a [`Judge`](crate::Judge) does not know them.
//!
//! ```
//! use canary_judge::{Outcome, Release, rules::RulesOfThumb};
//!
//! let mut rules = RulesOfThumb::default();
//! rules.observe(Some(Release::Canary), Outcome::Failure, 0.2); // 0.2 s after the beginning
//! let said: Vec<_> = rules.said().map(|(name, said)| (name, said.map(|said| said.seconds))).collect();
//! assert_eq!(said[0], ("At its first failure", Some(0.2)));
//! assert_eq!(said[1].1, None);
//! ```
//!
//! A rule of your own is a type that implements [`Rule`]. All of them take a fixed memory, however many answers come.
//!
//! [`GOOD_CANARY`] is a setting in which each rule was measured: how often does it roll back a canary that is as good as
//! stable? `tests/rules.rs` computes the figures again.

mod first_failure;
mod last_answers;
mod peeking;
mod success_rate;

pub use self::{
    first_failure::FirstFailure, last_answers::LastAnswers, peeking::Peeking, success_rate::SuccessRate,
};

use crate::{Counts, Outcome, Release};

/// A rule that says when to roll back.
pub trait Rule {
    /// Takes in an answer that came so many `seconds` after the beginning. Answers come in the order of time. Returns
    /// whether the rule says "roll back" now.
    fn observe(&mut self, release: Release, failed: bool, seconds: f64) -> bool;
}

/// When a rule said "roll back" for the first time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Said {
    /// So many seconds after the beginning.
    pub seconds: f64,
    /// After these answers of the canary.
    pub canary: Counts,
}

/// The four rules together.
#[derive(Clone, Debug, Default)]
pub struct RulesOfThumb {
    first_failure: FirstFailure,
    last_answers: LastAnswers,
    peeking: Peeking,
    success_rate: SuccessRate,
    canary: Counts,
    said: [Option<Said>; 4],
}

/// Their names, in the order of [`RulesOfThumb::said`].
pub const NAMES: [&str; 4] = [
    "At its first failure",
    "Above 5 % of its last 50",
    "p < 5 %, at each second",
    "Under 99 % in 4 minutes",
];

impl RulesOfThumb {
    /// Takes in an answer that came so many `seconds` after the beginning. An answer that names no release is passed over:
    /// these rules do not know what to do with it.
    pub fn observe(&mut self, release: Option<Release>, outcome: Outcome, seconds: f64) {
        let Some(release) = release else { return };
        if release == Release::Canary {
            self.canary.record(outcome);
        }
        let rules: [&mut dyn Rule; 4] =
            [&mut self.first_failure, &mut self.last_answers, &mut self.peeking, &mut self.success_rate];
        for (rule, said) in rules.into_iter().zip(&mut self.said) {
            if said.is_none() && rule.observe(release, outcome.failed(), seconds) {
                *said = Some(Said { seconds, canary: self.canary });
            }
        }
    }

    /// The name of each rule, and when it first said "roll back".
    pub fn said(&self) -> impl Iterator<Item = (&'static str, Option<Said>)> {
        NAMES.into_iter().zip(self.said)
    }
}

/// A canary that is as good as stable, and for how long it is watched.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Setting {
    /// Requests a second, of both releases together.
    pub rate: f64,
    /// The canary's share of them.
    pub share: f64,
    /// The part of the requests that fail, of both.
    pub failure_rate: f64,
    /// The length of a trial, in seconds.
    pub seconds: f64,
    /// The number of trials.
    pub trials: u32,
    /// The percentage of the trials in which each rule rolls back, in the order of [`NAMES`].
    pub wrong: [u32; 4],
    /// The same of a judge with its default settings.
    pub wrong_of_the_judge: u32,
}

/// The rate and the share of the rehearsal of `canary`, for ten minutes.
pub const GOOD_CANARY: Setting = Setting {
    rate: 40.0,
    share: 0.25,
    failure_rate: 0.008,
    seconds: 600.0,
    trials: 1000,
    wrong: [100, 89, 23, 20],
    wrong_of_the_judge: 3,
};
