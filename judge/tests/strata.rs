//! The judge's promises if requests are divided into strata, such as paths, tested by simulation. The verdict at any time
//! counts. `cargo test -p canary-judge --test strata -- --nocapture` prints the measured figures, and
//! `SIMULATION_RUNS=10000` sets more runs. `docs/verdict.md` has the figures.

use std::{
    env,
    f64::consts::PI,
    hint::black_box,
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use canary_judge::{Batch, Counts, Decision, Judge, Outcome, Reason, Release, Request, Settings, Window};
use fastrand::Rng;

const ALPHA: f64 = 0.05;
/// As in `guarantees.rs`.
const STANDARD_ERRORS: f64 = 2.0;
/// The first seed. The method was tuned on others, from 900,000 on.
const SEED: u64 = 1_000_000;

/// The number of runs of each simulation: small enough for `cargo test`, unless `SIMULATION_RUNS` sets it.
fn runs() -> u32 {
    let runs = env::var("SIMULATION_RUNS").unwrap_or_else(|_| "2000".to_owned());
    let runs = runs.parse::<NonZeroU32>().unwrap_or_else(|error| panic!("SIMULATION_RUNS={runs}: {error}"));
    runs.get()
}

/// What happens in a run. A stratum is a number, and the time is the number of a request.
struct World<'a> {
    name: &'a str,
    requests: u32,
    /// The stratum of a request.
    stratum: &'a (dyn Fn(&mut Rng, u32) -> usize + Sync),
    /// The canary's share of the requests of a stratum.
    share: &'a (dyn Fn(usize, u32) -> f64 + Sync),
    /// The failure rates of stable and of the canary in a stratum.
    rates: &'a (dyn Fn(usize, u32) -> [f64; 2] + Sync),
}

/// When the first decisions were made, in requests.
#[derive(Clone, Copy, Debug, Default)]
struct Decided {
    rolled_back: Option<u32>,
    promoted: Option<(u32, Reason)>,
}

/// How requests are given to the judge.
#[derive(Clone, Copy, PartialEq)]
enum As {
    /// Divided.
    Strata,
    /// Not divided.
    One,
}

impl World<'_> {
    fn run(&self, seed: u32, divided: As) -> Decided {
        let names: Vec<_> = (0..200).map(|number| format!("/{number}")).collect();
        let mut rng = Rng::with_seed(SEED + u64::from(seed));
        let mut judge = Judge::new(Settings::default());
        let mut decided = Decided::default();
        for number in 0..self.requests {
            let stratum = (self.stratum)(&mut rng, number);
            let is_canary = rng.f64() < (self.share)(stratum, number);
            let failed = rng.f64() < (self.rates)(stratum, number)[usize::from(is_canary)];
            let release = if is_canary { Release::Canary } else { Release::Stable };
            let name = (divided == As::Strata).then_some(names[stratum].as_str());
            judge.observe(Request::new(Some(release), outcome(failed)).with_stratum(name));
            decided.note(&judge, number + 1);
            if decided.rolled_back.is_some() {
                break; // it is final
            }
        }
        judge.end();
        decided.note(&judge, self.requests);
        decided
    }

    /// All runs, on both processors.
    fn all(&self, divided: As) -> Vec<Decided> {
        let next = AtomicU32::new(0);
        let work = || {
            let mut all = Vec::new();
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= runs() {
                    return all;
                }
                all.push(self.run(seed, divided));
            }
        };
        std::thread::scope(|scope| {
            let other = scope.spawn(work);
            let mut all = work();
            all.extend(other.join().expect("no panic"));
            all
        })
    }

    fn rolled_back(&self, divided: As) -> f64 {
        share(&self.all(divided), |one| one.rolled_back.is_some())
    }

    #[track_caller]
    fn assert_no_false_roll_backs(&self) {
        assert_at_most_alpha(&format!("{}: rolled back", self.name), self.rolled_back(As::Strata));
    }

    /// The requests until the roll-back: the median, and that of 95 % of runs.
    fn requests_until_roll_back(&self, divided: As) -> [u32; 2] {
        let all = self.all(divided);
        let mut times: Vec<_> = all.iter().map(|one| one.rolled_back.unwrap_or(u32::MAX)).collect();
        times.sort_unstable();
        let promoted = share(&all, |one| one.promoted.is_some_and(|(at, _)| Some(at) < one.rolled_back));
        let found = [times[times.len() / 2], times[times.len() * 95 / 100]];
        let how = if divided == As::Strata { "divided" } else { "not divided" };
        let name = self.name;
        println!("{name}, {how}: {found:?} requests, promoted before in {:.1} %", 100.0 * promoted);
        found
    }
}

impl Decided {
    fn note(&mut self, judge: &Judge, now: u32) {
        match judge.decided() {
            Some(Decision::RollBack { .. }) if self.rolled_back.is_none() => self.rolled_back = Some(now),
            Some(Decision::Promote { reason, .. }) if self.promoted.is_none() => {
                self.promoted = Some((now, reason));
            }
            _ => {}
        }
    }
}

fn share(all: &[Decided], happened: impl Fn(&Decided) -> bool) -> f64 {
    all.iter().filter(|one| happened(one)).count() as f64 / all.len() as f64
}

fn outcome(failed: bool) -> Outcome {
    if failed { Outcome::Failure } else { Outcome::Success }
}

/// Prints a measured error, and fails unless it is below α by [`STANDARD_ERRORS`].
#[track_caller]
fn assert_at_most_alpha(what: &str, measured: f64) {
    let standard_error = (ALPHA * (1.0 - ALPHA) / f64::from(runs())).sqrt();
    println!("{what}: {:.2} %", 100.0 * measured);
    assert!(measured + STANDARD_ERRORS * standard_error <= ALPHA, "{what}: {measured}");
}

fn even(strata: usize) -> impl Fn(&mut Rng, u32) -> usize + Sync {
    move |rng, _| rng.usize(..strata)
}

/// Stratum 0 has this part of the requests, and nine others the rest.
fn rare(part: f64) -> impl Fn(&mut Rng, u32) -> usize + Sync {
    move |rng, _| if rng.f64() < part { 0 } else { 1 + rng.usize(..9) }
}

/// The j-th stratum has 1/j of the requests of the first, as the paths of many services.
fn zipf(strata: usize) -> impl Fn(&mut Rng, u32) -> usize + Sync {
    let sums: Vec<_> = (1..=strata)
        .scan(0.0, |sum, place| {
            *sum += 1.0 / place as f64;
            Some(*sum)
        })
        .collect();
    move |rng, _| {
        let at = rng.f64() * sums[strata - 1];
        sums.partition_point(|sum| *sum < at).min(strata - 1)
    }
}

fn with_incident(rate: f64, happens: bool, part: f64) -> f64 {
    if happens { 1.0 - (1.0 - rate) * (1.0 - part) } else { rate }
}

const QUARTER: &(dyn Fn(usize, u32) -> f64 + Sync) = &|_, _| 0.25;

/// Both releases are alike in each stratum, but the canary's clients use the bad one more.
#[test]
fn a_canary_alike_in_each_stratum_is_not_rolled_back_because_of_its_mix() {
    for (part, bad, good, share_bad, share_good) in [
        (0.2, 0.1, 0.001, 0.5, 0.2),
        (0.2, 0.1, 0.001, 0.8, 0.1),
        (0.5, 0.05, 0.0, 0.4, 0.1),
        (0.05, 0.5, 0.01, 0.5, 0.25),
        (0.02, 1.0, 0.001, 0.6, 0.25),
        (0.3, 0.2, 0.1, 0.9, 0.5),
    ] {
        let world = World {
            name: &format!(
                "{part} of requests fail {bad}, the others {good}; the canary has {share_bad} of the former and {share_good}"
            ),
            requests: 5_000,
            stratum: &move |rng, _| usize::from(rng.f64() < part),
            share: &move |stratum, _| if stratum == 1 { share_bad } else { share_good },
            rates: &move |stratum, _| [if stratum == 1 { bad } else { good }; 2],
        };
        println!("{}, not divided: rolled back in {:.1} %", world.name, 100.0 * world.rolled_back(As::One));
        world.assert_no_false_roll_backs();
    }
}

#[test]
fn a_canary_alike_in_each_stratum_is_rolled_back_in_at_most_alpha_of_runs() {
    let spread = |stratum: usize| [0.001, 0.01, 0.05, 0.2][stratum % 4];
    for strata in [1, 2, 10, 64, 200] {
        for rate in [0.001, 0.01, 0.05, 0.3] {
            let name = format!("{strata} strata, both at {rate}");
            let (stratum, rates) = (even(strata), move |_, _| [rate; 2]);
            World { name: &name, requests: 5_000, stratum: &stratum, share: QUARTER, rates: &rates }
                .assert_no_false_roll_backs();
        }
        let name = format!("{strata} strata, rates from 0.1 to 20 %");
        let (stratum, rates) = (zipf(strata), move |stratum, _| [spread(stratum); 2]);
        World { name: &name, requests: 5_000, stratum: &stratum, share: QUARTER, rates: &rates }
            .assert_no_false_roll_backs();
    }
    World {
        name: "strata appear one after the other, 40 in all",
        requests: 5_000,
        stratum: &|rng, number| rng.usize(..=number as usize / 125),
        share: QUARTER,
        rates: &|stratum, _| [spread(stratum); 2],
    }
    .assert_no_false_roll_backs();
    World {
        name: "one stratum of 0.4 %, which fails always, and nine at 1 %",
        requests: 20_000,
        stratum: &rare(0.004),
        share: QUARTER,
        rates: &|stratum, _| [if stratum == 0 { 1.0 } else { 0.01 }; 2],
    }
    .assert_no_false_roll_backs();
    World {
        name: "the canary is better in half of ten strata",
        requests: 5_000,
        stratum: &even(10),
        share: QUARTER,
        rates: &|stratum, _| [0.05, if stratum % 2 == 0 { 0.05 } else { 0.01 }],
    }
    .assert_no_false_roll_backs();
    World {
        name: "the share is from 1/20 to 3/4 by stratum",
        requests: 5_000,
        stratum: &even(10),
        share: &|stratum, _| 0.05 + 0.07 * stratum as f64,
        rates: &|stratum, _| [0.01 + 0.02 * stratum as f64; 2],
    }
    .assert_no_false_roll_backs();
    World {
        name: "the share of each stratum moves by itself",
        requests: 5_000,
        stratum: &even(10),
        share: &|stratum, number| 0.3 + 0.2 * (f64::from(number) / 900.0 * PI + stratum as f64).sin(),
        rates: &|stratum, number| [0.05 + 0.04 * (f64::from(number) / 700.0 * PI + stratum as f64).cos(); 2],
    }
    .assert_no_false_roll_backs();
}

#[test]
fn an_incident_of_one_stratum_or_of_all_rolls_the_canary_back_in_at_most_alpha_of_runs() {
    type Incident = fn(usize, u32) -> (bool, f64);
    let incidents: [(&str, Incident); 7] = [
        ("all of requests 600 to 900 fail", |_, number| ((600..900).contains(&number), 1.0)),
        ("a fifth of requests 600 to 1600 fails", |_, number| ((600..1600).contains(&number), 0.2)),
        ("all of one stratum fails from 600 to 1600", |stratum, number| {
            (stratum == 3 && (600..1600).contains(&number), 1.0)
        }),
        ("half of three strata fails from 600 to 3000", |stratum, number| {
            (stratum < 3 && (600..3000).contains(&number), 0.5)
        }),
        ("10 of every 250 requests fail together", |_, number| (number % 250 < 10, 1.0)),
        ("one stratum after the other fails for 500 requests", |stratum, number| {
            (stratum == number as usize / 500, 1.0)
        }),
        ("the rate rises from 0 to 20 %", |_, number| (true, 0.2 * f64::from(number) / 5_000.0)),
    ];
    for (name, incident) in incidents {
        for (strata, stratum) in
            [(10, &even(10) as &(dyn Fn(&mut Rng, u32) -> usize + Sync)), (30, &zipf(30))]
        {
            let rates = move |stratum, number| {
                let (happens, part) = incident(stratum, number);
                [with_incident(0.001, happens, part); 2]
            };
            World {
                name: &format!("{strata} strata, {name}"),
                requests: 5_000,
                stratum,
                share: QUARTER,
                rates: &rates,
            }
            .assert_no_false_roll_backs();
        }
    }
}

/// Each canary is above the limit over all requests, and above the ratio in each stratum.
#[test]
fn a_canary_above_limit_and_ratio_is_promoted_in_at_most_alpha_of_runs() {
    type Rates = fn(usize) -> [f64; 2];
    let worlds: [(&str, Rates); 5] = [
        ("stable at 0.1 %, canary at 1.01 %", |_| [0.001, 0.010_1]),
        ("stable at 1 %, canary at 2 %", |_| [0.01, 0.02]),
        ("stable at 2 %, canary at 4 %", |_| [0.02, 0.04]),
        ("stable at 1 or 10 %, canary twice as much", |stratum| {
            if stratum % 2 == 0 { [0.01, 0.02] } else { [0.1, 0.2] }
        }),
        ("stable at 0.1 or 20 %, canary 2.1 times as much", |stratum| {
            if stratum < 9 { [0.001, 0.0021] } else { [0.2, 0.42] }
        }),
    ];
    for (name, rates) in worlds {
        let (stratum, rates) = (even(10), move |stratum, _| rates(stratum));
        let world = World { name, requests: 5_000, stratum: &stratum, share: QUARTER, rates: &rates };
        let promoted = share(&world.all(As::Strata), |one| one.promoted.is_some());
        assert_at_most_alpha(&format!("10 strata, {name}: promoted"), promoted);
    }
    // its clients use the good stratum more, so over all requests it looks better than it is
    let world = World {
        name: "the canary fails twice as often, and has 1/10 of the bad stratum and 1/2 of the good one",
        requests: 5_000,
        stratum: &|rng, _| rng.usize(..2),
        share: &|stratum, _| if stratum == 1 { 0.1 } else { 0.5 },
        rates: &|stratum, _| if stratum == 1 { [0.2, 0.4] } else { [0.02, 0.04] },
    };
    for (how, divided) in [("divided", As::Strata), ("not divided", As::One)] {
        let by_ratio = |one: &Decided| one.promoted.is_some_and(|(_, reason)| reason == Reason::Ratio);
        let promoted = share(&world.all(divided), by_ratio);
        match divided {
            As::Strata => assert_at_most_alpha(&format!("{}, {how}: promoted", world.name), promoted),
            As::One => println!("{}, {how}: promoted in {:.1} %", world.name, 100.0 * promoted),
        }
    }
}

/// One of ten strata is bad, and the canary is above the ratio over all. The promise does not cover that.
#[test]
fn a_canary_that_is_bad_in_one_stratum_only_is_rarely_promoted_by_the_ratio() {
    for (stable, canary) in [(0.02, 0.5), (0.02, 0.3), (0.05, 1.0)] {
        let (stratum, rates) =
            (even(10), move |stratum, _| [stable, if stratum == 3 { canary } else { stable }]);
        let name = format!("{stable} of both, but {canary} of the canary in one of ten");
        let world = World { name: &name, requests: 10_000, stratum: &stratum, share: QUARTER, rates: &rates };
        let all = world.all(As::Strata);
        let promoted = share(&all, |one| one.promoted.is_some());
        println!(
            "{name}: promoted in {:.2} %, rolled back in {:.1} %",
            100.0 * promoted,
            100.0 * share(&all, |one| one.rolled_back.is_some())
        );
        assert!(promoted <= 0.02, "{promoted}");
    }
}

#[test]
fn a_canary_that_is_bad_in_one_stratum_is_found_sooner_and_one_that_is_bad_in_all_a_little_later() {
    let found = |name: &str,
                 stratum: &(dyn Fn(&mut Rng, u32) -> usize + Sync),
                 rates: &(dyn Fn(usize, u32) -> [f64; 2] + Sync)| {
        let world = World { name, requests: 40_000, stratum, share: QUARTER, rates };
        [As::One, As::Strata].map(|divided| world.requests_until_roll_back(divided)[0])
    };
    let ten = even(10);
    let [one, divided] = found("1 %, and 20 % of one of ten", &ten, &|stratum, _| {
        [0.01, if stratum == 3 { 0.2 } else { 0.01 }]
    });
    assert!(f64::from(divided) < 0.8 * f64::from(one));
    found("1 %, and 30 % of one of ten", &ten, &|stratum, _| [0.01, if stratum == 3 { 0.3 } else { 0.01 }]);
    found("1 %, and all of one of ten", &ten, &|stratum, _| [0.01, if stratum == 3 { 1.0 } else { 0.01 }]);
    found("0.1 %, and 10 % of one of ten", &ten, &|stratum, _| {
        [0.001, if stratum == 3 { 0.1 } else { 0.001 }]
    });
    found("1 %, and 20 % of one of 50", &even(50), &|stratum, _| {
        [0.01, if stratum == 3 { 0.2 } else { 0.01 }]
    });
    let [one, divided] = found("0.1 %, and all of a path of 0.4 %", &rare(0.004), &|stratum, _| {
        [0.001, if stratum == 0 { 1.0 } else { 0.001 }]
    });
    assert!(divided < one);
    for (stable, canary, most) in [(0.01, 0.05, 1.5), (0.01, 0.1, 1.5), (0.001, 0.05, 1.5), (0.001, 1.0, 6.0)]
    {
        let name = format!("{stable} and {canary} of all ten");
        let [one, divided] = found(&name, &ten, &move |_, _| [stable, canary]);
        assert!(f64::from(divided) <= most * f64::from(one), "{one}, {divided}");
    }
    found("1 and 5 % of all 50", &even(50), &|_, _| [0.01, 0.05]);
}

/// The numbers of the judge before there were strata: seed, failure rates, evidence, bound, and the canary's answers at the
/// decision.
#[test]
#[expect(clippy::type_complexity, reason = "a table")]
fn a_judge_without_strata_says_what_it_said_before_there_were_any() {
    let known: [(u64, [f64; 2], f64, f64, Option<u64>); 6] = [
        (1, [0.01, 0.01], 0.0, 0.019_955_212_547_557_277, None),
        (2, [0.001, 0.02], 17.559_179_955_163_888, 0.030_366_264_530_360_287, Some(131)),
        (3, [0.05, 0.1], 12.322_354_606_765_522, 0.124_644_189_658_276_17, Some(287)),
        (4, [0.3, 0.3], 0.0, 0.361_464_435_828_539_6, None),
        (5, [0.0, 0.5], 923.124_804_253_397_8, 0.604_707_783_847_038, Some(2)),
        (6, [0.03, 0.02], 1.297_654_440_654_178, 0.035_090_190_526_795_406, Some(1274)),
    ];
    for (seed, rates, ln_e_value, bound, decided) in known {
        let (mut rng, mut judge) = (Rng::with_seed(seed), Judge::new(Settings::default()));
        for _ in 0..5000 {
            let is_canary = rng.f64() < 0.25;
            let failed = rng.f64() < rates[usize::from(is_canary)];
            let release = if is_canary { Release::Canary } else { Release::Stable };
            judge.observe(Request::new(Some(release), outcome(failed)));
        }
        judge.end();
        let verdict = judge.verdict();
        assert!((verdict.ln_e_value - ln_e_value).abs() < 1e-9, "{seed}: {}", verdict.ln_e_value);
        assert!((verdict.promotion_bound - bound).abs() < 1e-12, "{seed}: {}", verdict.promotion_bound);
        let clear = judge.decided().map(|decision| match decision {
            Decision::RollBack { clear_after } | Decision::Promote { clear_after, .. } => {
                clear_after.canary.requests
            }
            Decision::NotYet | Decision::Hold => 0,
        });
        assert_eq!(clear, decided, "{seed}");
        assert!(verdict.strata.is_empty());
        assert!(serde_json::to_value(&verdict).unwrap().get("strata").is_none());
    }
}

/// A judge that sees `rounds` rounds of three requests of stable and one of the canary on each path. The canary fails on the
/// paths of `bad`.
fn seen(settings: Settings, rounds: u32, paths: &[&str], bad: &[&str]) -> Judge {
    let mut judge = Judge::new(settings);
    for _ in 0..rounds {
        for release in [Release::Stable, Release::Stable, Release::Stable, Release::Canary] {
            for path in paths {
                let failed = release == Release::Canary && bad.contains(path);
                judge.observe(Request::new(Some(release), outcome(failed)).with_stratum(Some(path)));
            }
        }
    }
    judge
}

#[test]
fn a_roll_back_names_the_path_and_the_counts_there_and_elsewhere() {
    let judge = seen(Settings::default(), 7, &["/", "/cart", "/checkout"], &["/checkout"]);
    let verdict = judge.verdict();
    assert_eq!(
        verdict.to_string(),
        "Roll back: the canary is worse than stable on /checkout (clear after 12 of its answers). There it has failed 6 of 6 \
         requests, and stable 0 of 21 requests. Elsewhere they are alike: it has failed 0 of 12 requests, and stable 0 of 42 \
         requests. 3 more answers of the canary wait for requests that were sent at the same time; 1 of them has failed."
    );
    let json = serde_json::to_value(&verdict).unwrap();
    let checkout = &json["strata"][2];
    assert_eq!((&checkout["name"], &checkout["worse"]), (&"/checkout".into(), &true.into()));
    assert_eq!((&checkout["canary"]["failures"], &checkout["stable"]["answers"]), (&6.into(), &21.into()));
    assert_eq!((&json["strata"][0]["worse"], &json["strata"][0]["covered"]), (&false.into(), &true.into()));
}

#[test]
fn a_canary_that_is_worse_on_all_paths_but_clearly_on_none_is_rolled_back_by_all_of_them_together() {
    let paths: Vec<_> = (0..40).map(|number| format!("/{number}")).collect();
    let paths: Vec<_> = paths.iter().map(String::as_str).collect();
    let text = seen(Settings::default(), 2, &paths, &paths).verdict().to_string();
    assert!(
        text.starts_with(
            "Roll back: the canary is worse than stable when requests of the same kind are compared (clear after "
        ) && text.contains("No kind shows it alone, but all 40 of them do together. It has failed "),
        "{text}"
    );
}

#[test]
fn a_roll_back_names_the_path_if_there_is_only_one() {
    for (every, of_stable) in (1..10).flat_map(|every| (1..10).map(move |of_stable| (every, of_stable))) {
        let mut judge = Judge::new(Settings::default());
        let observe = |judge: &mut Judge, release, failed| {
            judge.observe(Request::new(Some(release), outcome(failed)).with_stratum(Some("/checkout")));
        };
        for round in 0..60 {
            (0..of_stable).for_each(|_| observe(&mut judge, Release::Stable, false));
            observe(&mut judge, Release::Canary, round % every == 0);
            let verdict = judge.verdict();
            let rolled_back = matches!(verdict.decision, Decision::RollBack { .. });
            let named = "Roll back: the canary is worse than stable on /checkout (clear after ";
            assert_eq!(
                verdict.to_string().starts_with(named),
                rolled_back,
                "{every}, {of_stable}, {round}: {verdict}"
            );
            assert_eq!(verdict.strata[0].worse, rolled_back, "{every}, {of_stable}, {round}: {verdict}");
        }
    }
}

#[test]
fn a_roll_back_by_all_paths_together_names_the_one_with_most_of_the_failures() {
    let paths = ["/", "/cart", "/search", "/login", "/help", "/checkout"];
    let mut judge = Judge::new(Settings::default());
    let mut observe = |path, release, failed| {
        judge.observe(Request::new(Some(release), outcome(failed)).with_stratum(Some(path)));
    };
    for round in 0..7 {
        for path in paths {
            (0..3).for_each(|_| observe(path, Release::Stable, false));
            let failed = match path {
                "/checkout" => round % 2 == 0,
                "/" | "/cart" | "/search" => round == 0,
                _ => false,
            };
            observe(path, Release::Canary, failed);
        }
    }
    let text = judge.verdict().to_string();
    assert!(text.contains(
            " No kind shows it alone, but 4 of the 6 do together. Most of its failures are on /checkout: there it has failed \
             4 of 7 requests, and stable 0 of 21 requests. In all, it has failed 7 of 42 requests "
        ), "{text}");
}

#[test]
fn a_promotion_says_which_paths_it_does_not_cover() {
    let mut judge = seen(Settings::default(), 400, &["/"], &[]);
    let rare = |judge: &mut Judge, release| {
        judge.observe(Request::new(Some(release), Outcome::Success).with_stratum(Some("/checkout")));
    };
    (0..3).for_each(|_| rare(&mut judge, Release::Stable));
    rare(&mut judge, Release::Canary);
    judge.observe(Request::new(Some(Release::Canary), Outcome::Success).with_stratum(Some("/new")));
    judge.end();
    let text = judge.verdict().to_string();
    assert!(
        text.contains(
            " It says nothing of /checkout, which the canary has answered once, and of /new, which the canary has answered once \
             and stable never: a canary that fails all requests there would not have been found yet."
        ),
        "{text}"
    );
    // as many as a dead path takes
    let mut judge = seen(Settings::default(), 400, &["/"], &[]);
    for _ in 0..6 {
        (0..3).for_each(|_| rare(&mut judge, Release::Stable));
        rare(&mut judge, Release::Canary);
    }
    judge.end();
    let verdict = judge.verdict();
    assert!(verdict.strata.iter().all(|one| one.covered), "{verdict}");
    assert!(!verdict.to_string().contains("says nothing"), "{verdict}");
}

#[test]
fn with_min_answers_there_is_no_promotion_before_the_canary_has_them_on_each_path_that_stable_has_seen() {
    let settings = Settings { min_answers: 20, ..Settings::default() };
    let mut judge = seen(settings, 15, &["/", "/checkout"], &[]);
    for number in 0..1540 {
        let release = if number % 4 == 3 { Release::Canary } else { Release::Stable };
        judge.observe(Request::new(Some(release), Outcome::Success).with_stratum(Some("/")));
    }
    let verdict = judge.verdict();
    assert_eq!(judge.decided(), None);
    assert!(
        verdict.to_string().contains(
            ". A promotion takes 20 answers of the canary on each kind of request that stable gets: 5 on /checkout are missing."
        ),
        "{verdict}"
    );
    assert_eq!(verdict.more_requests, Some(551), "1,653 requests have brought 15 of them");
    // the canary alone does not make a path that must be covered
    judge.observe(Request::new(Some(Release::Canary), Outcome::Success).with_stratum(Some("/new")));
    for _ in 0..5 {
        judge.observe(Request::new(Some(Release::Canary), Outcome::Success).with_stratum(Some("/checkout")));
    }
    judge.end();
    assert!(matches!(judge.decided(), Some(Decision::Promote { .. })), "{}", judge.verdict());
}

#[test]
fn counters_of_an_interval_are_compared_by_path_and_judged_together() {
    let counts = |failures, requests| Counts { requests, failures, slow: 0 };
    let good = Batch { stable: counts(0, 300), canary: counts(0, 100), unattributed: 0 };
    // its clients use the bad path more
    let bad = Batch { stable: counts(10, 100), canary: counts(20, 200), unattributed: 0 };
    let (mut divided, mut one) = (Judge::new(Settings::default()), Judge::new(Settings::default()));
    for _ in 0..20 {
        for (path, batch) in [("/", good), ("/bad", bad)] {
            divided.observe_batch_of(path, batch);
        }
        one.observe_batch(Batch { stable: counts(10, 400), canary: counts(20, 300), unattributed: 0 });
    }
    divided.end();
    assert!(matches!(one.decided(), Some(Decision::RollBack { .. })), "{}", one.verdict());
    assert!(!matches!(divided.decided(), Some(Decision::RollBack { .. })), "{}", divided.verdict());
    let (divided, one) = (divided.verdict(), one.verdict());
    assert_eq!((divided.canary, divided.stable), (one.canary, one.stable));
    assert_eq!(divided.by_limit, one.by_limit, "the promotion by the limit is over all of them");
    assert_eq!(divided.strata[1].canary, counts(400, 4000));
}

/// The sum over the strata is what is judged, after each request.
#[test]
fn each_request_is_part_of_one_stratum() {
    let mut rng = Rng::with_seed(7);
    let mut judge = Judge::new(Settings::default());
    for _ in 0..5_000 {
        let release =
            [Some(Release::Stable), Some(Release::Stable), Some(Release::Canary), None][rng.usize(..4)];
        let name = format!("/{}", rng.usize(..80));
        let name = Some(name.as_str()).filter(|_| rng.f64() < 0.95);
        judge.observe(Request::new(release, outcome(rng.f64() < 0.1)).with_stratum(name.or(Some("/"))));
        let verdict = judge.verdict();
        let sum =
            |of: fn(&canary_judge::StratumEvidence) -> Counts| verdict.strata.iter().map(of).sum::<Counts>();
        assert_eq!(sum(|one| one.canary), verdict.canary.counts);
        assert_eq!(sum(|one| one.stable), verdict.stable.counts);
        let unattributed: u64 = verdict.strata.iter().map(|one| one.unattributed).sum();
        assert_eq!(unattributed, verdict.unattributed);
    }
    assert_eq!(judge.verdict().strata.len(), 65);
}

#[test]
fn a_judge_with_strata_goes_on_after_it_was_written_and_read() {
    let judge = seen(Settings::default(), 3, &["/", "/checkout"], &["/checkout"]);
    let written = serde_json::to_string(&judge).unwrap();
    let mut read: Judge = serde_json::from_str(&written).unwrap();
    assert!(read.resume());
    assert_eq!(read.verdict().strata[1].canary.failures, 3);
    let more = |judge: &mut Judge| {
        for _ in 0..8 {
            for release in [Release::Stable, Release::Stable, Release::Stable, Release::Canary] {
                let failed = outcome(release == Release::Canary);
                judge.observe(Request::new(Some(release), failed).with_stratum(Some("/checkout")));
            }
        }
    };
    more(&mut read);
    assert!(read.verdict().to_string().contains("worse than stable on /checkout"), "{}", read.verdict());
    let unsound = written.replace(
        "\"/checkout\",\"judged\":{\"stable\":{\"answers\":",
        "\"/checkout\",\"judged\":{\"stable\":{\"answers\":1",
    );
    assert_ne!(unsound, written);
    let mut unsound: Judge = serde_json::from_str(&unsound).unwrap();
    assert!(!unsound.resume(), "its strata have more than was judged");
}

#[test]
fn an_outcome_and_a_look_cost_the_same_after_ten_million_answers_on_twenty_paths_as_after_a_thousand() {
    let names: Vec<_> = (0..20).map(|number| format!("/{number}")).collect();
    let mut rng = Rng::with_seed(1);
    let mut observe = |judge: &mut Judge| {
        let release = if rng.f64() < 0.25 { Release::Canary } else { Release::Stable };
        let request = Request::new(Some(release), outcome(rng.f64() < 0.01));
        judge.observe(request.with_stratum(Some(&names[rng.usize(..20)])));
    };
    let judges = [1_000, 10_000_000].map(|answers: u32| {
        let mut judge = Judge::new(Settings::default());
        (0..answers).for_each(|_| observe(&mut judge));
        judge
    });
    // the shortest of several times, and both in turn, because other programs may make some of them longer
    let mut shortest = [(Duration::MAX, Duration::MAX); 2];
    for _ in 0..30 {
        for (judge, (look, outcome)) in judges.iter().zip(&mut shortest) {
            let start = Instant::now();
            (0..10).for_each(|_| drop(black_box(judge.verdict())));
            *look = (*look).min(start.elapsed() / 10);
            let mut judge = judge.clone();
            let start = Instant::now();
            (0..10_000).for_each(|_| observe(&mut judge));
            *outcome = (*outcome).min(start.elapsed() / 10_000);
        }
    }
    let [early, late] = shortest;
    println!("a look and an outcome cost {early:?} after 1,000 answers, {late:?} after 10,000,000");
    assert!(late.0 <= 10 * early.0 && late.1 <= 10 * early.1, "{early:?}, {late:?}");
}

/// Three pods of stable and one of the canary, each scraped every 15 s at moments of its own, with the counters of five paths.
/// Whether the canary is rolled back within 20 minutes, and when.
fn scraped(
    seed: u32,
    divided: As,
    share: impl Fn(usize) -> f64,
    rates: impl Fn(usize, f64) -> [f64; 2],
) -> Option<u32> {
    let paths: Vec<Arc<str>> = (0..5).map(|number| format!("/{number}").into()).collect();
    let mut rng = Rng::with_seed(SEED + u64::from(seed));
    let mut judge = Judge::new(Settings::default());
    let offsets: Vec<_> = (0..4).map(|_| rng.u32(..15)).collect();
    let mut counts = vec![[Counts::default(); 5]; 4];
    let mut scraped: Vec<Option<u32>> = vec![None; 4];
    for second in 0..1_200_u32 {
        for _ in 0..20 {
            let path = rng.usize(..5);
            let is_canary = rng.f64() < share(path);
            let pod = if is_canary { 3 } else { rng.usize(..3) };
            let failed = rng.f64() < rates(path, f64::from(second))[usize::from(is_canary)];
            counts[pod][path].record(outcome(failed));
        }
        for pod in (0..4).filter(|pod| second % 15 == offsets[*pod]) {
            let of_paths = std::mem::take(&mut counts[pod]);
            let since = scraped[pod].replace(second);
            let of_paths = if since.is_some() { of_paths } else { Default::default() };
            let parts = paths.iter().cloned().zip(of_paths).filter(|_| divided == As::Strata);
            judge.observe_scrapes([Window {
                release: if pod == 3 { Release::Canary } else { Release::Stable },
                pod: format!("pod-{pod}").into(),
                since: f64::from(since.unwrap_or(second)),
                until: f64::from(second),
                counts: of_paths.iter().copied().sum(),
                latencies: Vec::new(),
                restarted: false,
                is_warm_up: false,
                strata: parts.collect(),
            }]);
            if matches!(judge.decided(), Some(Decision::RollBack { .. })) {
                return Some(second);
            }
        }
    }
    None
}

#[test]
fn counters_that_are_scraped_keep_the_promise_by_path() {
    let runs = runs().div_ceil(10);
    let share_of = |divided, share: fn(usize) -> f64, rates: fn(usize, f64) -> [f64; 2]| {
        let all: Vec<_> = (0..runs).map(|seed| scraped(seed, divided, share, rates)).collect();
        let mut times: Vec<_> = all.iter().map(|one| one.unwrap_or(u32::MAX)).collect();
        times.sort_unstable();
        let found = all.iter().filter(|one| one.is_some()).count();
        (found as f64 / f64::from(runs), times[times.len() / 2])
    };
    let quarter: fn(usize) -> f64 = |_| 0.25;
    let by_mix: fn(usize) -> f64 = |path| if path == 0 { 0.5 } else { 0.15 };
    let bad: fn(usize, f64) -> [f64; 2] = |path, _| [if path == 0 { 0.2 } else { 0.001 }; 2];
    let incident: fn(usize, f64) -> [f64; 2] =
        |path, at| [if path == 2 && at % 100.0 < 20.0 { 1.0 } else { 0.002 }; 2];
    println!("the canary's clients use the bad path more, not divided: {:?}", share_of(As::One, by_mix, bad));
    for (name, share, rates) in [
        ("the canary's clients use the bad path more", by_mix, bad),
        ("one path fails 20 s in 100 s", quarter, incident),
        ("2 % of both", quarter, |_, _| [0.02; 2]),
    ] {
        let (rolled_back, _) = share_of(As::Strata, share, rates);
        println!("scraped, {name}: {:.1} %", 100.0 * rolled_back);
        assert!(rolled_back <= ALPHA, "{name}: {rolled_back}");
    }
    let one_path: fn(usize, f64) -> [f64; 2] = |path, _| [0.01, if path == 3 { 0.3 } else { 0.01 }];
    for (how, divided) in [("divided", As::Strata), ("not divided", As::One)] {
        println!("scraped, 1 %, and 30 % of one of five, {how}: {:?}", share_of(divided, quarter, one_path));
    }
    assert!(share_of(As::Strata, quarter, one_path).0 > 0.9);
}
