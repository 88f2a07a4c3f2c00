//! The promises, if the canary gets a copy of each request to stable. Which release a request gets is then no chance: both
//! get it, and a bad request may fail at both. Each verdict at any time counts.
//!
//! `cargo test -p canary-judge --test mirror -- --nocapture` prints the measured figures; `SIMULATION_RUNS=10000` sets more
//! runs. `docs/mirror.md` has the figures.

use std::{env, num::NonZeroU32};

use canary_judge::{Decision, Judge, Outcome, Release, Request, Settings};
use fastrand::Rng;

const ALPHA: f64 = 0.05;
/// The number of requests of a run, each with its copy.
const REQUESTS: u32 = 2500;

/// The number of runs of each simulation: small enough for `cargo test`, unless `SIMULATION_RUNS` sets it.
fn runs() -> u32 {
    let runs = env::var("SIMULATION_RUNS").unwrap_or_else(|_| "400".to_owned());
    let runs = runs.parse::<NonZeroU32>().unwrap_or_else(|error| panic!("SIMULATION_RUNS={runs}: {error}"));
    runs.get()
}

/// The parts of runs that are rolled back, and promoted before that. `bad` of all requests fail at both releases, and so do
/// all within so many of so many; the others fail at `stable` and at the `canary` independently.
fn decided(what: &str, bad: f64, outage: (u32, u32), stable: f64, canary: f64) -> [f64; 2] {
    let mut counts = [0.0; 2];
    for seed in 0..runs() {
        let mut rng = Rng::with_seed(50_000_000 + u64::from(seed));
        let (mut judge, mut promoted) = (Judge::new(Settings::default()), false);
        let phase = rng.u32(0..outage.1);
        for number in 0..REQUESTS {
            let fails_at_both = rng.f64() < bad || (number + phase) % outage.1 < outage.0;
            for (release, rate) in [(Release::Stable, stable), (Release::Canary, canary)] {
                let outcome =
                    if fails_at_both || rng.f64() < rate { Outcome::Failure } else { Outcome::Success };
                judge.observe(Request::new(Some(release), outcome));
            }
            promoted |= matches!(judge.decided(), Some(Decision::Promote { .. }));
        }
        judge.end();
        let decision = judge.decided();
        counts[0] += f64::from(u8::from(matches!(decision, Some(Decision::RollBack { .. }))));
        counts[1] += f64::from(u8::from(promoted || matches!(decision, Some(Decision::Promote { .. }))));
    }
    let [rolled_back, promoted] = counts.map(|count| count / f64::from(runs()));
    println!("{what}: rolled back {:.1} %, promoted {:.1} %", 100.0 * rolled_back, 100.0 * promoted);
    [rolled_back, promoted]
}

#[test]
fn a_canary_that_gets_copies_and_is_no_worse_is_rarely_rolled_back() {
    for (what, bad, outage, rate) in [
        ("both at 1 %", 0.0, (0, 1), 0.01),
        ("both at 5 %", 0.0, (0, 1), 0.05),
        ("both at 20 %", 0.0, (0, 1), 0.2),
        ("2 % of the requests fail at both, others 0.1 %", 0.02, (0, 1), 0.001),
        ("10 % fail at both, others 1 %", 0.1, (0, 1), 0.01),
        ("all of 25 requests in 250 fail at both, others 0.5 %", 0.0, (25, 250), 0.005),
    ] {
        let [rolled_back, _] = decided(what, bad, outage, rate, rate);
        assert!(rolled_back <= ALPHA, "{what}: {rolled_back}");
    }
}

#[test]
fn a_canary_that_gets_copies_and_is_worse_is_rarely_promoted_and_a_bad_one_is_found() {
    for (what, bad, stable, canary) in [
        ("the canary at 1.01 %, stable at 0.1 %", 0.0, 0.001, 0.0101),
        ("2 % fail at both, the canary 2.1 % more", 0.02, 0.0, 0.021),
        ("stable at 1 %, the canary at 2 %", 0.0, 0.01, 0.02),
    ] {
        let [_, promoted] = decided(what, bad, (0, 1), stable, canary);
        assert!(promoted <= ALPHA, "{what}: {promoted}");
    }
    let [rolled_back, promoted] = decided("2 % fail at both, the canary 20 % more", 0.02, (0, 1), 0.0, 0.2);
    assert!(rolled_back >= 0.99 && promoted <= ALPHA, "{rolled_back} {promoted}");
}
