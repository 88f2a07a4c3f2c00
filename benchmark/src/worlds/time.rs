//! A canary that changes with time.

use crate::{
    stream::Answer,
    world::{Course, Truth, World, of},
};

/// The canary fails at a rate that depends on the time since its start, stable at 0.1 %.
fn of_age(
    name: &'static str,
    truth: Truth,
    rate: impl Fn(f64) -> f64 + Copy + Send + Sync + 'static,
) -> World {
    World::new(name, truth, move |_| -> Course {
        Box::new(move |sent, rng| Answer::failing(of(sent, 0.001, rate(sent.at)), rng))
    })
}

/// The canary fails 30 % of its first 200 requests.
fn cold_start(_: &mut fastrand::Rng) -> Course {
    let mut answered = 0;
    Box::new(move |sent, rng| {
        answered += of(sent, 0, 1);
        Answer::failing(of(sent, 0.001, if answered <= 200 { 0.3 } else { 0.001 }), rng)
    })
}

pub fn worlds() -> Vec<World> {
    vec![
        of_age("a leak: 1 % more each minute", Truth::Worse, |at| (at / 6000.0).min(1.0)),
        of_age("5 % from the third minute on", Truth::Worse, |at| if at < 120.0 { 0.001 } else { 0.05 }),
        World::new("cold start: 30 % of its first 200 answers fail", Truth::Alike, cold_start),
    ]
}
