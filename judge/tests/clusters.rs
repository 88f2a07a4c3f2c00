//! Failures that come in clusters, by simulation: pods that hiccup, and pods that differ; single requests, and counters that are
//! scraped. Each run is judged twice, with and without `Settings::episodes`. `cargo test -p canary-judge --test clusters -- --nocapture` prints the measured figures, and
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
    /// The seconds between two scrapes of a pod, if only its counters are known.
    scrapes: Option<f64>,
    /// The setting.
    episodes: Duration,
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
    World {
        name,
        rate: 10.0,
        seconds: 3600.0,
        parts,
        canaries,
        changing: None,
        scrapes: None,
        episodes: EPISODES,
        begin: Box::new(begin),
    }
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

    fn with_scrapes(self, interval: f64) -> Self {
        Self { scrapes: Some(interval), ..self }
    }

    fn with_episodes(self, seconds: u64) -> Self {
        Self { episodes: Duration::from_secs(seconds), ..self }
    }

    /// By default, few: `cargo test` simulates many worlds.
    fn runs(&self) -> u32 {
        let default = if self.scrapes.is_some() { "20" } else { "100" };
        let runs = env::var("SIMULATION_RUNS").unwrap_or_else(|_| default.to_owned());
        runs.parse::<NonZeroU32>().unwrap_or_else(|error| panic!("SIMULATION_RUNS={runs}: {error}")).get()
    }

    /// Its name, with how it is seen.
    fn title(&self) -> String {
        let scrapes =
            self.scrapes.map(|interval| format!(", scrapes every {interval} s")).unwrap_or_default();
        format!("{}{scrapes}", self.name)
    }

    fn release(&self, pod: usize) -> Release {
        if pod < self.canaries { Release::Canary } else { Release::Stable }
    }

    /// When the canary was rolled back, without and with episodes. `None` if it was not.
    fn run(&self, seed: u64) -> [Option<f64>; 2] {
        let mut rng = Rng::with_seed(seed);
        let mut course = (self.begin)(&mut rng);
        let names: Vec<Arc<str>> = (0..self.parts.len()).map(|pod| pod.to_string().into()).collect();
        let mut scrapes = self.scrapes.map(|interval| Scrapes::new(names.len(), interval, &mut rng));
        let with = Settings { episodes: Some(self.episodes), ..Settings::default() };
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
            let outcome = if course(pod, at, &mut rng) { Outcome::Failure } else { Outcome::Success };
            let request = Request::new(Some(self.release(pod)), outcome)
                .with_pod(Some(&names[pod]))
                .with_sent(Some(Duration::from_secs_f64(at)));
            let windows = scrapes.as_mut().map(|scrapes| scrapes.until(at, &mut rng));
            for (judge, rolled_back) in judges.iter_mut().filter(|(_, rolled_back)| rolled_back.is_none()) {
                if let Some(windows) = &windows {
                    for scraped in windows {
                        judge.observe_scrapes([self.window(scraped, &names)]);
                    }
                } else {
                    judge.observe(request);
                }
                *rolled_back = matches!(judge.decided(), Some(Decision::RollBack { .. })).then_some(at);
            }
            if let Some(scrapes) = &mut scrapes {
                scrapes.count(pod, at, outcome);
            }
        }
    }

    fn window(&self, scraped: &Scraped, names: &[Arc<str>]) -> Window {
        let Scraped { pod, since, until, counts } = *scraped;
        Window {
            release: self.release(pod),
            pod: Arc::clone(&names[pod]),
            since,
            until,
            counts,
            restarted: false,
            is_warm_up: false,
            strata: Vec::new(),
            latencies: Vec::new(),
        }
    }

    fn all_runs(&self) -> [Vec<f64>; 2] {
        let (next, runs) = (AtomicU64::new(0), u64::from(self.runs()));
        let work = || {
            let seeds =
                std::iter::from_fn(|| Some(next.fetch_add(1, Ordering::Relaxed)).filter(|seed| *seed < runs));
            let run = |seed| {
                let [without, with] = self.run(1_000_000 + seed);
                let never = f64::INFINITY;
                assert!(with.unwrap_or(never) >= without.unwrap_or(never), "only roll-backs are taken away");
                [without, with]
            };
            seeds.map(run).collect::<Vec<_>>()
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

/// What a pod has counted between two scrapes.
struct Scraped {
    pod: usize,
    since: f64,
    until: f64,
    counts: Counts,
}

/// Pods that are scraped at moments of their own. One scrape in fifty is missing.
struct Scrapes {
    interval: f64,
    /// The next moment of each pod, and what has been counted since its last scrape.
    pods: Vec<(f64, Scraped)>,
}

impl Scrapes {
    fn new(pods: usize, interval: f64, rng: &mut Rng) -> Self {
        let first = |pod| {
            let at = rng.f64() * interval;
            (at + interval, Scraped { pod, since: at, until: at, counts: Counts::default() })
        };
        Self { interval, pods: (0..pods).map(first).collect() }
    }

    /// The scrapes until now, in the order of time.
    fn until(&mut self, now: f64, rng: &mut Rng) -> Vec<Scraped> {
        let mut scraped = Vec::new();
        for (next, open) in &mut self.pods {
            while *next <= now {
                if rng.f64() >= 0.02 {
                    let counts = mem::take(&mut open.counts);
                    scraped.push(Scraped { pod: open.pod, since: open.since, until: *next, counts });
                    open.since = *next;
                }
                *next += self.interval;
            }
        }
        scraped.sort_by(|one, other| one.until.total_cmp(&other.until));
        scraped
    }

    fn count(&mut self, pod: usize, at: f64, outcome: Outcome) {
        let (_, open) = &mut self.pods[pod];
        if at >= open.since {
            open.counts.record(outcome);
        }
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

/// Each pod hiccups at random, and all pods fail for three seconds of each minute.
fn hiccups_and_incidents(seconds: f64, every: f64) -> impl Fn(&mut Rng) -> Course + Sync {
    move |rng| {
        let mut of_pods = hiccups(seconds, every)(rng);
        Box::new(move |pod, at, rng| of_pods(pod, at, rng) || at % 60.0 < 3.0)
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
        let name = world.title();
        println!("{name}: false roll-backs {without:.4}, and {with:.4} with episodes");
        let error = (most * (1.0 - most) / f64::from(world.runs())).sqrt();
        assert!(with <= most + STANDARD_ERRORS * error, "{name}: {with}, not {most}");
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

/// Each world is rolled back within this time in 95 % of the runs with episodes, in seconds.
fn assert_found(worlds: impl IntoIterator<Item = (World, f64)>) {
    for (world, most) in worlds {
        let name = world.title();
        let of = |times: &[f64]| [times[times.len() / 2], times[times.len() * 95 / 100]];
        let [without, with] = world.all_runs();
        println!("{name}: {:.1?} s, and {:.1?} s with episodes", of(&without), of(&with));
        assert!(of(&with)[1] <= most, "{name}: {:?}", of(&with));
        if world.name.starts_with("10 % against 1 %, 1 + 3 pods") && world.rate < 50.0 {
            assert!(of(&with)[0] <= 2.0 * of(&without)[0], "{name}: {:?}, {:?}", of(&with), of(&without));
        }
    }
}

#[test]
fn a_worse_canary_is_still_found() {
    let dead = |canaries| rates(canaries, 1.0, 0.001);
    let worse = |canaries| rates(canaries, 0.1, 0.01);
    assert_found([
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
    ]);
}

/// Seconds between two scrapes of a pod.
const INTERVALS: [f64; 3] = [5.0, 15.0, 30.0];

#[test]
fn pods_that_hiccup_between_scrapes_roll_the_canary_back_in_about_alpha_of_runs() {
    let one_second = || hiccups(1.0, 120.0);
    let two_seconds = || hiccups(2.0, 600.0);
    for interval in INTERVALS {
        let worlds = [
            world("1 s every 120 s, 1 + 3 pods", 1, 3, one_second()),
            world("2 s every 600 s, 1 + 3 pods", 1, 3, two_seconds()),
            world("2 s every 600 s, in the same rhythm, 1 + 3 pods", 1, 3, regular_hiccups(2.0, 600.0)),
            world("1 s every 120 s, 1 + 1 pods", 1, 1, one_second()),
            world("2 s every 600 s, 2 + 6 pods", 2, 6, two_seconds()),
            world("1 s every 120 s, canary 1/2, 5 pods with 1/10", 1, 5, one_second()).with_parts(&HALF),
            world("2 s every 600 s, canary 1/2, 5 pods with 1/10", 1, 5, two_seconds()).with_parts(&HALF),
            world("1 s every 120 s, 1 + 3 pods, 100 a second for 10 minutes", 1, 3, one_second())
                .with_rate(100.0, 600.0),
            world(
                "1 s every 120 s, and incidents of all, 1 + 3 pods",
                1,
                3,
                hiccups_and_incidents(1.0, 120.0),
            ),
            world(
                "2 s every 600 s, and incidents of all, 1 + 3 pods",
                1,
                3,
                hiccups_and_incidents(2.0, 600.0),
            ),
            world("1 s every 120 s, the canary has 1/50, 1/10, 1/2, 9/10 in turn", 1, 3, one_second())
                .with_changing_part(&[0.02, 0.1, 0.5, 0.9]),
            world("15 s every 1200 s, 1 + 3 pods, --episodes 15s", 1, 3, hiccups(15.0, 1200.0))
                .with_episodes(15),
        ];
        assert_false_roll_backs(worlds.map(|world| (world.with_scrapes(interval), ALPHA)));
        let longer =
            world("5 s every 600 s, 1 + 3 pods: longer than what is said", 1, 3, hiccups(5.0, 600.0));
        assert_false_roll_backs([(longer.with_scrapes(interval), 0.08)]);
    }
}

#[test]
fn pods_that_differ_between_scrapes_roll_the_canary_back_in_about_alpha_of_runs() {
    for interval in INTERVALS {
        let worlds = [
            (world("5 %, σ = 0.3, 1 + 3 pods", 1, 3, differing(0.05, 0.3)), ALPHA),
            (world("5 %, σ = 0.3, 2 + 6 pods", 2, 6, differing(0.05, 0.3)), ALPHA),
            // one pod of stable shows no spread
            (world("5 %, σ = 0.3, 1 + 1 pods", 1, 1, differing(0.05, 0.3)), 0.35),
            (world("both at 5 %", 1, 3, differing(0.05, 0.0)), ALPHA),
            (
                world("all of 5 s in 60 s", 1, 3, together(|at| if at % 60.0 < 5.0 { 1.0 } else { 0.001 })),
                ALPHA,
            ),
        ];
        assert_false_roll_backs(worlds.map(|(world, most)| (world.with_scrapes(interval), most)));
    }
}

#[test]
fn a_worse_canary_is_still_found_between_scrapes() {
    let dead = |canaries| rates(canaries, 1.0, 0.001);
    let worse = |canaries| rates(canaries, 0.1, 0.01);
    for (interval, most) in INTERVALS.into_iter().zip([75.0, 150.0, 300.0]) {
        let worlds = [
            (world("dead, 1 + 3 pods", 1, 3, dead(1)), most),
            (world("dead, 1 + 1 pods", 1, 1, dead(1)), 1.5 * most),
            (world("dead, 2 + 6 pods", 2, 6, dead(2)), most),
            (world("dead, canary 1/2, 5 pods with 1/10", 1, 5, dead(1)).with_parts(&HALF), most),
            (world("dead, 1 + 3 pods, 100 a second", 1, 3, dead(1)).with_rate(100.0, 600.0), most),
            (world("10 % against 1 %, 1 + 3 pods", 1, 3, worse(1)), 300.0 + most),
            (world("10 % against 1 %, 1 + 1 pods", 1, 1, worse(1)), 300.0 + most),
            (world("10 % against 1 %, 2 + 6 pods", 2, 6, worse(2)), 300.0 + most),
            (
                world("10 % against 1 %, canary 1/2, 5 pods with 1/10", 1, 5, worse(1)).with_parts(&HALF),
                300.0 + most,
            ),
            (
                world("10 % against 1 %, 1 + 3 pods, 100 a second", 1, 3, worse(1)).with_rate(100.0, 600.0),
                2.0 * most,
            ),
            (
                world("2 % against 1 %, 1 + 3 pods", 1, 3, rates(1, 0.02, 0.01)).with_rate(10.0, 7200.0),
                7200.0,
            ),
        ];
        assert_found(worlds.map(|(world, most)| (world.with_scrapes(interval), most)));
    }
}
