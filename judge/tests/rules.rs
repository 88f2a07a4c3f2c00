//! How often each rule of thumb rolls back a canary that is as good as stable, beside the judge. The page of `canary` shows
//! these figures. `cargo test -p canary-judge --test rules -- --nocapture` prints them. Seeds are fixed.

use canary_judge::{
    Decision, Judge, Outcome, Release, Request, Settings,
    rules::{GOOD_CANARY, NAMES, RulesOfThumb, Setting},
};
use fastrand::Rng;

/// The answers of a trial: release, outcome, and seconds since the beginning.
fn answers(setting: Setting, canary: f64, seed: u64) -> impl Iterator<Item = (Release, Outcome, f64)> {
    let mut rng = Rng::with_seed(seed);
    let times = (0_u32..).map(move |number| f64::from(number) / setting.rate);
    times.take_while(move |seconds| *seconds < setting.seconds).map(move |seconds| {
        let is_canary = rng.f64() < setting.share;
        let release = if is_canary { Release::Canary } else { Release::Stable };
        let failed = rng.f64() < if is_canary { canary } else { setting.failure_rate };
        (release, if failed { Outcome::Failure } else { Outcome::Success }, seconds)
    })
}

/// Which rules roll back in a trial, and whether the judge does.
fn rolled_back(setting: Setting, canary: f64, seed: u64) -> [bool; 5] {
    let (mut rules, mut judge) = (RulesOfThumb::default(), Judge::new(Settings::default()));
    for (release, outcome, seconds) in answers(setting, canary, seed) {
        rules.observe(Some(release), outcome, seconds);
        judge.observe(Request::new(Some(release), outcome));
    }
    let mut all = [false; 5];
    for (rolled_back, (_, said)) in all.iter_mut().zip(rules.said()) {
        *rolled_back = said.is_some();
    }
    all[4] = matches!(judge.decided(), Some(Decision::RollBack { .. }));
    all
}

/// In which percentage of the trials each rule rolls back, and the judge.
fn percentages(setting: Setting, canary: f64) -> [u32; 5] {
    let mut counts = [0; 5];
    for seed in 0..setting.trials {
        for (count, rolled_back) in counts.iter_mut().zip(rolled_back(setting, canary, seed.into())) {
            *count += u32::from(rolled_back);
        }
    }
    counts.map(|count| (200 * count + setting.trials) / (2 * setting.trials)) // rounded
}

#[test]
fn the_figures_that_the_page_shows_are_those_that_are_measured() {
    let measured = percentages(GOOD_CANARY, GOOD_CANARY.failure_rate);
    let Setting { rate, share, failure_rate, seconds, trials, wrong, wrong_of_the_judge } = GOOD_CANARY;
    println!(
        "{rate} requests a second for {seconds} s, a share of {share}, both fail {failure_rate}, {trials} trials:"
    );
    for (name, percentage) in NAMES.into_iter().chain(["the judge"]).zip(measured) {
        println!("{name}: {percentage} %");
    }
    assert_eq!((&measured[..4], measured[4]), (&wrong[..], wrong_of_the_judge));
    assert!(wrong_of_the_judge <= 5, "it promises that");
}

#[test]
fn a_canary_that_is_bad_is_rolled_back_by_all_of_them() {
    let few = Setting { trials: 100, ..GOOD_CANARY };
    let measured = percentages(few, 0.05);
    assert!(measured.iter().all(|percentage| *percentage >= 99), "{measured:?}");
}

#[test]
fn the_rules_take_a_fixed_memory() {
    assert!(size_of::<RulesOfThumb>() <= 400, "{}", size_of::<RulesOfThumb>());
    // it is copied as bytes: no part of it is elsewhere, but the judge of a trial would have to carry that
    assert!(!std::mem::needs_drop::<RulesOfThumb>());
}

#[test]
fn each_rule_says_when_it_first_said_so() {
    let mut rules = RulesOfThumb::default();
    // four answers a second, the last one the canary's; it fails once a second from second 100 on
    for number in 0..4000_u32 {
        let seconds = f64::from(number) / 4.0;
        let is_canary = number % 4 == 3;
        let release = if is_canary { Release::Canary } else { Release::Stable };
        let outcome = if is_canary && number >= 400 { Outcome::Failure } else { Outcome::Success };
        rules.observe(Some(release), outcome, seconds);
        rules.observe(None, Outcome::Failure, seconds);
    }
    let said: Vec<_> = rules.said().map(|(_, said)| said.map_or(-1.0, |said| said.seconds)).collect();
    // the first failure; the third of 50; three of three at a share of a fourth (1/64) at the next second; four full minutes
    assert_eq!(said, [100.75, 102.75, 103.0, 300.0]);
    let answers: Vec<_> = rules.said().filter_map(|(_, said)| said).map(|said| said.canary).collect();
    assert_eq!((answers[0].failures, answers[0].requests), (1, 101));
}
