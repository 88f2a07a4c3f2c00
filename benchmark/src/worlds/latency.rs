//! The canary is slower.

use std::f64::consts::TAU;

use fastrand::Rng;

use crate::{
    stream::Answer,
    world::{Course, Truth, World, of},
};

/// A lognormal time with this median, in seconds. Its 95th percentile is three times the median.
fn lognormal(median: f64, rng: &mut Rng) -> f64 {
    let normal = (-2.0 * (1.0 - rng.f64()).ln()).sqrt() * (TAU * rng.f64()).cos();
    median * (0.668 * normal).exp()
}

/// Medians of stable's and the canary's latencies, in seconds.
fn taking(stable: f64, canary: f64) -> impl Fn(&mut Rng) -> Course {
    move |_| {
        Box::new(move |sent, rng| {
            let latency = lognormal(of(sent, stable, canary), rng);
            Answer { latency, ..Answer::failing(0.001, rng) }
        })
    }
}

pub fn worlds() -> Vec<World> {
    vec![
        World::new("equally fast, 40 ms in the median", Truth::Alike, taking(0.04, 0.04)),
        World::new("slower by half: 60 ms against 40 ms", Truth::Worse, taking(0.04, 0.06)),
    ]
}
