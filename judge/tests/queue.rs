//! The judge beside a queue from which the workers of both releases take jobs: whoever is free takes the next one, so a
//! worker that fails fast takes more. The workers count what has ended, and are scraped.
//!
//! `cargo test -p canary-judge --test queue -- --nocapture` prints the measured figures; `SIMULATION_RUNS=2000` sets more
//! runs. `docs/workers.md` has the figures.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    env,
    num::NonZeroU32,
    sync::Arc,
};

use canary_judge::{Counts, Decision, Judge, Release, Settings, Window};
use rand::{Rng, SeedableRng, rngs::SmallRng};
use rand_distr::{Distribution, Exp1};

/// The first seed. No number was tuned on these runs.
const SEED: u64 = 40_000_000;
const ALPHA: f64 = 0.05;
/// Seconds between two scrapes of a worker.
const INTERVAL: f64 = 15.0;

/// The number of runs of each simulation: small enough for `cargo test`, unless `SIMULATION_RUNS` sets it.
fn runs() -> u32 {
    let runs = env::var("SIMULATION_RUNS").unwrap_or_else(|_| "40".to_owned());
    let runs = runs.parse::<NonZeroU32>().unwrap_or_else(|error| panic!("SIMULATION_RUNS={runs}: {error}"));
    runs.get()
}

/// What happens in a run. There are three workers of stable and one of the canary.
#[derive(Clone, Copy)]
struct World {
    name: &'static str,
    /// Jobs a second.
    jobs: f64,
    /// How many jobs a worker does at the same time.
    slots: usize,
    /// The mean time of a good job and of one that fails, in seconds.
    good: f64,
    failing: f64,
    /// The shares of attempts that fail at stable and at the canary.
    stable: f64,
    canary: f64,
    /// So many of so many jobs, one after the other, fail wherever they are tried.
    poison: (u64, u64),
    /// All that ends within so many seconds of so many fails.
    outage: (f64, f64),
    /// How often a job that fails is tried again, and after how many seconds.
    retries: (u32, f64),
    /// The share of the canary's jobs that never end.
    stuck: f64,
    /// How long a run is, in seconds.
    time: f64,
}

const WORLD: World = World {
    name: "",
    jobs: 12.0,
    slots: 4,
    good: 1.0,
    failing: 0.05,
    stable: 0.01,
    canary: 0.01,
    poison: (0, 1),
    outage: (0.0, 1.0),
    retries: (0, 0.0),
    stuck: 0.0,
    time: 1800.0,
};

/// An event at a moment in seconds, by its bits: those of positive numbers are in the same order.
fn at(moment: f64, event: Event) -> Reverse<(u64, Event)> {
    Reverse((moment.to_bits(), event))
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Job {
    is_poison: bool,
    retries: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrives,
    Again(Job),
    Ends { worker: usize, job: Job, failed: bool },
    Scrape(usize),
}

struct Worker {
    release: Release,
    name: Arc<str>,
    counts: Counts,
    scraped: Option<f64>,
}

/// What a run has shown.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    rolled_back: Option<f64>,
    promoted: Option<f64>,
    /// All attempts that have ended, and the canary's, until the decision.
    attempts: u64,
    canary: Counts,
}

impl World {
    fn run(&self, seed: u64) -> Seen {
        let mut rng = SmallRng::seed_from_u64(seed);
        let rng = &mut rng;
        let sides = [Release::Stable, Release::Stable, Release::Stable, Release::Canary];
        let mut workers: Vec<_> = sides
            .iter()
            .enumerate()
            .map(|(number, release)| Worker {
                release: *release,
                name: format!("worker-{number}").into(),
                counts: Counts::default(),
                scraped: None,
            })
            .collect();
        let mut events = BinaryHeap::from([at(0.0, Event::Arrives)]);
        for worker in 0..workers.len() {
            events.push(at(rng.random::<f64>() * INTERVAL, Event::Scrape(worker)));
        }
        // the slot that has waited longest takes the next job
        let mut free: VecDeque<usize> = (0..self.slots).flat_map(|_| 0..workers.len()).collect();
        let mut queue: VecDeque<Job> = VecDeque::new();
        let (mut number, phase) = (rng.random_range(0..self.poison.1), rng.random::<f64>() * self.outage.1);
        let (mut judge, mut found) = (Judge::new(Settings::default()), Seen::default());
        while let Some(Reverse((bits, event))) = events.pop() {
            let now = f64::from_bits(bits);
            if now > self.time {
                break;
            }
            match event {
                Event::Arrives => {
                    number += 1;
                    let is_poison = number % self.poison.1 < self.poison.0;
                    queue.push_back(Job { is_poison, retries: 0 });
                    let pause: f64 = Exp1.sample(rng);
                    events.push(at(now + pause / self.jobs, Event::Arrives));
                }
                Event::Again(job) => queue.push_back(job),
                Event::Ends { worker, job, failed } => {
                    free.push_back(worker);
                    let counts = &mut workers[worker].counts;
                    counts.requests += 1;
                    counts.failures += u64::from(failed);
                    found.attempts += 1;
                    if workers[worker].release == Release::Canary {
                        found.canary.requests += 1;
                        found.canary.failures += u64::from(failed);
                    }
                    if failed && job.retries < self.retries.0 {
                        let again = Event::Again(Job { retries: job.retries + 1, ..job });
                        events.push(at(now + self.retries.1, again));
                    }
                }
                Event::Scrape(number) => {
                    events.push(at(now + INTERVAL, Event::Scrape(number)));
                    let worker = &mut workers[number];
                    let counts = std::mem::take(&mut worker.counts);
                    let first = worker.scraped.is_none();
                    let since = worker.scraped.replace(now).unwrap_or(now);
                    judge.observe_scrapes([Window {
                        release: worker.release,
                        pod: Arc::clone(&worker.name),
                        since,
                        until: now,
                        counts: if first { Counts::default() } else { counts },
                        restarted: false,
                        is_warm_up: false,
                        strata: Vec::new(),
                        latencies: Vec::new(),
                    }]);
                    match judge.decided() {
                        Some(Decision::RollBack { .. }) => {
                            found.rolled_back = Some(now);
                            return found;
                        }
                        Some(Decision::Promote { .. }) if found.promoted.is_none() => {
                            found.promoted = Some(now);
                        }
                        _ => {}
                    }
                }
            }
            while !free.is_empty() && !queue.is_empty() {
                let (Some(worker), Some(job)) = (free.pop_front(), queue.pop_front()) else { break };
                let is_canary = workers[worker].release == Release::Canary;
                if is_canary && rng.random::<f64>() < self.stuck {
                    continue;
                }
                let own = if is_canary { self.canary } else { self.stable };
                let is_out = (now - phase).rem_euclid(self.outage.1) < self.outage.0;
                let failed = job.is_poison || is_out || rng.random::<f64>() < own;
                let time: f64 = Exp1.sample(rng);
                let time = time * if failed { self.failing } else { self.good };
                events.push(at(now + time, Event::Ends { worker, job, failed }));
            }
        }
        found
    }

    fn seen(&self) -> Shares {
        let all: Vec<_> = (0..runs()).map(|run| self.run(SEED + u64::from(run))).collect();
        let part =
            |is: fn(&Seen) -> bool| all.iter().filter(|found| is(found)).count() as f64 / all.len() as f64;
        let median = |of: fn(&Seen) -> f64| {
            let mut all: Vec<_> = all.iter().map(of).collect();
            all.sort_by(f64::total_cmp);
            all[all.len() / 2]
        };
        let shares = Shares {
            rolled_back: part(|found| found.rolled_back.is_some()),
            promoted: part(|found| found.promoted.is_some()),
            share: median(|found| found.canary.requests as f64 / found.attempts.max(1) as f64),
        };
        println!(
            "{} | rolled back {:.1} % (median {:.0} s) | promoted before that {:.1} % (median {:.0} s) | the canary's \
             share of attempts {:.1} %, it failed {:.0}",
            self.name,
            100.0 * shares.rolled_back,
            median(|found| found.rolled_back.unwrap_or(f64::INFINITY)),
            100.0 * shares.promoted,
            median(|found| found.promoted.unwrap_or(f64::INFINITY)),
            100.0 * shares.share,
            median(|found| found.canary.failures as f64),
        );
        shares
    }
}

#[derive(Clone, Copy, Debug)]
struct Shares {
    rolled_back: f64,
    promoted: f64,
    share: f64,
}

#[test]
fn a_worker_that_is_no_worse_is_rarely_rolled_back_whoever_takes_the_next_job() {
    let alike = |name, rate| World { name, stable: rate, canary: rate, ..WORLD };
    for world in [
        alike("both at 1 %", 0.01),
        alike("both at 5 %", 0.05),
        alike("both at 20 %", 0.2),
        World { jobs: 40.0, ..alike("both at 5 %, and a backlog", 0.05) },
        World { jobs: 3.0, slots: 1, ..alike("both at 5 %, one job at a time", 0.05) },
        World { jobs: 8.0, failing: 10.0, ..alike("both at 5 %, failures take 10 s", 0.05) },
        World { outage: (30.0, 300.0), ..alike("all fails for 30 s in 300 s", 0.01) },
        World {
            jobs: 8.0,
            failing: 10.0,
            outage: (30.0, 300.0),
            ..alike("the same, failures take 10 s", 0.01)
        },
        World { poison: (200, 2000), ..alike("200 jobs in a row of 2,000 fail", 0.01) },
        World { poison: (1, 50), retries: (5, 15.0), ..alike("2 % of the jobs fail six times", 0.01) },
        World { poison: (1, 50), retries: (5, 0.0), ..alike("the same, tried again at once", 0.01) },
    ] {
        assert!(world.seen().rolled_back <= ALPHA, "{}", world.name);
    }
}

#[test]
fn jobs_that_fail_fast_in_a_row_are_all_of_one_worker_if_there_is_a_backlog() {
    let row = |name, poison| World { name, poison, slots: 1, ..WORLD };
    let worlds = [
        World {
            slots: 4,
            jobs: 40.0,
            ..row("20 in a row of 500, four jobs at a time, and a backlog", (20, 500))
        },
        World { failing: 0.01, ..row("5 in a row of 100, one job at a time, and a backlog", (5, 100)) },
        World {
            failing: 0.01,
            good: 5.0,
            jobs: 3.0,
            ..row("20 in a row of 500, good ones take 5 s", (20, 500))
        },
    ];
    let [few, .., many] = worlds.map(|world| world.seen().rolled_back);
    // docs/workers.md says so, and what to do
    assert!(few < many && many > ALPHA, "{few} {many}");
}

#[test]
fn a_worker_that_is_worse_is_found_also_if_it_takes_more_jobs_or_fewer() {
    let worse = |name, canary| World { name, canary, ..WORLD };
    for world in [
        worse("the canary fails 20 %", 0.2),
        World { jobs: 8.0, failing: 10.0, ..worse("the canary fails 20 %, failures take 10 s", 0.2) },
        World { retries: (3, 15.0), ..worse("the canary fails 5 %, tried again three times", 0.05) },
        worse("the canary always fails", 1.0),
        World { jobs: 40.0, ..worse("the canary always fails, and a backlog", 1.0) },
    ] {
        let shares = world.seen();
        assert!(shares.rolled_back >= 0.99 && shares.promoted <= ALPHA, "{}: {shares:?}", world.name);
        assert_eq!(shares.share > 0.25, world.failing < 1.0, "{}: {shares:?}", world.name);
    }
    let slightly = World { stable: 0.001, ..worse("the canary fails 1.01 %, stable 0.1 %", 0.0101) };
    assert!(slightly.seen().promoted <= ALPHA);
}

#[test]
fn a_job_that_never_ends_is_not_seen() {
    let stuck = |name, stuck| World { name, stuck, stable: 0.001, canary: 0.001, ..WORLD };
    let one = stuck("1 % of the canary's jobs never end", 0.01);
    let shares = [stuck("0.1 % of the canary's jobs never end", 0.001), one].map(|world| world.seen());
    // docs/workers.md says so, and what to do
    assert!(shares.iter().all(|found| found.rolled_back <= ALPHA && found.promoted > ALPHA), "{shares:?}");
}
