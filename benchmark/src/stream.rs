//! The requests that the rules see: a Poisson stream, each request to a release at random, as a Service sends it.

use std::{cmp::Reverse, collections::BinaryHeap};

use canary_judge::Release;
use fastrand::Rng;

use crate::world::{Course, World};

/// The canary's share of the requests: one of its pods beside three of stable.
pub const SHARE: f64 = 0.25;
/// The number of stable's pods.
const STABLE_PODS: usize = 3;

/// A request when it is sent.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    /// When, in seconds since the beginning.
    pub at: f64,
    /// The release that it reaches.
    pub release: Release,
    /// The pod that it reaches: 0 is the canary's.
    pub pod: usize,
    /// A number between 0 and 1 that decides the path, in worlds that have paths.
    pub path: f64,
}

/// How a request ends.
#[derive(Clone, Copy, Debug)]
pub struct Answer {
    /// Whether it fails.
    pub failed: bool,
    /// How long it takes, in seconds.
    pub latency: f64,
    /// The path that was asked, in worlds that have paths.
    pub path: &'static str,
}

impl Answer {
    /// An answer after 20 ms that fails with this probability.
    pub fn failing(rate: f64, rng: &mut Rng) -> Self {
        Self { failed: rng.f64() < rate, latency: 0.02, path: "/" }
    }
}

/// A request that has ended.
#[derive(Clone, Copy, Debug)]
pub struct Ended {
    /// Its place in the order of sending, from 0.
    pub number: u64,
    /// What was sent.
    pub sent: Sent,
    /// What came back.
    pub answer: Answer,
}

impl Ended {
    /// When it ended, in seconds since the beginning.
    pub fn at(&self) -> f64 {
        self.sent.at + self.answer.latency
    }
}

/// The requests of one run, in the order in which they end.
pub struct Stream<'a> {
    world: &'a World,
    course: Course,
    rng: Rng,
    next: Option<Sent>,
    sent: u64,
    under_way: BinaryHeap<Reverse<ByEnd>>,
}

/// Ordered by the end, and then by the number.
struct ByEnd(Ended);

impl Ord for ByEnd {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.at().total_cmp(&other.0.at()).then(self.0.number.cmp(&other.0.number))
    }
}

impl PartialOrd for ByEnd {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for ByEnd {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for ByEnd {}

impl<'a> Stream<'a> {
    /// The run of this world with this seed.
    pub fn new(world: &'a World, seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let course = (world.begin)(&mut rng);
        let mut stream = Self { world, course, rng, next: None, sent: 0, under_way: BinaryHeap::new() };
        stream.next = stream.following(0.0);
        stream
    }

    fn following(&mut self, at: f64) -> Option<Sent> {
        if self.sent == self.world.requests {
            return None;
        }
        let rng = &mut self.rng;
        let at = at - (1.0 - rng.f64()).ln() / self.world.rate;
        let is_canary = rng.f64() < SHARE;
        let (release, pod) =
            if is_canary { (Release::Canary, 0) } else { (Release::Stable, 1 + rng.usize(..STABLE_PODS)) };
        Some(Sent { at, release, pod, path: rng.f64() })
    }
}

impl Iterator for Stream<'_> {
    type Item = Ended;

    fn next(&mut self) -> Option<Ended> {
        while let Some(sent) = self.next {
            if self.under_way.peek().is_some_and(|Reverse(first)| first.0.at() <= sent.at) {
                break;
            }
            let answer = (self.course)(&sent, &mut self.rng);
            self.under_way.push(Reverse(ByEnd(Ended { number: self.sent, sent, answer })));
            self.sent += 1;
            self.next = self.following(sent.at);
        }
        self.under_way.pop().map(|Reverse(ByEnd(ended))| ended)
    }
}

/// Counts a request.
pub fn count(counts: &mut canary_judge::Counts, request: &Ended) {
    let outcome =
        if request.answer.failed { canary_judge::Outcome::Failure } else { canary_judge::Outcome::Success };
    counts.record(outcome);
}
