//! What `canary judge` promises, tested by simulation: somebody looks after every answer, and whatever they
//! would have seen at any time counts. Seeds are fixed; `cargo test -p canary --test guarantees --
//! --nocapture` prints what was measured, and `SIMULATION_RUNS=20000` before it asks for more runs.

use std::{env, num::NonZeroU32};

use canary::{
    judge::{ConfidenceSequence, Decision, Fraction, Judge, SequentialTest, Settings},
    release::{Counts, Release},
};
use fastrand::Rng;

const ALPHA: f64 = 0.05;
const ANSWERS: usize = 5_000;
const CANARY_SHARE: f64 = 0.25;
const RATES: [f64; 4] = [0.001, 0.01, 0.05, 0.5];

/// How many runs each simulation has: few enough for `cargo test`, unless `SIMULATION_RUNS` says another number.
fn runs() -> u32 {
    let runs = env::var("SIMULATION_RUNS").unwrap_or_else(|_| "2000".to_owned());
    let runs = runs.parse::<NonZeroU32>().unwrap_or_else(|error| panic!("SIMULATION_RUNS={runs}: {error}"));
    runs.get()
}

/// A generator of random numbers for each run, each with a seed of its own.
fn generators() -> impl Iterator<Item = Rng> {
    (0..runs()).map(|seed| Rng::with_seed(seed.into()))
}

/// The share of runs in which something happened.
fn share_of_runs(mut happened: impl FnMut(&mut Rng) -> bool) -> f64 {
    let count = generators().map(|mut rng| happened(&mut rng)).filter(|happened| *happened).count();
    f64::from(u32::try_from(count).unwrap()) / f64::from(runs())
}

/// A release by chance, as a Service chooses a pod, and whether its answer failed.
fn answer(rng: &mut Rng, stable_rate: f64, canary_rate: f64) -> (Release, bool) {
    let (release, rate) = if rng.f64() < CANARY_SHARE {
        (Release::Canary, canary_rate)
    } else {
        (Release::Stable, stable_rate)
    };
    (release, rng.f64() < rate)
}

fn observe(judge: &mut Judge, (release, failed): (Release, bool)) {
    judge.observe(Some(release), failed);
}

fn is_roll_back(judge: &Judge) -> bool {
    matches!(judge.verdict().decision, Decision::RollBack { .. })
}

#[test]
fn the_test_calls_equal_releases_different_in_at_most_alpha_of_runs() {
    for rate in RATES {
        let called = share_of_runs(|rng| {
            let mut test = SequentialTest::new();
            (0..ANSWERS).any(|_| {
                let (release, failed) = answer(rng, rate, rate);
                test.observe(release, failed);
                test.rejects(ALPHA)
            })
        });
        println!("equal releases at {rate}: called different in {called} of runs");
        assert!(called <= ALPHA, "{called} at {rate}");
    }
}

#[test]
fn the_test_calls_a_better_canary_worse_in_at_most_alpha_of_runs() {
    for (stable, canary) in [(0.02, 0.01), (0.1, 0.09), (0.5, 0.45)] {
        let called = share_of_runs(|rng| {
            let mut test = SequentialTest::new();
            (0..ANSWERS).any(|_| {
                let (release, failed) = answer(rng, stable, canary);
                test.observe(release, failed);
                test.rejects(ALPHA)
            })
        });
        println!("stable at {stable}, canary at {canary}: called worse in {called} of runs");
        assert!(called <= ALPHA, "{called} at {stable}, {canary}");
    }
}

/// The simulation can tell a valid test from one that is not: the z-test of two proportions holds its level
/// for one look.
#[test]
fn a_test_for_one_look_would_break_the_level() {
    let called = share_of_runs(|rng| {
        let (mut stable, mut canary) = ((0.0, 0.0), (0.0, 0.0));
        (0..ANSWERS).any(|_| {
            let (release, failed) = answer(rng, 0.05, 0.05);
            let seen = if release == Release::Stable { &mut stable } else { &mut canary };
            seen.0 += f64::from(u8::from(failed));
            seen.1 += 1.0;
            let pooled = (stable.0 + canary.0) / (stable.1 + canary.1);
            let deviation = (pooled * (1.0 - pooled) * (1.0 / stable.1 + 1.0 / canary.1)).sqrt();
            canary.0 / canary.1 - stable.0 / stable.1 > 1.645 * deviation
        })
    });
    println!("the z-test, looked at after every answer: called different in {called} of runs");
    assert!(called > 2.0 * ALPHA, "{called}");
}

/// The prior is on rates like 5 %, so that one is the closest: missed in 4.4 % of 50,000 runs.
#[test]
fn the_interval_misses_the_truth_in_at_most_alpha_of_runs() {
    let sequence = ConfidenceSequence::new(ALPHA);
    for rate in RATES {
        let missed = share_of_runs(|rng| {
            let mut seen = Counts::default();
            (0..ANSWERS).any(|_| {
                seen.record(rng.f64() < rate);
                sequence.is_above(seen, rate) || sequence.is_below(seen, rate)
            })
        });
        println!("interval at {rate}: missed in {missed} of runs");
        assert!(missed <= ALPHA, "{missed} at {rate}");
    }
}

#[test]
fn the_judge_rolls_back_a_canary_as_good_as_stable_in_at_most_alpha_of_runs() {
    for rate in [0.001, 0.01] {
        let called = share_of_runs(|rng| {
            let mut judge = Judge::new(Settings::default());
            (0..ANSWERS).for_each(|_| observe(&mut judge, answer(rng, rate, rate)));
            // A roll-back stays, so a look at the end sees all that were called for.
            is_roll_back(&judge)
        });
        println!("judge, equal releases at {rate}: rolled back in {called} of runs");
        assert!(called <= ALPHA, "{called} at {rate}");
    }
}

#[test]
fn the_judge_promotes_a_canary_above_the_limit_in_at_most_alpha_of_runs() {
    let limit = Fraction::new(0.1).unwrap();
    let settings = Settings { max_failure_rate: limit, ..Settings::default() };
    let promoted = share_of_runs(|rng| {
        let mut judge = Judge::new(settings);
        (0..1_000).any(|_| {
            let answer = answer(rng, 0.101, 0.101);
            observe(&mut judge, answer);
            answer.0 == Release::Canary && judge.verdict().decision == Decision::Promote
        })
    });
    println!("judge, canary just above the limit: promoted in {promoted} of runs");
    assert!(promoted <= ALPHA, "{promoted}");
}

/// After how many requests something was true in 95 % of runs, at the latest.
fn requests_in_95_per_cent(mut is_called: impl FnMut(&mut Rng) -> usize) -> usize {
    let mut requests: Vec<usize> = generators().map(|mut rng| is_called(&mut rng)).collect();
    requests.sort_unstable();
    requests[requests.len() * 95 / 100]
}

#[test]
fn a_canary_that_always_fails_is_called_within_30_requests_in_95_per_cent_of_runs() {
    for stable in [0.0, 0.001] {
        let by_test = requests_in_95_per_cent(|rng| {
            let mut test = SequentialTest::new();
            1 + (0..ANSWERS)
                .position(|_| {
                    let (release, failed) = answer(rng, stable, 1.0);
                    test.observe(release, failed);
                    test.rejects(ALPHA / 2.0)
                })
                .unwrap_or(ANSWERS)
        });
        let by_judge = requests_in_95_per_cent(|rng| {
            let mut judge = Judge::new(Settings::default());
            1 + (0..ANSWERS)
                .position(|_| {
                    observe(&mut judge, answer(rng, stable, 1.0));
                    is_roll_back(&judge)
                })
                .unwrap_or(ANSWERS)
        });
        println!(
            "stable at {stable}, canary at 1: called within {by_test} (test) or {by_judge} (judge) in 95 %"
        );
        assert!(by_test <= 30 && by_judge <= 30, "{by_test}, {by_judge} at {stable}");
    }
}

#[test]
fn watching_stable_alone_for_long_does_not_delay_the_call() {
    let requests = requests_in_95_per_cent(|rng| {
        let mut test = SequentialTest::new();
        (0..2_000).for_each(|_| test.observe(Release::Stable, rng.f64() < 0.001));
        1 + (0..ANSWERS)
            .position(|_| {
                let (release, failed) = answer(rng, 0.001, 1.0);
                test.observe(release, failed);
                test.rejects(ALPHA / 2.0)
            })
            .unwrap_or(ANSWERS)
    });
    println!("after 2,000 answers of stable alone: called within {requests} in 95 % of runs");
    assert!(requests <= 30, "{requests}");
}

#[test]
fn a_canary_that_fails_one_request_in_ten_is_called_within_700_requests_in_95_per_cent_of_runs() {
    let requests = requests_in_95_per_cent(|rng| {
        let mut test = SequentialTest::new();
        1 + (0..ANSWERS)
            .position(|_| {
                let (release, failed) = answer(rng, 0.01, 0.1);
                test.observe(release, failed);
                test.rejects(ALPHA / 2.0)
            })
            .unwrap_or(ANSWERS)
    });
    println!("stable at 0.01, canary at 0.1: called within {requests} in 95 % of runs");
    assert!(requests <= 700, "{requests}");
}

#[test]
fn a_canary_that_always_succeeds_is_promoted_within_600_of_its_answers() {
    for stable in [0.0, 0.01, 0.5] {
        let mut rng = Rng::with_seed(5);
        let mut judge = Judge::new(Settings::default());
        let promoted = (0..ANSWERS).any(|_| {
            observe(&mut judge, answer(&mut rng, stable, 0.0));
            judge.verdict().decision == Decision::Promote
        });
        let answers = judge.counts(Release::Canary).requests;
        println!("stable at {stable}, canary at 0: promoted after {answers} of its answers");
        assert!(promoted && answers <= 600, "{}", judge.verdict());
    }
}
