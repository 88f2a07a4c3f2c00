//! Paths that differ.

use crate::{
    stream::Answer,
    world::{Course, Truth, World, of},
};

const PATHS: [&str; 10] = ["/0", "/1", "/2", "/3", "/4", "/5", "/6", "/7", "/8", "/9"];

/// One path of ten that are asked equally often.
fn path(number: f64) -> &'static str {
    PATHS[((number * 10.0) as usize).min(9)]
}

/// The canary fails each request of one path.
fn dead_path(_: &mut fastrand::Rng) -> Course {
    Box::new(|sent, rng| {
        let path = path(sent.path);
        let canary = if path == "/7" { 1.0 } else { 0.001 };
        Answer { path, ..Answer::failing(of(sent, 0.001, canary), rng) }
    })
}

/// Both fail 20 % of one path, and the canary's clients use it four times as often (Simpson's paradox).
fn other_mix(_: &mut fastrand::Rng) -> Course {
    Box::new(|sent, rng| {
        let is_bad = sent.path < of(sent, 0.05, 0.2);
        let (path, rate) = if is_bad { ("/report", 0.2) } else { ("/", 0.001) };
        Answer { path, ..Answer::failing(rate, rng) }
    })
}

pub fn worlds() -> Vec<World> {
    vec![
        World::new("one path of ten is dead", Truth::Worse, dead_path),
        World::new("alike on each path, and the canary gets more of a bad one", Truth::Alike, other_mix),
    ]
}
