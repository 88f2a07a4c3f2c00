//! The worlds: what happens to the requests, with a known truth. Each file of `worlds/` has some of one kind.

use fastrand::Rng;

use crate::stream::{Answer, Sent};

/// What would be right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Truth {
    /// The canary is no worse than stable. A roll-back is false.
    Alike,
    /// The canary is worse than stable, and fails more than the limit, or is slow. A promotion is wrong.
    Worse,
    /// The canary is worse than stable, and fails less than the limit of 1 %. A roll-back and a promotion are both right.
    Between,
}

/// One run of a world: how each request ends.
pub type Course = Box<dyn FnMut(&Sent, &mut Rng) -> Answer>;

/// A world.
pub struct World {
    /// Its name in the tables.
    pub name: &'static str,
    /// What would be right.
    pub truth: Truth,
    /// The failure rates of stable and the canary, if they are constant: oracles know them.
    pub rates: Option<(f64, f64)>,
    /// Requests a second.
    pub rate: f64,
    /// The length of a run.
    pub requests: u64,
    /// Begins a run.
    pub begin: Box<dyn Fn(&mut Rng) -> Course + Send + Sync>,
}

/// Requests a second, unless a world says otherwise.
const RATE: f64 = 10.0;
/// An hour of them.
const REQUESTS: u64 = 36_000;

impl World {
    /// A world of 10 requests a second for an hour.
    pub fn new(
        name: &'static str,
        truth: Truth,
        begin: impl Fn(&mut Rng) -> Course + Send + Sync + 'static,
    ) -> Self {
        Self { name, truth, rates: None, rate: RATE, requests: REQUESTS, begin: Box::new(begin) }
    }

    /// A world in which both releases always have the same failure rates.
    pub fn constant(name: &'static str, truth: Truth, stable: f64, canary: f64) -> Self {
        let course = move |_: &mut Rng| -> Course {
            Box::new(move |sent, rng| Answer::failing(of(sent, stable, canary), rng))
        };
        Self { rates: Some((stable, canary)), ..Self::new(name, truth, course) }
    }

    /// The same with this many requests an hour, for a day.
    pub fn with_requests_an_hour(self, hourly: u32) -> Self {
        Self { rate: f64::from(hourly) / 3600.0, requests: 24 * u64::from(hourly), ..self }
    }
}

/// The value for the release that is asked.
pub fn of<T>(sent: &Sent, stable: T, canary: T) -> T {
    match sent.release {
        canary_judge::Release::Stable => stable,
        canary_judge::Release::Canary => canary,
    }
}

/// Every world. A new file is named here.
pub fn all() -> Vec<World> {
    use crate::worlds::{alike, episodes, incidents, latency, little, paths, time, worse};
    [
        alike::worlds(),
        incidents::worlds(),
        episodes::worlds(),
        worse::worlds(),
        paths::worlds(),
        latency::worlds(),
        time::worlds(),
        little::worlds(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
