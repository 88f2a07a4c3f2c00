//! The judge's promises on counters that Prometheus scrapes at different moments, tested by simulation. Three pods of
//! stable and one of the canary get random requests; each pod is scraped at its own moments. Now and then a scrape is
//! missing, or a pod restarts. Each verdict at any time counts.
//!
//! `cargo test -p canary-judge --test scrapes -- --nocapture` prints the measured figures; `SIMULATION_RUNS=2000` sets
//! more runs. `docs/verdict.md` has the figures.

use std::{env, f64::consts::TAU, num::NonZeroU32, sync::Arc};

use canary_judge::{Counts, Decision, Judge, Reason, Release, Settings, Window};
use rand::{Rng, SeedableRng, rngs::SmallRng};
use rand_distr::{Binomial, Distribution, Poisson};

/// Seconds between two scrapes of a pod.
const INTERVALS: [f64; 4] = [5.0, 15.0, 30.0, 60.0];
/// The first seed. The method was tuned on others, from 7,000,000 on.
const SEED: u64 = 1_000_000;
const ALPHA: f64 = 0.05;

/// The number of runs of each simulation: small enough for `cargo test`, unless `SIMULATION_RUNS` sets it.
fn runs() -> u32 {
    let runs = env::var("SIMULATION_RUNS").unwrap_or_else(|_| "20".to_owned());
    let runs = runs.parse::<NonZeroU32>().unwrap_or_else(|error| panic!("SIMULATION_RUNS={runs}: {error}"));
    runs.get()
}

/// The failure rate of a release at a time, in seconds.
type Rate = fn(f64) -> f64;

/// What happens in a run.
#[derive(Clone, Copy)]
struct World {
    name: &'static str,
    /// Seconds between two scrapes of a pod.
    interval: f64,
    /// Requests a second.
    traffic: f64,
    /// How long a run is, in seconds.
    time: f64,
    stable: Rate,
    canary: Rate,
    /// An incident that hits both releases: how long it is, every how many seconds, and the part of requests that fail.
    incident: (f64, f64, f64),
    /// The canary's share of the requests at a time, and how much of it moves at random each second.
    share: Rate,
    moves: f64,
    /// The number of the canary's pods. Stable has three times as many.
    pods: usize,
    /// Seconds until a pod of each release is replaced by a new one.
    replaced: f64,
    /// Restarts of pods a second.
    restarts: f64,
}

const QUIET: (f64, f64, f64) = (0.0, 1e9, 0.0);

const WORLD: World = World {
    name: "",
    interval: 15.0,
    traffic: 20.0,
    time: 600.0,
    stable: |_| 0.002,
    canary: |_| 0.002,
    incident: QUIET,
    share: |_| 0.25,
    moves: 0.0,
    pods: 1,
    replaced: f64::INFINITY,
    restarts: 0.001,
};

/// The first decisions of a run.
#[derive(Clone, Copy, Debug, Default)]
struct Decided {
    /// When it was rolled back, in seconds.
    rolled_back: Option<f64>,
    /// When it was promoted, and why.
    promoted: Option<(f64, Reason)>,
}

struct Pod {
    release: Release,
    name: Arc<str>,
    /// The moment of its scrapes within the interval.
    offset: f64,
    /// Increase since the last scrape.
    counts: Counts,
    scraped: Option<f64>,
    restarted: bool,
}

impl Pod {
    fn new(release: Release, number: usize, interval: f64, rng: &mut SmallRng) -> Self {
        let name = format!("{release}-{number}").into();
        let offset = rng.random::<f64>() * interval;
        Self { release, name, offset, counts: Counts::default(), scraped: None, restarted: false }
    }

    fn count(&mut self, requests: u64, rate: f64, rng: &mut SmallRng) {
        let failures = Binomial::new(requests, rate).expect("a probability").sample(rng);
        self.counts.requests += requests;
        self.counts.failures += failures;
    }

    /// The window that a scrape now completes, if there is a scrape, and none is missing.
    fn scrape(&mut self, now: f64, step: f64, interval: f64, rng: &mut SmallRng) -> Option<Window> {
        if (now - self.offset).rem_euclid(interval) >= step || rng.random::<f64>() < 0.02 {
            return None;
        }
        let counts = std::mem::take(&mut self.counts);
        let (since, counts) = self.scraped.map_or((now, Counts::default()), |since| (since, counts));
        self.scraped = Some(now);
        let restarted = std::mem::take(&mut self.restarted);
        Some(Window {
            release: self.release,
            pod: Arc::clone(&self.name),
            since,
            until: now,
            counts,
            restarted,
            latencies: Vec::new(),
            strata: Vec::new(),
        })
    }
}

impl World {
    fn run(&self, seed: u64) -> Decided {
        let mut rng = SmallRng::seed_from_u64(seed);
        let rng = &mut rng;
        let step = (self.interval / 15.0).clamp(0.25, 1.0);
        let releases = [Release::Stable; 3].into_iter().chain([Release::Canary]);
        let mut names = 0..;
        let mut pods: Vec<_> = releases
            .flat_map(|release| std::iter::repeat_n(release, self.pods))
            .map(|release| Pod::new(release, names.next().expect("endless"), self.interval, rng))
            .collect();
        let mut judge = Judge::new(Settings::default());
        let mut decided = Decided::default();
        let (length, every, part) = self.incident;
        let phase = rng.random::<f64>() * every.min(self.time);
        let mut now = 0.0;
        while now < self.time {
            let happens = (now - phase).rem_euclid(every) < length && now >= phase % every;
            let moved = (self.share)(now) * (1.0 + self.moves * (2.0 * rng.random::<f64>() - 1.0));
            for pod in &mut pods {
                let (own, share, of) = match pod.release {
                    Release::Stable => (self.stable, 1.0 - moved, 3 * self.pods),
                    Release::Canary => (self.canary, moved, self.pods),
                };
                let own = own(now);
                let rate = if happens { 1.0 - (1.0 - own) * (1.0 - part) } else { own };
                let mean = self.traffic * step * share / of as f64;
                let requests = if mean > 0.0 { Poisson::new(mean).expect("a mean").sample(rng) } else { 0.0 };
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
                pod.count(requests as u64, rate, rng);
            }
            if rng.random::<f64>() < self.restarts * step {
                let restarted = rng.random_range(0..pods.len());
                (pods[restarted].counts, pods[restarted].restarted) = (Counts::default(), true);
            }
            if now > 0.0 && now % self.replaced < step {
                for release in Release::BOTH {
                    let old = pods.iter().position(|pod| pod.release == release).expect("one");
                    pods.remove(old);
                    pods.push(Pod::new(release, names.next().expect("endless"), self.interval, rng));
                }
            }
            now += step;
            let windows: Vec<_> =
                pods.iter_mut().filter_map(|pod| pod.scrape(now, step, self.interval, rng)).collect();
            if !windows.is_empty() {
                judge.observe_scrapes(windows);
                decided.note(&judge, now);
            }
        }
        judge.end();
        decided.note(&judge, now);
        decided
    }

    /// The shares of runs that were rolled back, and promoted by the limit and by the ratio, and the median time of a
    /// roll-back in seconds.
    fn shares(&self) -> Shares {
        let (runs, mut times) = (runs(), Vec::new());
        let mut shares = Shares::default();
        for run in 0..runs {
            let Decided { rolled_back, promoted } = self.run(SEED + u64::from(run));
            times.push(rolled_back.unwrap_or(f64::INFINITY));
            let is_promoted = |wanted| promoted.is_some_and(|(_, reason)| reason == wanted);
            shares.rolled_back += f64::from(u8::from(rolled_back.is_some())) / f64::from(runs);
            shares.by_limit += f64::from(u8::from(is_promoted(Reason::Limit))) / f64::from(runs);
            shares.by_ratio += f64::from(u8::from(is_promoted(Reason::Ratio))) / f64::from(runs);
        }
        times.sort_by(f64::total_cmp);
        shares.median = times[times.len() / 2];
        println!(
            "{} | {} s | {}/s | rolled back {:.1} % (median {:.0} s) | promoted {:.1} % by limit, {:.1} % by ratio",
            self.name,
            self.interval,
            self.traffic,
            100.0 * shares.rolled_back,
            shares.median,
            100.0 * shares.by_limit,
            100.0 * shares.by_ratio
        );
        shares
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Shares {
    rolled_back: f64,
    by_limit: f64,
    by_ratio: f64,
    median: f64,
}

impl Decided {
    fn note(&mut self, judge: &Judge, now: f64) {
        match judge.decided() {
            Some(Decision::RollBack { .. }) if self.rolled_back.is_none() => self.rolled_back = Some(now),
            Some(Decision::Promote { reason, .. }) if self.promoted.is_none() => {
                self.promoted = Some((now, reason));
            }
            _ => {}
        }
    }
}

/// Runs worlds on both processors, and prints each.
fn each(worlds: &[World], check: impl Fn(&World, Shares) + Sync) {
    let next = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(world) = worlds.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)) {
                    check(world, world.shares());
                }
            });
        }
    });
}

/// Incidents of both releases: how long they are, every how many seconds, and the part of requests that fail.
const INCIDENTS: [(f64, f64, f64); 8] = [
    (3.0, 20.0, 1.0),
    (5.0, 30.0, 1.0),
    (10.0, 40.0, 1.0),
    (15.0, 45.0, 0.5),
    (30.0, 120.0, 0.5),
    (60.0, 300.0, 1.0),
    (60.0, 300.0, 0.1),
    (30.0, 1e9, 1.0),
];

fn worlds_of_equal_releases() -> Vec<World> {
    let mut worlds = Vec::new();
    for interval in INTERVALS {
        for traffic in [20.0, 200.0, 2000.0] {
            for incident in INCIDENTS {
                worlds.push(World { name: "an incident", interval, traffic, incident, ..WORLD });
            }
            let incident = (20.0, 100.0, 1.0);
            let world = World { interval, traffic, incident, ..WORLD };
            worlds.extend([
                World { name: "2 % of both", incident: QUIET, stable: |_| 0.02, canary: |_| 0.02, ..world },
                World { name: "the share moves by 10 % each second", moves: 0.1, ..world },
                World { name: "the share moves by 30 % each second", moves: 0.3, ..world },
                World {
                    name: "the share moves by 10 % in 97 s",
                    share: |t| 0.25 * (1.0 + 0.1 * (t / 97.0 * TAU).sin()),
                    ..world
                },
                World {
                    name: "the share moves by 30 % in 230 s",
                    share: |t| 0.25 * (1.0 + 0.3 * (t / 230.0 * TAU).sin()),
                    ..world
                },
                World { name: "pods restart every 50 s", restarts: 0.02, ..world },
                World { name: "pods are replaced every 120 s", replaced: 120.0, ..world },
                World { name: "3 pods of the canary, 9 of stable", pods: 3, ..world },
                World { name: "a share of 1/20", share: |_| 0.05, ..world },
            ]);
        }
    }
    for traffic in [60.0, 200.0] {
        let world = World { traffic: traffic / 3600.0, time: 86_400.0, restarts: 0.0001, ..WORLD };
        worlds.extend([
            World { name: "a day, both at 1 %", stable: |_| 0.01, canary: |_| 0.01, ..world },
            World { name: "a day, incidents", incident: (1800.0, 14_400.0, 1.0), ..world },
        ]);
    }
    worlds
}

#[test]
fn a_canary_no_worse_than_stable_is_rolled_back_in_at_most_alpha_of_runs() {
    each(&worlds_of_equal_releases(), |world, shares| {
        assert!(shares.rolled_back <= ALPHA, "{}: {shares:?}", world.name);
    });
}

fn worlds_of_bad_canaries() -> Vec<World> {
    let mut worlds = Vec::new();
    for interval in INTERVALS {
        let world = World { interval, stable: |_| 0.001, ..WORLD };
        for traffic in [20.0, 200.0] {
            let world = World { traffic, ..world };
            worlds.extend([
                World { name: "always", canary: |_| 1.0, ..world },
                World { name: "10 % v 1 %", stable: |_| 0.01, canary: |_| 0.1, ..world },
                World {
                    name: "all of 2 s in 20 s",
                    canary: |t| f64::from(u8::from(t % 20.0 < 2.0)),
                    ..world
                },
                World {
                    name: "always, and gets requests only 10 s of every 40 s",
                    canary: |_| 1.0,
                    share: |t| if t % 40.0 < 10.0 { 0.25 } else { 0.0 },
                    ..world
                },
                World { name: "always, and restarts every 50 s", canary: |_| 1.0, restarts: 0.02, ..world },
                World {
                    name: "all of 20 s in 200 s, from second 50",
                    canary: |t| f64::from(u8::from((t - 50.0).rem_euclid(200.0) < 20.0)),
                    ..world
                },
            ]);
        }
        worlds.push(World {
            name: "always, the share moves by 10 %",
            canary: |_| 1.0,
            traffic: 2000.0,
            moves: 0.1,
            ..world
        });
    }
    for traffic in [60.0, 200.0] {
        let world = World { traffic: traffic / 3600.0, time: 86_400.0, restarts: 0.0001, ..WORLD };
        worlds.extend([
            World { name: "a day, always", canary: |_| 1.0, ..world },
            World { name: "a day, 10 % v 1 %", stable: |_| 0.01, canary: |_| 0.1, ..world },
        ]);
    }
    worlds
}

#[test]
fn a_canary_that_plainly_fails_is_found_and_not_promoted() {
    each(&worlds_of_bad_canaries(), |world, shares| {
        // one restart in 50 s leaves few windows of 30 or 60 s without one
        let least = if world.restarts > 0.01 && world.interval > 15.0 { 0.5 } else { 0.95 };
        assert!(shares.rolled_back >= least, "{}: {shares:?}", world.name);
        // with 50 answers of the canary a second, a promotion can come before the first episode
        let is_early =
            world.name.contains("from second 50") && world.traffic > 100.0 && world.interval < 15.0;
        assert!(is_early || shares.by_limit + shares.by_ratio <= ALPHA, "{}: {shares:?}", world.name);
    });
}

/// What a small difference takes. It has no bound but that of a good method: the figures are in docs/verdict.md.
#[test]
fn a_canary_that_fails_twice_as_often_is_found_with_enough_traffic() {
    let worlds: Vec<_> = [(5.0, 20.0), (15.0, 20.0), (30.0, 20.0), (15.0, 200.0), (30.0, 200.0)]
        .map(|(interval, traffic)| World {
            name: "2 % v 1 %",
            interval,
            traffic,
            stable: |_| 0.01,
            canary: |_| 0.02,
            ..WORLD
        })
        .into();
    each(&worlds, |world, shares| {
        let least = if world.traffic > 100.0 { 0.8 } else { 0.1 };
        assert!(shares.rolled_back >= least, "{} s: {shares:?}", world.interval);
    });
}

#[test]
fn a_canary_above_limit_and_ratio_is_promoted_in_at_most_alpha_of_runs() {
    let mut worlds = Vec::new();
    for interval in INTERVALS {
        for traffic in [20.0, 200.0] {
            let world = World { interval, traffic, ..WORLD };
            worlds.extend([
                World { name: "1.01 % v 0.1 %", stable: |_| 0.001, canary: |_| 0.0101, ..world },
                World { name: "4 % v 2 %", stable: |_| 0.02, canary: |_| 0.04, ..world },
                World { name: "4 % v 2 %, 3 + 9 pods", stable: |_| 0.02, canary: |_| 0.04, pods: 3, ..world },
            ]);
            for incident in INCIDENTS {
                worlds.push(World {
                    name: "3 % v 0.1 %, an incident",
                    stable: |_| 0.001,
                    canary: |_| 0.03,
                    incident,
                    ..world
                });
                worlds.push(World {
                    name: "4 % v 2 %, an incident",
                    stable: |_| 0.02,
                    canary: |_| 0.04,
                    incident,
                    ..world
                });
            }
        }
    }
    each(&worlds, |world, shares| {
        // of 100 runs, more than 5 of a true 3.6 % are no surprise
        let noise = 2.0 * (ALPHA * (1.0 - ALPHA) / f64::from(runs())).sqrt();
        assert!(shares.by_limit <= ALPHA + noise, "{}: {shares:?}", world.name);
        assert!(shares.by_ratio <= 0.1 * ALPHA + noise / 2.0, "{}: {shares:?}", world.name);
    });
}

#[test]
fn a_canary_as_good_as_a_stable_release_above_the_limit_is_promoted_by_the_ratio() {
    let worlds: Vec<_> = [5.0, 15.0, 30.0]
        .map(|interval| World {
            name: "5 % of both",
            interval,
            traffic: 200.0,
            stable: |_| 0.05,
            canary: |_| 0.05,
            ..WORLD
        })
        .into();
    each(&worlds, |_, shares| assert!(shares.by_ratio >= 0.7, "{shares:?}"));
}

/// Whether time is within the first `length` seconds of each `every` seconds, from `since` on.
fn is_within(time: f64, since: f64, length: f64, every: f64) -> bool {
    time >= since && (time - since) % every < length
}

/// The bound of the promotion by the limit, where there are incidents outside of which the canary is above the limit.
#[test]
fn incidents_that_recur_promote_a_canary_above_the_limit_outside_of_them_in_at_most_alpha_of_runs() {
    let mut worlds = Vec::new();
    for interval in [5.0, 15.0, 30.0] {
        for incident in [(5.0, 30.0, 1.0), (30.0, 600.0, 1.0), (30.0, 120.0, 0.3), (60.0, 300.0, 0.03)] {
            let world = World { interval, traffic: 40.0, time: 1200.0, incident, ..WORLD };
            worlds.push(World { name: "1.01 % v 0.1 %", stable: |_| 0.001, canary: |_| 0.0101, ..world });
            worlds.push(World { name: "1.01 % v 0.5 %", stable: |_| 0.005, canary: |_| 0.0101, ..world });
            worlds.push(World {
                name: "1.01 % v 0.5 %, 3 + 9 pods",
                stable: |_| 0.005,
                canary: |_| 0.0101,
                pods: 3,
                ..world
            });
        }
    }
    each(&worlds, |world, shares| {
        let noise = 2.0 * (ALPHA * (1.0 - ALPHA) / f64::from(runs())).sqrt();
        assert!(shares.by_limit <= ALPHA + noise, "{}: {shares:?}", world.name);
    });
}

/// Its failures are placed where an incident could hide them. One episode is far from the incidents: one that is nearer
/// than a scrape can be left out with an incident.
#[test]
fn a_canary_with_episodes_of_its_own_is_not_promoted_by_incidents() {
    let mut worlds = Vec::new();
    for interval in [5.0, 15.0, 30.0] {
        let incident: Rate = |t| f64::from(u8::from(is_within(t, 150.0, 10.0, 120.0)));
        let world = World { interval, traffic: 20.0, time: 1200.0, stable: incident, ..WORLD };
        worlds.extend([
            World {
                name: "incidents of 10 s in 120 s, and episodes of 20 s in 200 s",
                canary: |t| {
                    f64::from(u8::from(is_within(t, 150.0, 10.0, 120.0) || is_within(t, 40.0, 20.0, 200.0)))
                },
                ..world
            },
            World {
                name: "incidents of 10 s in 120 s, the canary's take 15 s longer",
                canary: |t| {
                    f64::from(u8::from(is_within(t, 150.0, 25.0, 120.0) || is_within(t, 40.0, 5.0, 1e9)))
                },
                ..world
            },
            World {
                name: "incidents of 10 s in 120 s, the canary's begin 15 s before",
                canary: |t| {
                    f64::from(u8::from(is_within(t, 135.0, 25.0, 120.0) || is_within(t, 40.0, 5.0, 1e9)))
                },
                ..world
            },
        ]);
    }
    each(&worlds, |world, shares| {
        assert!(shares.by_limit + shares.by_ratio <= ALPHA, "{}: {shares:?}", world.name);
    });
}

#[test]
fn after_an_incident_a_good_canary_is_promoted() {
    let one: Rate = |t| if is_within(t, 30.0, 30.0, 1e9) { 1.0 } else { 0.001 };
    for (interval, traffic, most) in
        [(5.0, 40.0, 120.0), (15.0, 40.0, 180.0), (30.0, 40.0, 240.0), (15.0, 10.0, 400.0)]
    {
        let world = World { interval, traffic, stable: one, canary: one, time: 1200.0, ..WORLD };
        let mut times: Vec<_> = (0..runs())
            .map(|run| {
                world.run(SEED + u64::from(run)).promoted.map_or(f64::INFINITY, |(time, _)| time - 60.0)
            })
            .collect();
        times.sort_by(f64::total_cmp);
        let (median, late) = (times[times.len() / 2], times[times.len() * 95 / 100]);
        println!(
            "all of 30 s, scrapes every {interval} s, {traffic}/s: promoted {median:.0} s after it, {late:.0} s in 95 %"
        );
        assert!(median <= most, "{median}");
    }
}
