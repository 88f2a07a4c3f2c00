//! The judge's promises about latency, tested by simulation. As in `guarantees.rs`, each run looks after every request, and
//! what is ever said counts. `SIMULATION_RUNS=10000 cargo test -p canary-judge --test latency -- --nocapture` prints the
//! figures of `docs/verdict.md`. The method was tuned on other seeds.

use std::{
    env,
    f64::consts::PI,
    num::NonZeroU32,
    sync::Arc,
    time::{Duration, Instant},
};

use canary_judge::{
    Counts, Decision, Histogram, Judge, Outcome, Release, Request, Settings, Tolerance, Window,
};
use fastrand::Rng;

const ALPHA: f64 = 0.05;
/// A measured error must lie this many standard errors below α. If the true error were α, such a low result would have a
/// probability of 16 %, in each of the worlds.
const STANDARD_ERRORS: f64 = 1.0;
/// `SIMULATION_SEEDS` sets the first seed, to tune on other ones.
const FIRST_SEED: u64 = 1_000_000;

fn variable(name: &str, default: &str) -> u64 {
    let value = env::var(name).unwrap_or_else(|_| default.to_owned());
    value.parse().unwrap_or_else(|error| panic!("{name}={value}: {error}"))
}

fn runs() -> u32 {
    let runs = u32::try_from(variable("SIMULATION_RUNS", "400")).ok().and_then(NonZeroU32::new);
    runs.expect("SIMULATION_RUNS is a number of runs").get()
}

fn generators() -> impl Iterator<Item = Rng> {
    let first = variable("SIMULATION_SEEDS", &FIRST_SEED.to_string());
    (0..runs()).map(move |run| Rng::with_seed(first + u64::from(run)))
}

/// Prints a measured error, and fails unless it is below α by two standard errors.
#[track_caller]
fn assert_at_most_alpha(what: &str, measured: f64) {
    let standard_error = (ALPHA * (1.0 - ALPHA) / f64::from(runs())).sqrt();
    println!("{what}: {:.2} %", 100.0 * measured);
    assert!(measured + STANDARD_ERRORS * standard_error <= ALPHA, "{what}: {measured}");
}

/// A latency in milliseconds.
type Latency = fn(&mut Rng) -> f64;

fn normal(rng: &mut Rng) -> f64 {
    (-2.0 * (1.0 - rng.f64()).ln()).sqrt() * (2.0 * PI * rng.f64()).cos()
}

fn lognormal(rng: &mut Rng) -> f64 {
    20.0 * (0.5 * normal(rng)).exp()
}

const LATENCIES: [(&str, Latency); 5] = [
    ("lognormal, median 20 ms", lognormal),
    ("Pareto, from 5 ms, exponent 1.1", |rng| 5.0 * (1.0 - rng.f64()).powf(-1.0 / 1.1)),
    ("bimodal: 5 ms, and a fifth 300 ms", |rng| {
        (if rng.f64() < 0.2 { 300.0 } else { 5.0 }) * (0.2 * normal(rng)).exp()
    }),
    ("discrete: 1, 10 or 100 ms", |rng| [1.0, 10.0, 100.0][rng.usize(..3)]),
    ("all below 1 ms", |rng| 0.3 * (0.5 * normal(rng)).exp()),
];

/// What happens to a request, by the number of the request and its release.
struct World<'a> {
    share: f64,
    /// The latency in milliseconds, and whether it fails.
    answer: Answer<'a>,
}

impl World<'_> {
    fn request(&self, rng: &mut Rng, number: u64, share: f64) -> Request<'static> {
        let release = if rng.f64() < share { Release::Canary } else { Release::Stable };
        let (ms, failed) = (self.answer)(rng, number, release);
        let outcome = if failed { Outcome::Failure } else { Outcome::Success };
        Request::new(Some(release), outcome).with_latency(Some(Duration::from_secs_f64(ms / 1e3)))
    }
}

/// The part of runs in which the evidence that the canary is slower has ever reached α. It never falls, so the last look
/// tells that.
fn found_slower(world: &World, slower_by: Option<f64>, requests: u64) -> f64 {
    found_slower_with_share(world, slower_by, requests, |_| world.share)
}

fn settings(slower_by: Option<f64>) -> Settings {
    let slower_by = slower_by.map(|tolerance| Tolerance::new(tolerance).expect("a tolerance"));
    Settings { slower_by, ..Settings::default() }
}

fn found_slower_with_share(
    world: &World,
    slower_by: Option<f64>,
    requests: u64,
    share: impl Fn(u64) -> f64,
) -> f64 {
    let found = generators().filter_map(|mut rng| {
        let mut judge = Judge::new(settings(slower_by));
        for number in 0..requests {
            judge.observe(world.request(&mut rng, number, share(number)));
        }
        judge.end();
        match slower_by {
            // failures are part of the error then
            Some(_) => matches!(judge.decided(), Some(Decision::RollBack { .. })).then_some(()),
            None => judge.verdict().latency.filter(|latency| latency.p_value <= ALPHA).map(|_| ()),
        }
    });
    found.count() as f64 / f64::from(runs())
}

const REQUESTS: u64 = 4_000;

#[test]
fn a_canary_with_stables_latencies_is_found_slower_in_at_most_alpha_of_runs() {
    for (name, latency) in LATENCIES {
        for share in [1.0 / 2.0, 1.0 / 4.0, 1.0 / 20.0] {
            let world = World { share, answer: &|rng, _, _| (latency(rng), rng.f64() < 0.01) };
            for slower_by in [None, Some(0.2)] {
                let found = found_slower(&world, slower_by, REQUESTS);
                assert_at_most_alpha(&format!("{name}, share {share}, tolerance {slower_by:?}"), found);
            }
        }
    }
}

/// How many times as slow both releases are, by the number of the request.
type Course = fn(u64) -> f64;

#[test]
fn what_slows_both_releases_is_found_in_at_most_alpha_of_runs() {
    let courses: [(&str, Course); 6] = [
        (
            "ten times slower from request 600 to 900",
            |number| if (600..900).contains(&number) { 10.0 } else { 1.0 },
        ),
        ("ten times slower for 10 of every 250", |number| if number % 250 < 10 { 10.0 } else { 1.0 }),
        ("ten times slower for 3 of every 50", |number| if number % 50 < 3 { 10.0 } else { 1.0 }),
        ("from once to ten times as slow", |number| 1.0 + 9.0 * number as f64 / REQUESTS as f64),
        ("a wave of 500 requests, up to three times slower", |number| {
            2.0 - (number as f64 / 250.0 * PI).cos()
        }),
        ("a wave of 40 requests, up to three times slower", |number| 2.0 - (number as f64 / 20.0 * PI).cos()),
    ];
    for (name, factor) in courses {
        let world = World {
            share: 0.25,
            answer: &|rng, number, _| (factor(number) * lognormal(rng), rng.f64() < 0.001),
        };
        for slower_by in [None, Some(0.2)] {
            let found = found_slower(&world, slower_by, REQUESTS);
            assert_at_most_alpha(&format!("{name}, tolerance {slower_by:?}"), found);
            let rising = |number| 0.1 + 0.6 * number as f64 / REQUESTS as f64;
            let found = found_slower_with_share(&world, slower_by, REQUESTS, rising);
            assert_at_most_alpha(&format!("{name}, share from 0.1 to 0.7, tolerance {slower_by:?}"), found);
        }
    }
}

type Answer<'a> = &'a dyn Fn(&mut Rng, u64, Release) -> (f64, bool);

/// Only the test of the latency is looked at: to roll such a canary back for its failures is right, where it fails more.
#[test]
fn failures_that_differ_are_not_taken_for_latencies_that_do() {
    let is_incident = |number: u64| number % 400 >= 350;
    let fails = |rng: &mut Rng, release, stable: f64, canary: f64| {
        rng.f64() < if release == Release::Canary { canary } else { stable }
    };
    let worlds: [(&str, Answer); 6] = [
        ("canary fails 20 %, stable 0.1 %", &|rng, _, release| {
            (lognormal(rng), fails(rng, release, 0.001, 0.2))
        }),
        ("canary fails 0.1 %, stable 20 %", &|rng, _, release| {
            (lognormal(rng), fails(rng, release, 0.2, 0.001))
        }),
        ("the canary's failures take 5 s", &|rng, _, release| {
            if fails(rng, release, 0.0, 0.3) { (5000.0, true) } else { (lognormal(rng), false) }
        }),
        ("both fail 20 %, each failure after 5 s", &|rng, _, _| {
            if rng.f64() < 0.2 { (5000.0, true) } else { (lognormal(rng), false) }
        }),
        ("whatever takes longer than 40 ms fails", &|rng, _, _| {
            let ms = lognormal(rng);
            (ms, ms > 40.0)
        }),
        ("in slow incidents, stable fails half, and the canary nothing", &|rng, number, release| {
            let slow = is_incident(number);
            let failed = slow && fails(rng, release, 0.5, 0.0);
            (lognormal(rng) * if slow { 10.0 } else { 1.0 }, failed)
        }),
    ];
    for (name, answer) in worlds {
        let found = found_slower(&World { share: 0.25, answer }, None, REQUESTS);
        assert_at_most_alpha(name, found);
    }
}

#[test]
fn a_canary_that_is_slower_by_less_than_the_tolerance_is_rolled_back_in_at_most_alpha_of_runs() {
    for (name, latency) in LATENCIES {
        for factor in [0.7, 1.0, 1.1, 1.2] {
            let world = World {
                share: 0.25,
                answer: &|rng, _, release| {
                    let factor = if release == Release::Canary { factor } else { 1.0 };
                    (factor * latency(rng), rng.f64() < 0.001)
                },
            };
            let found = found_slower(&world, Some(0.2), REQUESTS);
            assert_at_most_alpha(&format!("{name}, canary {factor} times as slow, tolerance 20 %"), found);
        }
    }
}

/// The requests until the evidence has reached α: in half of the runs, and in 95 % of them.
fn requests_until_found(world: &World, slower_by: Option<f64>) -> (u64, u64) {
    const AT_MOST: u64 = 200_000;
    let mut requests: Vec<_> = generators()
        .map(|mut rng| {
            let mut judge = Judge::new(settings(slower_by));
            let found = (1..AT_MOST).find(|number| {
                judge.observe(world.request(&mut rng, *number, world.share));
                match slower_by {
                    Some(_) => judge.decided().is_some_and(|one| matches!(one, Decision::RollBack { .. })),
                    None => {
                        number % 4 == 0
                            && judge.verdict().latency.is_some_and(|latency| latency.p_value <= ALPHA)
                    }
                }
            });
            found.unwrap_or(AT_MOST)
        })
        .collect();
    requests.sort_unstable();
    (requests[requests.len() / 2], requests[requests.len() * 95 / 100])
}

type Factor<'a> = &'a dyn Fn(&mut Rng) -> f64;

#[test]
fn a_slower_canary_is_found_soon() {
    let times = |factor: f64| move |_: &mut Rng| factor;
    let tail = |rng: &mut Rng| if rng.f64() < 0.03 { 20.0 } else { 1.0 };
    let worlds: [(&str, Factor, [u64; 2]); 5] = [
        ("five times as slow", &times(5.0), [40, 48]),
        ("20 and 40 ms", &times(2.0), [100, 200]),
        ("20 and 30 ms", &times(1.5), [250, 900]),
        ("20 and 25 ms", &times(1.25), [800, u64::MAX]),
        ("3 % are twenty times slower", &tail, [1000, 1300]),
    ];
    for (name, factor, most) in worlds {
        for (slower_by, most) in [None, Some(0.2)].into_iter().zip(most) {
            if most == u64::MAX {
                continue; // it is hardly more than the tolerance
            }
            for share in [0.25, 0.05] {
                let world = World {
                    share,
                    answer: &|rng, _, release| {
                        let factor = if release == Release::Canary { factor(rng) } else { 1.0 };
                        (factor * lognormal(rng), false)
                    },
                };
                let (median, in_95_percent) = requests_until_found(&world, slower_by);
                println!(
                    "{name}, share {share}, tolerance {slower_by:?}: {median} requests in half of runs, {in_95_percent} in 95 %"
                );
                assert!(share < 0.25 || median <= most, "{name}, {slower_by:?}: {median}");
            }
        }
    }
}

/// Failures have all of α unless latency decides.
#[test]
fn latencies_that_are_known_do_not_change_the_verdict() {
    for mut rng in generators().take(50) {
        let [mut with, mut without] = [0, 1].map(|_| Judge::new(Settings::default()));
        let canary = [0.01, 0.05, 0.3][rng.usize(..3)];
        for _ in 0..2000 {
            let release = if rng.f64() < 0.25 { Release::Canary } else { Release::Stable };
            let (factor, rate) = if release == Release::Canary { (3.0, canary) } else { (1.0, 0.01) };
            let outcome = if rng.f64() < rate { Outcome::Failure } else { Outcome::Success };
            let request = Request::new(Some(release), outcome);
            let latency = Duration::from_secs_f64(factor * lognormal(&mut rng) / 1e3);
            with.observe(request.with_latency(Some(latency)));
            without.observe(request);
            assert_eq!(with.decided(), without.decided());
        }
        let (with, without) = (with.verdict(), without.verdict());
        assert!(with.latency.is_some_and(|latency| latency.p_value < 0.001));
        assert_eq!(canary_judge::Verdict { latency: None, ..with }, without);
    }
}

/// The bounds of Prometheus' clients, in seconds.
const BUCKETS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// How many times as slow both releases are, by the time in seconds.
type FactorAt = fn(f64) -> f64;

/// Three pods of stable and one of the canary, which are scraped at moments of their own, for ten minutes.
struct Scraped<'a> {
    interval: f64,
    traffic: f64,
    latency: Latency,
    /// How many times as slow both releases are.
    factor: FactorAt,
    canary: &'a dyn Fn(&mut Rng) -> f64,
    restarts: bool,
}

struct ScrapedPod {
    release: Release,
    name: Arc<str>,
    offset: f64,
    scraped: Option<f64>,
    answers: u64,
    slower: [u64; BUCKETS.len()],
    restarted: bool,
}

impl ScrapedPod {
    fn window(&mut self, now: f64) -> Window {
        let before = self.scraped.replace(now);
        let (answers, slower) = (std::mem::take(&mut self.answers), std::mem::take(&mut self.slower));
        let counted = if before.is_none() { (0, [0; BUCKETS.len()]) } else { (answers, slower) };
        let since = before.unwrap_or(now);
        Window {
            release: self.release,
            pod: Arc::clone(&self.name),
            since,
            until: now,
            counts: Counts { requests: counted.0, failures: 0, slow: 0 },
            restarted: std::mem::take(&mut self.restarted),
            is_warm_up: false,
            strata: Vec::new(),
            latencies: vec![(
                Arc::default(),
                Histogram { answers: counted.0, slower: BUCKETS.into_iter().zip(counted.1).collect() },
            )],
        }
    }
}

impl Scraped<'_> {
    /// When the evidence has reached α, in seconds.
    fn found(&self, rng: &mut Rng, slower_by: Option<f64>) -> Option<f64> {
        const STEP: f64 = 0.25;
        let releases = [Release::Stable, Release::Stable, Release::Stable, Release::Canary];
        let mut pods: Vec<_> = (0..)
            .zip(releases)
            .map(|(number, release)| ScrapedPod {
                release,
                name: format!("{release}-{number}").into(),
                offset: rng.f64() * self.interval,
                scraped: None,
                answers: 0,
                slower: [0; BUCKETS.len()],
                restarted: false,
            })
            .collect();
        let mut judge = Judge::new(settings(slower_by));
        let mut now = 0.0;
        let mut due = 0.0;
        while now < 600.0 {
            now += STEP;
            due += self.traffic * STEP * 2.0 * rng.f64();
            while due >= 1.0 {
                due -= 1.0;
                let pod = &mut pods[rng.usize(..4)];
                let own = if pod.release == Release::Canary { (self.canary)(rng) } else { 1.0 };
                let seconds = own * (self.factor)(now) * (self.latency)(rng) / 1e3;
                pod.answers += 1;
                for (slower, bound) in pod.slower.iter_mut().zip(BUCKETS) {
                    *slower += u64::from(seconds > bound);
                }
            }
            if self.restarts && rng.f64() < 0.002 {
                let pod = &mut pods[rng.usize(..4)];
                (pod.answers, pod.slower, pod.restarted) = (0, [0; BUCKETS.len()], true);
            }
            let is_due = |pod: &ScrapedPod| (now - pod.offset).rem_euclid(self.interval) < STEP;
            let windows: Vec<_> =
                pods.iter_mut().filter(|pod| is_due(pod)).map(|pod| pod.window(now)).collect();
            if !windows.is_empty() {
                judge.observe_scrapes(windows);
                if is_found(&judge, slower_by) {
                    return Some(now);
                }
            }
        }
        judge.end();
        is_found(&judge, slower_by).then_some(now)
    }
}

fn is_found(judge: &Judge, slower_by: Option<f64>) -> bool {
    match slower_by {
        Some(_) => judge.decided().is_some_and(|one| matches!(one, Decision::RollBack { .. })),
        None => judge.verdict().latency.is_some_and(|latency| latency.p_value <= ALPHA),
    }
}

/// Whether it is within an incident of 30 s in 120 s.
fn incident(now: f64) -> f64 {
    if now % 120.0 < 30.0 { 10.0 } else { 1.0 }
}

#[test]
fn a_canary_with_stables_histograms_is_found_slower_in_at_most_alpha_of_runs() {
    let usual = |_: &mut Rng| 1.0;
    let faster = |_: &mut Rng| 0.8;
    let hardly = |_: &mut Rng| 1.2;
    let factors: [(&str, FactorAt); 4] = [
        ("steady", |_| 1.0),
        ("ten times slower for 30 s in 120 s", incident),
        ("ten times slower for 3 s in 20 s", |now| if now % 20.0 < 3.0 { 10.0 } else { 1.0 }),
        ("a wave of 60 s, up to three times slower", |now| 2.0 - (now / 30.0 * PI).cos()),
    ];
    let (mut all, mut worlds) = (0.0, 0.0);
    let some = runs().div_ceil(10) as usize; // each has 12,000 requests
    for (name, factor) in factors {
        for (latency_name, latency) in [LATENCIES[0], LATENCIES[1]] {
            for interval in [5.0, 15.0] {
                for (canary, slower_by) in
                    [(&usual as Factor, None), (&usual, Some(0.2)), (&hardly, Some(0.2)), (&faster, None)]
                {
                    let restarts = slower_by.is_none();
                    let world = Scraped { interval, traffic: 20.0, latency, factor, canary, restarts };
                    let found = generators()
                        .take(some)
                        .filter(|rng| world.found(&mut rng.clone(), slower_by).is_some());
                    let found = found.count() as f64 / some as f64;
                    let what = format!(
                        "{name}, {latency_name}, scrapes every {interval} s, tolerance {slower_by:?}"
                    );
                    println!("{what}: {:.2} %", 100.0 * found);
                    all += found;
                    worlds += 1.0;
                }
            }
        }
    }
    // each of them is far below α
    assert_at_most_alpha("all worlds with histograms", all / worlds);
}

#[test]
fn a_slower_canary_is_found_soon_by_its_histograms() {
    let (twice, four_times) = (|_: &mut Rng| 2.0, |_: &mut Rng| 4.0);
    let tail = |rng: &mut Rng| if rng.f64() < 0.03 { 20.0 } else { 1.0 };
    let (without, both) = (&[None][..], &[None, Some(0.2)][..]);
    for (name, canary, tolerances, most) in [
        // the next bounds after 25 and 50 ms are twice as far
        ("20 and 40 ms", &twice as Factor, without, 60.0),
        ("20 and 80 ms", &four_times, both, 60.0),
        ("3 % are twenty times slower", &tail, both, 600.0),
    ] {
        for interval in [5.0, 15.0] {
            for slower_by in tolerances.iter().copied() {
                for traffic in [20.0, 100.0] {
                    let (latency, restarts) = (LATENCIES[0].1, false);
                    let world = Scraped { interval, traffic, latency, factor: |_| 1.0, canary, restarts };
                    let mut times: Vec<_> = generators()
                        .take(100)
                        .map(|mut rng| world.found(&mut rng, slower_by).unwrap_or(f64::INFINITY))
                        .collect();
                    times.sort_by(f64::total_cmp);
                    let (median, late) = (times[times.len() / 2], times[times.len() * 95 / 100]);
                    println!(
                        "{name}, scrapes every {interval} s, {traffic} requests a second, tolerance {slower_by:?}: \
                         {median:.0} s in half of runs, {late:.0} s in 95 %"
                    );
                    assert!(interval > 5.0 || traffic < 100.0 || median <= most, "{name}: {median}");
                }
            }
        }
    }
}

/// Twenty paths, each with a latency of its own.
#[test]
fn ten_million_latencies_of_twenty_paths_take_little_time_each() {
    let paths: Vec<_> = (0..20).map(|path| format!("/path/{path}")).collect();
    let mut rng = Rng::with_seed(7);
    let requests: Vec<_> = (0..1 << 16)
        .map(|_| {
            let (path, is_canary) = (rng.usize(..20), rng.f64() < 0.25);
            let ms = (1.0 + path as f64) * lognormal(&mut rng);
            let release = if is_canary { Release::Canary } else { Release::Stable };
            let latency = Some(Duration::from_secs_f64(ms / 1e3));
            Request::new(Some(release), Outcome::Success)
                .with_stratum(Some(&paths[path]))
                .with_latency(latency)
        })
        .collect();
    let number = variable("LATENCY_REQUESTS", "1000000");
    let mut judge = Judge::new(Settings::default());
    let start = Instant::now();
    for request in requests.iter().cycle().take(usize::try_from(number).expect("a number")) {
        judge.observe(*request);
    }
    let time = start.elapsed();
    let rate = number as f64 / time.as_secs_f64();
    println!("{number} requests of 20 paths in {time:?}: {rate:.0} a second");
    // some millions on a free processor, but this test may have the least priority on a busy one
    assert!(rate > 5_000.0, "{rate} a second");
    let state = serde_json::to_vec(&judge).expect("a state").len();
    println!("the state takes {state} bytes as JSON");
    assert!(state < 200_000, "{state}");
}
