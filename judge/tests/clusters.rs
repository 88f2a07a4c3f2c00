//! Failures that come in clusters, by simulation: pods that hiccup, and pods that differ. Each run is judged twice, with and
//! without `Settings::episodes`. `cargo test -p canary-judge --test clusters -- --nocapture` prints the measured figures, and
//! `SIMULATION_RUNS=2000` sets more runs. `docs/verdict.md` has the figures. The method was chosen on other seeds.

use std::{
    env,
    f64::consts::TAU,
    mem,
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use canary_judge::{Counts, Decision, Judge, Outcome, Release, Request, Settings, Window};
use fastrand::Rng;

const ALPHA: f64 = 0.05;
/// With few runs, a measured share may lie this many standard errors above what is claimed.
const STANDARD_ERRORS: f64 = 3.0;
const EPISODES: Duration = Duration::from_secs(2);

fn runs() -> u32 {
    let runs = env::var("SIMULATION_RUNS").unwrap_or_else(|_| "100".to_owned());
    let runs = runs.parse::<NonZeroU32>().unwrap_or_else(|error| panic!("SIMULATION_RUNS={runs}: {error}"));
    runs.get()
}

/// Whether a request to this pod at this time fails.
type Course = Box<dyn FnMut(usize, f64, &mut Rng) -> bool>;

struct World {
    name: &'static str,
    /// Requests a second.
    rate: f64,
    seconds: f64,
    /// The parts of the pods, the canary's first. They add up to 1.
    parts: Vec<f64>,
    canaries: usize,
    /// The canary's part in each minute, in turn, if it changes.
    changing: Option<&'static [f64]>,
    begin: Box<dyn Fn(&mut Rng) -> Course + Sync>,
}

/// An hour of 10 requests a second to these pods, all with the same part of them.
fn world(
    name: &'static str,
    canaries: usize,
    stable: usize,
    begin: impl Fn(&mut Rng) -> Course + Sync + 'static,
) -> World {
    let pods = canaries + stable;
    let parts = vec![1.0 / pods as f64; pods];
    World { name, rate: 10.0, seconds: 3600.0, parts, canaries, changing: None, begin: Box::new(begin) }
}

impl World {
    fn with_parts(self, parts: &[f64]) -> Self {
        Self { parts: parts.to_owned(), ..self }
    }

    /// The canary's only pod has this part, and the others share the rest, in each minute anew.
    fn with_changing_part(self, changing: &'static [f64]) -> Self {
        Self { changing: Some(changing), ..self }
    }

    fn parts_at(&self, at: f64) -> Vec<f64> {
        let Some(changing) = self.changing else { return self.parts.clone() };
        let turns = changing.iter().enumerate();
        let of_turn = |turn: usize| (turn + 1) as f64 * 60.0;
        let now = at % of_turn(changing.len() - 1);
        let canary =
            turns.filter(|(turn, _)| now < of_turn(*turn)).map(|(_, part)| *part).next().unwrap_or(0.0);
        let mut parts = vec![(1.0 - canary) / (self.parts.len() - 1) as f64; self.parts.len()];
        parts[0] = canary;
        parts
    }

    fn with_rate(self, rate: f64, seconds: f64) -> Self {
        Self { rate, seconds, ..self }
    }

    /// When the canary was rolled back, without and with episodes. `None` if it was not.
    fn run(&self, seed: u64) -> [Option<f64>; 2] {
        let mut rng = Rng::with_seed(seed);
        let mut course = (self.begin)(&mut rng);
        let names: Vec<_> = (0..self.parts.len()).map(|pod| pod.to_string()).collect();
        let with = Settings { episodes: Some(EPISODES), ..Settings::default() };
        let mut judges = [Settings::default(), with].map(|settings| (Judge::new(settings), None));
        let mut at = 0.0;
        loop {
            at -= (1.0 - rng.f64()).ln() / self.rate;
            if at > self.seconds || judges.iter().all(|(_, rolled_back)| rolled_back.is_some()) {
                return judges.map(|(_, rolled_back)| rolled_back);
            }
            let mut left = rng.f64();
            let pod = self.parts_at(at).iter().position(|part| {
                left -= part;
                left < 0.0
            });
            let pod = pod.unwrap_or(self.parts.len() - 1);
            let release = if pod < self.canaries { Release::Canary } else { Release::Stable };
            let outcome = if course(pod, at, &mut rng) { Outcome::Failure } else { Outcome::Success };
            let request = Request::new(Some(release), outcome)
                .with_pod(Some(&names[pod]))
                .with_sent(Some(Duration::from_secs_f64(at)));
            for (judge, rolled_back) in judges.iter_mut().filter(|(_, rolled_back)| rolled_back.is_none()) {
                judge.observe(request);
                *rolled_back = matches!(judge.decided(), Some(Decision::RollBack { .. })).then_some(at);
            }
        }
    }

    fn all_runs(&self) -> [Vec<f64>; 2] {
        let (next, runs) = (AtomicU64::new(0), u64::from(runs()));
        let work = || {
            let seeds =
                std::iter::from_fn(|| Some(next.fetch_add(1, Ordering::Relaxed)).filter(|seed| *seed < runs));
            seeds.map(|seed| self.run(1_000_000 + seed)).collect::<Vec<_>>()
        };
        let all: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> = (0..2).map(|_| scope.spawn(work)).collect();
            threads.into_iter().flat_map(|thread| thread.join().expect("a judge panicked")).collect()
        });
        [0, 1].map(|judge| {
            let mut times: Vec<_> = all.iter().map(|run| run[judge].unwrap_or(f64::INFINITY)).collect();
            times.sort_by(f64::total_cmp);
            times
        })
    }

    /// The shares of runs that were rolled back, without and with episodes.
    fn shares(&self) -> [f64; 2] {
        self.all_runs()
            .map(|times| times.iter().filter(|time| time.is_finite()).count() as f64 / times.len() as f64)
    }
}

/// Each pod fails all requests for so long, at random, and 0.1 % of the others.
fn hiccups(seconds: f64, every: f64) -> impl Fn(&mut Rng) -> Course + Sync {
    hiccups_of(move |_| (seconds, every))
}

fn hiccups_of(
    of_pod: impl Fn(usize) -> (f64, f64) + Sync + Copy + 'static,
) -> impl Fn(&mut Rng) -> Course + Sync {
    move |_| {
        let mut pods: Vec<(f64, f64)> = Vec::new(); // the next one, and the end of the last one
        Box::new(move |pod, at, rng| {
            let wait = |pod, rng: &mut Rng| -of_pod(pod).1 * (1.0 - rng.f64()).ln();
            while pods.len() <= pod {
                let first = wait(pods.len(), rng);
                pods.push((first, 0.0));
            }
            while at >= pods[pod].0 {
                let begin = pods[pod].0;
                pods[pod] = (begin + wait(pod, rng), begin + of_pod(pod).0);
            }
            at < pods[pod].1 || rng.f64() < 0.001
        })
    }
}

/// The same, always after the same time.
fn regular_hiccups(seconds: f64, every: f64) -> impl Fn(&mut Rng) -> Course + Sync {
    move |rng| {
        let phases: Vec<_> = (0..16).map(|_| every * rng.f64()).collect();
        Box::new(move |pod, at, rng| (at + phases[pod]) % every < seconds || rng.f64() < 0.001)
    }
}

/// Each pod has a rate of its own: lognormal around this one.
fn differing(rate: f64, sigma: f64) -> impl Fn(&mut Rng) -> Course + Sync {
    move |rng| {
        let normal = |rng: &mut Rng| (-2.0 * (1.0 - rng.f64()).ln()).sqrt() * (TAU * rng.f64()).cos();
        let rates: Vec<_> = (0..16).map(|_| rate * (sigma * normal(rng)).exp()).collect();
        Box::new(move |pod, _, rng| rng.f64() < rates[pod])
    }
}

/// 60 clients always reach the same one of so many pods. Twelve of them fail half of their requests, on any pod.
fn sticky(pods: usize) -> impl Fn(&mut Rng) -> Course + Sync {
    move |rng| {
        let mut clients = vec![(0.0, 0.0); pods];
        for client in 0..60 {
            let (all, failing) = &mut clients[rng.usize(..pods)];
            *all += 1.0;
            *failing += if client < 12 { 1.0 } else { 0.0 };
        }
        Box::new(move |pod, _, rng| rng.f64() < 0.001 + 0.5 * clients[pod].1 / f64::max(clients[pod].0, 1.0))
    }
}

/// The canary is at one rate, stable at another. The canary has so many pods.
fn rates(canaries: usize, canary: f64, stable: f64) -> impl Fn(&mut Rng) -> Course + Sync {
    move |_| Box::new(move |pod, _, rng| rng.f64() < if pod < canaries { canary } else { stable })
}

/// Both releases fail at a rate that depends on the time.
fn together(rate: impl Fn(f64) -> f64 + Sync + Copy + 'static) -> impl Fn(&mut Rng) -> Course + Sync {
    move |_| Box::new(move |_, at, rng| rng.f64() < rate(at))
}

/// Each world is rolled back in at most this share of the runs with episodes.
fn assert_false_roll_backs(worlds: impl IntoIterator<Item = (World, f64)>) {
    for (world, most) in worlds {
        let [without, with] = world.shares();
        println!("{}: false roll-backs {without:.4}, and {with:.4} with episodes", world.name);
        let error = (most * (1.0 - most) / f64::from(runs())).sqrt();
        assert!(with <= most + STANDARD_ERRORS * error, "{}: {with}, not {most}", world.name);
        assert!(with <= without, "{}: episodes only take roll-backs away: {with}, {without}", world.name);
    }
}

const HALF: [f64; 6] = [0.5, 0.1, 0.1, 0.1, 0.1, 0.1];

#[test]
fn pods_that_hiccup_roll_the_canary_back_in_about_alpha_of_runs() {
    let one_second = || hiccups(1.0, 120.0);
    let two_seconds = || hiccups(2.0, 600.0);
    assert_false_roll_backs([
        (world("1 s every 120 s, 1 + 3 pods", 1, 3, one_second()), ALPHA),
        (world("2 s every 600 s, 1 + 3 pods", 1, 3, two_seconds()), ALPHA),
        (world("1 s every 120 s, in the same rhythm, 1 + 3 pods", 1, 3, regular_hiccups(1.0, 120.0)), ALPHA),
        (world("2 s every 600 s, in the same rhythm, 1 + 3 pods", 1, 3, regular_hiccups(2.0, 600.0)), ALPHA),
        (world("1 s every 120 s, 1 + 1 pods", 1, 1, one_second()), ALPHA),
        (world("1 s every 120 s, 2 + 6 pods", 2, 6, one_second()), ALPHA),
        (world("1 s every 120 s, 4 + 12 pods", 4, 12, one_second()), ALPHA),
        (world("1 s every 120 s, canary 1/2, 5 pods with 1/10", 1, 5, one_second()).with_parts(&HALF), ALPHA),
        (
            world("2 s every 600 s, canary 1/2, 5 pods with 1/10", 1, 5, two_seconds()).with_parts(&HALF),
            ALPHA,
        ),
        (world("1 s every 120 s, canary 1/20, 1 pod", 1, 1, one_second()).with_parts(&[0.05, 0.95]), ALPHA),
        (
            world("1 s every 120 s, 1 + 3 pods, 100 a second for 10 minutes", 1, 3, one_second())
                .with_rate(100.0, 600.0),
            ALPHA,
        ),
        (
            world("1 s every 120 s, the canary has 1/50, 1/10, 1/2, 9/10 in turn", 1, 3, one_second())
                .with_changing_part(&[0.02, 0.1, 0.5, 0.9]),
            ALPHA,
        ),
        // longer than what is said
        (world("5 s every 600 s, 1 + 3 pods", 1, 3, hiccups(5.0, 600.0)), 0.08),
    ]);
}

#[test]
fn pods_that_differ_roll_the_canary_back_less_often_but_not_only_in_alpha_of_runs() {
    assert_false_roll_backs([
        (world("5 %, σ = 0.3, 1 + 3 pods", 1, 3, differing(0.05, 0.3)), 0.08),
        (world("5 %, σ = 0.3, 1 + 9 pods", 1, 9, differing(0.05, 0.3)), 0.08),
        (world("5 %, σ = 0.3, 2 + 6 pods", 2, 6, differing(0.05, 0.3)), 0.08),
        (world("5 %, σ = 0.3, 4 + 12 pods", 4, 12, differing(0.05, 0.3)), 0.08),
        (world("5 %, σ = 0.3, 1 + 2 pods", 1, 2, differing(0.05, 0.3)), 0.08),
        // one pod of stable shows no spread
        (world("5 %, σ = 0.3, 1 + 1 pods", 1, 1, differing(0.05, 0.3)), 0.35),
        (world("sticky clients, 1 + 3 pods", 1, 3, sticky(4)).with_rate(10.0, 500.0), ALPHA),
        (world("sticky clients, 2 + 6 pods", 2, 6, sticky(8)).with_rate(10.0, 500.0), ALPHA),
        (world("sticky clients, 4 + 12 pods", 4, 12, sticky(16)).with_rate(10.0, 500.0), ALPHA),
    ]);
}

#[test]
fn releases_that_are_alike_are_rolled_back_no_more_often_than_without_episodes() {
    assert_false_roll_backs([
        (world("both at 0.1 %", 1, 3, differing(0.001, 0.0)), ALPHA),
        (world("both at 5 %", 1, 3, differing(0.05, 0.0)), ALPHA),
        (
            world("both at 5 %, canary 1/2, 5 pods with 1/10", 1, 5, differing(0.05, 0.0)).with_parts(&HALF),
            ALPHA,
        ),
        (world("all of 5 s in 60 s", 1, 3, together(|at| if at % 60.0 < 5.0 { 1.0 } else { 0.001 })), ALPHA),
        (
            world("a fifth of 3 s in 20 s", 1, 3, together(|at| if at % 20.0 < 3.0 { 0.2 } else { 0.001 })),
            ALPHA,
        ),
        (
            world("60 requests an hour, both at 1 %", 1, 3, differing(0.01, 0.0))
                .with_rate(1.0 / 60.0, 86_400.0),
            ALPHA,
        ),
    ]);
}

/// Whether one canary pod beside three is rolled back within an hour, if their counters are scraped at moments of their own.
fn is_rolled_back_by_scrapes(
    settings: Settings,
    seed: u64,
    interval: f64,
    rate: f64,
    hiccup: (f64, f64),
) -> bool {
    let mut rng = Rng::with_seed(seed);
    let mut course = hiccups(hiccup.0, hiccup.1)(&mut rng);
    let mut judge = Judge::new(settings);
    let names: [Arc<str>; 4] = ["canary", "one", "two", "three"].map(Arc::from);
    let mut since = names.clone().map(|_| rng.f64() * interval);
    let mut counters = [Counts::default(); 4];
    let mut at = 0.0;
    while at < 3600.0 {
        at -= (1.0 - rng.f64()).ln() / rate;
        for (pod, name) in names.iter().enumerate() {
            if since[pod] + interval > at {
                continue;
            }
            let (began, counts) = (since[pod], mem::take(&mut counters[pod]));
            since[pod] += interval;
            judge.observe_scrapes([Window {
                release: if pod == 0 { Release::Canary } else { Release::Stable },
                pod: Arc::clone(name),
                since: began,
                until: since[pod],
                counts,
                restarted: false,
                is_warm_up: false,
                strata: Vec::new(),
                latencies: Vec::new(),
            }]);
        }
        let pod = rng.usize(..4);
        let failed = course(pod, at, &mut rng);
        if at >= since[pod] {
            counters[pod].record(if failed { Outcome::Failure } else { Outcome::Success });
        }
        if matches!(judge.decided(), Some(Decision::RollBack { .. })) {
            return true;
        }
    }
    false
}

/// A window of 15 s does not tell an episode from single failures. So this is as bad as without the setting.
#[test]
fn episodes_make_no_difference_to_counters_that_are_scraped() {
    let with = Settings { episodes: Some(EPISODES), ..Settings::default() };
    for (interval, rate, hiccup) in [
        (15.0, 10.0, (1.0, 120.0)),
        (15.0, 10.0, (2.0, 600.0)),
        (5.0, 10.0, (1.0, 120.0)),
        (15.0, 100.0, (1.0, 120.0)),
    ] {
        let runs = (runs() / 5).max(1);
        let is_rolled_back =
            |settings, seed: u32| is_rolled_back_by_scrapes(settings, seed.into(), interval, rate, hiccup);
        let mut rolled_back = 0;
        for seed in 0..runs {
            let without = is_rolled_back(Settings::default(), seed);
            assert_eq!(is_rolled_back(with, seed), without, "seed {seed}");
            rolled_back += u32::from(without);
        }
        let share = f64::from(rolled_back) / f64::from(runs);
        println!("{hiccup:?} s, {rate} a second, scrapes every {interval} s: false roll-backs {share:.3}");
    }
}

/// With the most seconds of 95 % of runs.
#[test]
fn a_worse_canary_is_still_found() {
    let dead = |canaries| rates(canaries, 1.0, 0.001);
    let worse = |canaries| rates(canaries, 0.1, 0.01);
    for (world, most) in [
        (world("dead, 1 + 3 pods", 1, 3, dead(1)), 20.0),
        (world("dead, 1 + 1 pods", 1, 1, dead(1)), 25.0),
        (world("dead, 2 + 6 pods", 2, 6, dead(2)), 20.0),
        (world("dead, 1 + 3 pods, 100 a second", 1, 3, dead(1)).with_rate(100.0, 600.0), 20.0),
        (world("dead, 1 + 3 pods, 1000 a second", 1, 3, dead(1)).with_rate(1000.0, 60.0), 30.0),
        (world("dead, canary 1/20, 1 pod", 1, 1, dead(1)).with_parts(&[0.05, 0.95]), 45.0),
        (world("dead, 60 an hour", 1, 3, dead(1)).with_rate(1.0 / 60.0, 86_400.0), 3600.0),
        (world("10 % against 1 %, 1 + 3 pods", 1, 3, worse(1)), 120.0),
        (world("10 % against 1 %, 2 + 6 pods", 2, 6, worse(2)), 120.0),
        (world("10 % against 1 %, 1 + 1 pods", 1, 1, worse(1)), 120.0),
        (world("10 % against 1 %, canary 1/2, 5 pods with 1/10", 1, 5, worse(1)).with_parts(&HALF), 180.0),
        (world("10 % against 1 %, canary 1/20, 1 pod", 1, 1, worse(1)).with_parts(&[0.05, 0.95]), 600.0),
        (world("10 % against 1 %, 1 + 3 pods, 100 a second", 1, 3, worse(1)).with_rate(100.0, 600.0), 60.0),
        (world("10 % against 1 %, 1 + 3 pods, 1000 a second", 1, 3, worse(1)).with_rate(1000.0, 60.0), 60.0),
        (world("5 % against 0.1 %, 1 + 3 pods", 1, 3, rates(1, 0.05, 0.001)), 120.0),
        (world("2 % against 1 %, 1 + 3 pods", 1, 3, rates(1, 0.02, 0.01)).with_rate(10.0, 7200.0), 5400.0),
        (
            world(
                "2 s every 20 s, others every 600 s",
                1,
                3,
                hiccups_of(|pod| (2.0, if pod == 0 { 20.0 } else { 600.0 })),
            ),
            400.0,
        ),
    ] {
        let of = |times: &[f64]| [times[times.len() / 2], times[times.len() * 95 / 100]];
        let [without, with] = world.all_runs();
        println!("{}: {:.1?} s, and {:.1?} s with episodes", world.name, of(&without), of(&with));
        assert!(of(&with)[1] <= most, "{}: {:?}", world.name, of(&with));
        if world.name.starts_with("10 % against 1 %, 1 + 3 pods") && world.rate < 50.0 {
            assert!(of(&with)[0] <= 2.0 * of(&without)[0], "{:?}, {:?}", of(&with), of(&without));
        }
    }
}
