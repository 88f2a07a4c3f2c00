//! One of the trials.

use std::{
    mem::{self, Discriminant},
    time::Instant,
};

use crate::{
    serve::versions::Version,
    source::{Interval, Observation},
    trial::Trial,
    view::page::History,
};
use canary_judge::{Decision, Verdict};

/// A trial, with what the server keeps about it.
#[derive(Clone, Debug)]
pub struct OnTrial {
    pub(super) trial: Trial,
    /// The version whose answers count; `None` for all.
    pub(super) version: Option<Version>,
    /// When a client asked for it last.
    pub(super) asked: Instant,
    /// Its rollout has ended: the next request about it resets it.
    pub(super) ended: bool,
    changes: u64,
    /// The number of changes at the last look at the decision, and that decision.
    looked_at: (u64, Discriminant<Decision>),
    history: History,
}

impl OnTrial {
    pub(super) fn new(trial: Trial, now: Instant) -> Self {
        Self {
            trial,
            version: None,
            asked: now,
            ended: false,
            changes: 0,
            looked_at: (0, mem::discriminant(&Decision::NotYet)),
            history: History::default(),
        }
    }

    /// The requests, and the verdict on them.
    pub fn trial(&self) -> &Trial {
        &self.trial
    }

    /// Its course.
    pub(in crate::serve) fn history(&self) -> &History {
        &self.history
    }

    /// The number of changes.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// Starts it again.
    pub(super) fn reset(&mut self, now: Instant) {
        self.trial.reset(now);
        self.history = History::default();
        self.ended = false;
        self.changes += 1;
    }

    /// Counts the result of one request.
    pub(super) fn observe(&mut self, observation: &Observation) {
        self.trial.observe(observation);
        self.changes += 1;
    }

    /// Counts the part of an interval whose versions it takes.
    pub(super) fn observe_interval(&mut self, interval: &Interval, takes: impl Fn(&str) -> bool) {
        self.trial.observe_interval(interval, interval.batch(takes));
        self.changes += 1;
    }

    /// Records a point of its course.
    pub(super) fn remember(&mut self, now: Instant) {
        self.history.remember(&self.trial, self.changes, now);
    }

    /// The verdict, if its decision is not the same as at the last call. The first is compared with "not yet".
    pub(super) fn new_decision(&mut self) -> Option<Verdict> {
        let (changes, decision) = self.looked_at;
        if changes == self.changes {
            return None;
        }
        let verdict = self.trial.verdict();
        self.looked_at = (self.changes, mem::discriminant(&verdict.decision));
        (decision != self.looked_at.1).then_some(verdict)
    }

    /// Call this when no more outcomes will come.
    pub(super) fn end(&mut self) {
        self.trial.end();
        self.changes += 1;
    }
}
