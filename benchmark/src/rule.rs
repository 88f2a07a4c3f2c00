//! The rules: each sees the same requests as they end, and calls once. Each file of `rules/` has one.

use crate::{stream::Ended, world::World};

/// What a rule does with the canary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// All traffic to the canary.
    Promote,
    /// The canary is removed.
    RollBack,
}

/// A rule on one run.
pub trait Rule {
    /// A request has ended.
    fn ended(&mut self, request: &Ended);

    /// A minute is over. `minutes` are over now. Returns what the rule calls, if it looks once a minute.
    fn minute(&mut self, _minutes: u64) -> Option<Call> {
        None
    }

    /// What the rule calls, if it looks after each request.
    fn call(&self) -> Option<Call> {
        None
    }
}

/// A rule of the benchmark.
pub struct Entry {
    /// Its name in the tables.
    pub name: &'static str,
    /// What it does, and where that is described.
    pub description: &'static str,
    /// Begins a run in this world. `None` if the rule has no meaning there.
    pub begin: fn(&World) -> Option<Box<dyn Rule>>,
}

/// Every rule. A new file is named here.
pub const ALL: &[Entry] = &[
    crate::rules::ours::ENTRY,
    crate::rules::ours::ALL_ON,
    crate::rules::ours::EPISODES,
    crate::rules::argo::ENTRY,
    crate::rules::flagger::ENTRY,
    crate::rules::kayenta::ENTRY,
    crate::rules::z_test::ENTRY,
    crate::rules::of_thumb::LAST_ANSWERS,
    crate::rules::of_thumb::FIRST_FAILURE,
    crate::rules::safe_2x2::ENTRY,
    crate::rules::robbins::ENTRY,
    crate::rules::fair_oracle::ENTRY,
    crate::rules::oracle::ENTRY,
];
