//! Failures that come in clusters, late, or never.

use crate::{
    stream::Answer,
    world::{Course, Truth, World, of},
};

/// The client waits so long for an answer, in seconds.
const TIMEOUT: f64 = 10.0;

/// Each pod fails for 1 s every two minutes, at times of its own.
fn hiccups(rng: &mut fastrand::Rng) -> Course {
    let phases: Vec<f64> = (0..4).map(|_| 120.0 * rng.f64()).collect();
    Box::new(move |sent, rng| {
        let fails = (sent.at + phases[sent.pod]) % 120.0 < 1.0;
        Answer::failing(if fails { 1.0 } else { 0.001 }, rng)
    })
}

/// Failures are time-outs at these rates.
fn hanging(stable: f64, canary: f64) -> impl Fn(&mut fastrand::Rng) -> Course {
    move |_| {
        Box::new(move |sent, rng| {
            let answer = Answer::failing(of(sent, stable, canary), rng);
            if answer.failed { Answer { latency: TIMEOUT, ..answer } } else { answer }
        })
    }
}

/// Stable's failures are time-outs, the canary's come at once.
fn late(_: &mut fastrand::Rng) -> Course {
    Box::new(|sent, rng| {
        let answer = Answer::failing(0.05, rng);
        if answer.failed { Answer { latency: of(sent, TIMEOUT, 0.02), ..answer } } else { answer }
    })
}

pub fn worlds() -> Vec<World> {
    vec![
        World::new("each pod fails for 1 s every 2 minutes", Truth::Alike, hiccups),
        World::new("both at 5 %, and stable's failures come 10 s late", Truth::Alike, late),
        World::new("10 % of the canary's requests hang, 1 % of stable's", Truth::Worse, hanging(0.01, 0.1)),
    ]
}
