//! Runs every rule on the same streams, and counts what becomes of them.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use canary_judge::Release;

use crate::{
    rule::{self, Call},
    stream::{Ended, Stream},
    world::{Truth, World},
};

/// What a rule did in one run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Result {
    /// What it called; `None` if it did not call until the end.
    pub call: Option<Call>,
    /// The requests that had ended by then.
    pub requests: u64,
    /// The failed requests of the canary among them.
    pub failed: u64,
}

/// All runs of one rule in one world, by their seeds.
pub type Results = Vec<Result>;

/// The results of every rule in every world: `None` where the rule has no meaning.
pub type Table = Vec<Vec<Option<Results>>>;

/// Runs all rules in all worlds, this many times each, on all processors. The same seeds give the same results.
pub fn table(worlds: &[World], runs: usize) -> Table {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        loop {
            let task = next.fetch_add(1, Ordering::Relaxed);
            let (world, seed) = (task / runs, task % runs);
            let Some(of_world) = worlds.get(world) else { return done };
            done.push((world, seed, run(of_world, seed as u64)));
        }
    };
    let mut done: Vec<_> = thread::scope(|scope| {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("a rule panicked")).collect()
    });
    done.sort_by_key(|(world, seed, _)| (*world, *seed));
    let mut table = vec![vec![None; rule::ALL.len()]; worlds.len()];
    for (world, _, results) in done {
        for (of_rule, result) in table[world].iter_mut().zip(results) {
            if let Some(result) = result {
                of_rule.get_or_insert_with(Vec::new).push(result);
            }
        }
    }
    table
}

/// One run of all rules.
fn run(world: &World, seed: u64) -> Vec<Option<Result>> {
    let mut rules: Vec<_> =
        rule::ALL.iter().map(|entry| (entry.begin)(world).map(|rule| (rule, None))).collect();
    let mut so_far = Result::default();
    let mut minutes = 0;
    for ended in Stream::new(world, seed) {
        while ended.at() >= 60.0 * (minutes + 1) as f64 {
            minutes += 1;
            for (rule, result) in rules.iter_mut().flatten().filter(|(_, result)| result.is_none()) {
                *result = rule.minute(minutes).map(|call| Result { call: Some(call), ..so_far });
            }
        }
        so_far.requests += 1;
        so_far.failed += u64::from(is_harm(&ended));
        for (rule, result) in rules.iter_mut().flatten().filter(|(_, result)| result.is_none()) {
            rule.ended(&ended);
            *result = rule.call().map(|call| Result { call: Some(call), ..so_far });
        }
        if rules.iter().flatten().all(|(_, result)| result.is_some()) {
            break;
        }
    }
    rules
        .into_iter()
        .map(|rule| rule.map(|(_, result)| result.unwrap_or(Result { call: None, ..so_far })))
        .collect()
}

fn is_harm(ended: &Ended) -> bool {
    ended.answer.failed && ended.sent.release == Release::Canary
}

/// Whether a call is wrong in a world with this truth.
pub fn is_wrong(truth: Truth, call: Call) -> bool {
    matches!((truth, call), (Truth::Alike, Call::RollBack) | (Truth::Worse, Call::Promote))
}

/// The call that the tables look for: a promotion of a canary that is alike, a roll-back of one that is worse.
pub fn wanted(truth: Truth) -> Call {
    match truth {
        Truth::Alike => Call::Promote,
        Truth::Worse | Truth::Between => Call::RollBack,
    }
}
