//! Pods that have just started, by simulation: what is left out of a warm-up, and when a canary that fails all of it is
//! rolled back. `cargo test -p canary-judge --test warm_up -- --nocapture` prints the measured figures, and
//! `SIMULATION_RUNS=10000` sets more runs. `docs/verdict.md` has the figures.

use std::{env, num::NonZeroU32, sync::Arc, time::Duration};

use canary_judge::{Batch, Counts, Decision, Judge, Outcome, Release, Request, Settings, Window};
use fastrand::Rng;

const ALPHA: f64 = 0.05;
/// A measured error must lie this many standard errors below α. If the true error were α, such a low result would have a
/// probability of 16 %, in each of the worlds.
const STANDARD_ERRORS: f64 = 1.0;
const WARM_UP: f64 = 30.0;

fn runs() -> u32 {
    let runs = env::var("SIMULATION_RUNS").unwrap_or_else(|_| "2000".to_owned());
    let runs = runs.parse::<NonZeroU32>().unwrap_or_else(|error| panic!("SIMULATION_RUNS={runs}: {error}"));
    runs.get()
}

fn settings() -> Settings {
    Settings { warm_up: Some(Duration::from_secs_f64(WARM_UP)), ..Settings::default() }
}

/// The probability of each outcome of a request at this time, since the trial began, of a pod of this age. In seconds.
#[derive(Clone, Copy)]
struct World {
    rate: f64,
    share: f64,
    stable: fn(f64) -> f64,
    canary: fn(f64, f64) -> f64,
    /// Whether its failures are only slow answers.
    slow: bool,
    /// When the canary's pod starts, and after which time it starts again.
    start: f64,
    restarts_every: f64,
    until: f64,
}

const USUAL: World = World {
    rate: 40.0,
    share: 0.25,
    stable: |_| 0.001,
    canary: |_, _| 0.001,
    slow: false,
    start: 10.0,
    restarts_every: f64::INFINITY,
    until: 80.0,
};

/// When something was decided.
#[derive(Clone, Copy, Debug, Default)]
struct Ended {
    rolled_back: Option<f64>,
    promoted: Option<f64>,
}

impl World {
    /// The outcome of one request at this time.
    fn request(&self, rng: &mut Rng, at: f64) -> (Release, Outcome, f64) {
        let age = (at - self.start) % self.restarts_every;
        let is_canary = at >= self.start && rng.f64() < self.share;
        let (release, rate) = if is_canary {
            (Release::Canary, (self.canary)(at, age))
        } else {
            (Release::Stable, (self.stable)(at))
        };
        let failed = if self.slow && is_canary { Outcome::Slow } else { Outcome::Failure };
        (release, if rng.f64() < rate { failed } else { Outcome::Success }, age)
    }

    /// A run in which all requests are seen one by one.
    fn run(&self, settings: Settings, rng: &mut Rng) -> (Ended, Judge) {
        let mut judge = Judge::new(settings);
        let mut ended = Ended::default();
        let mut at = 0.0;
        while at < self.until && ended.rolled_back.is_none() {
            at += -rng.f64().max(f64::MIN_POSITIVE).ln() / self.rate;
            let (release, outcome, age) = self.request(rng, at);
            let is_warm_up = release == Release::Canary && age < WARM_UP;
            judge.observe(Request::new(Some(release), outcome).with_warm_up(is_warm_up));
            if at >= self.start + WARM_UP / 2.0 {
                judge.trust_warm_up();
            }
            ended.see(&judge, at);
        }
        (ended, judge)
    }

    /// A run in which counters are scraped: three pods of stable and one of the canary, each at moments of its own.
    fn run_with_scrapes(&self, interval: f64, rng: &mut Rng) -> Ended {
        let mut judge = Judge::new(settings());
        let mut ended = Ended::default();
        let names: [Arc<str>; 4] = ["one", "two", "three", "canary"].map(Arc::from);
        let offsets = names.clone().map(|_| rng.f64() * interval);
        let mut counters = [Counts::default(); 4];
        let mut last = [None; 4];
        let (mut at, mut rounds) = (0.0, [0; 4]);
        while at < self.until && ended.rolled_back.is_none() {
            at += -rng.f64().max(f64::MIN_POSITIVE).ln() / self.rate;
            for pod in 0..4 {
                let scrape = offsets[pod] + interval * f64::from(rounds[pod]);
                let is_canary = pod == 3;
                if scrape > at {
                    continue;
                }
                rounds[pod] += 1;
                if is_canary && scrape < self.start {
                    continue;
                }
                let since = last[pod].replace(scrape).unwrap_or(scrape);
                let counts = std::mem::take(&mut counters[pod]);
                let counts = if since < scrape { counts } else { Counts::default() };
                let release = if is_canary { Release::Canary } else { Release::Stable };
                let age = (since - self.start) % self.restarts_every;
                judge.observe_scrapes([Window {
                    release,
                    pod: Arc::clone(&names[pod]),
                    since,
                    until: scrape,
                    counts,
                    restarted: false,
                    is_warm_up: is_canary && age < WARM_UP,
                    strata: Vec::new(),
                    latencies: Vec::new(),
                }]);
                if is_canary && scrape >= self.start + WARM_UP / 2.0 {
                    judge.trust_warm_up();
                }
            }
            let (release, outcome, _) = self.request(rng, at);
            let pod = if release == Release::Canary { 3 } else { rng.usize(0..3) };
            counters[pod].record(outcome);
            ended.see(&judge, at);
        }
        ended
    }

    fn all(&self, mut run: impl FnMut(&Self, &mut Rng) -> Ended) -> Measured {
        let ended: Vec<_> = (0..runs()).map(|seed| run(self, &mut Rng::with_seed(seed.into()))).collect();
        let share = |happened: fn(&Ended) -> Option<f64>| {
            ended.iter().filter_map(happened).count() as f64 / ended.len() as f64
        };
        let mut times: Vec<_> =
            ended.iter().map(|one| one.rolled_back.map_or(f64::INFINITY, |at| at - self.start)).collect();
        times.sort_by(f64::total_cmp);
        Measured {
            rolled_back: share(|one| one.rolled_back),
            promoted: share(|one| one.promoted),
            median: times[times.len() / 2],
            most: times[times.len() * 95 / 100],
        }
    }

    fn requests(&self) -> Measured {
        self.all(|world, rng| world.run(settings(), rng).0)
    }

    fn scrapes(&self, interval: f64) -> Measured {
        self.all(|world, rng| world.run_with_scrapes(interval, rng))
    }
}

impl Ended {
    fn see(&mut self, judge: &Judge, at: f64) {
        match judge.decided() {
            Some(Decision::RollBack { .. }) => self.rolled_back = self.rolled_back.or(Some(at)),
            Some(Decision::Promote { .. }) => self.promoted = self.promoted.or(Some(at)),
            _ => {}
        }
    }
}

/// Shares of runs, and the time from the canary's start to the roll-back: the median and 95 % of runs.
#[derive(Clone, Copy, Debug)]
struct Measured {
    rolled_back: f64,
    promoted: f64,
    median: f64,
    most: f64,
}

impl Measured {
    fn print(self, what: &str) -> Self {
        let Self { rolled_back, promoted, median, most } = self;
        println!(
            "{what}: rolled back in {:.2} % (median {median:.1} s, 95 % {most:.1} s), promoted in {:.2} %",
            100.0 * rolled_back,
            100.0 * promoted
        );
        self
    }
}

#[track_caller]
fn assert_at_most_alpha(what: &str, measured: f64) {
    let standard_error = (ALPHA * (1.0 - ALPHA) / f64::from(runs())).sqrt();
    assert!(measured + STANDARD_ERRORS * standard_error <= ALPHA, "{what}: {measured}");
}

/// The case: it fails 30 % of its first 200 requests, which are those of 20 s.
fn cold(at: f64, age: f64) -> f64 {
    let _ = at;
    if age < 20.0 { 0.3 } else { 0.001 }
}

#[test]
fn a_canary_that_is_only_cold_is_rolled_back_in_at_most_alpha_of_runs_and_promoted_later() {
    let world = World { canary: cold, ..USUAL };
    let without = world.all(|world, rng| world.run(Settings::default(), rng).0);
    let without = without.print("30 % of the first 200 fail, without --warm-up");
    assert!(without.rolled_back > 0.99, "{without:?}");

    let nulls: [(&str, World); 9] = [
        ("30 % of the first 200 fail", world),
        (
            "half of the first 25 s fail",
            World { canary: |_, age| if age < 25.0 { 0.5 } else { 0.001 }, ..USUAL },
        ),
        (
            "half of the first 25 s fail, 2 a second",
            World { rate: 2.0, canary: |_, age| if age < 25.0 { 0.5 } else { 0.001 }, ..USUAL },
        ),
        ("all of the first 10 s fail", World { canary: |_, age| f64::from(age < 10.0).max(0.001), ..USUAL }),
        (
            "all of the first 25 s are slow",
            World { canary: |_, age| f64::from(age < 25.0), slow: true, ..USUAL },
        ),
        ("both alike", USUAL),
        (
            "both alike, all fail for 40 s as it starts",
            World {
                stable: |at| f64::from((5.0..45.0).contains(&at)).max(0.001),
                canary: |at, _| f64::from((5.0..45.0).contains(&at)).max(0.001),
                ..USUAL
            },
        ),
        (
            "both alike, all fail for 2 s of 8 s",
            World {
                stable: |at| f64::from(at % 8.0 < 2.0).max(0.001),
                canary: |at, _| f64::from(at % 8.0 < 2.0).max(0.001),
                ..USUAL
            },
        ),
        (
            "both alike, 60 % fail all the time, 2 a second",
            World { rate: 2.0, stable: |_| 0.6, canary: |_, _| 0.6, ..USUAL },
        ),
    ];
    for (name, world) in nulls {
        let measured = world.requests().print(name);
        assert_at_most_alpha(name, measured.rolled_back);
    }
    let promoted = World { until: 200.0, ..world }.requests().print("the first, for 200 s");
    assert!(promoted.promoted > 0.9, "{promoted:?}");
}

#[test]
fn a_canary_that_fails_all_of_its_warm_up_is_rolled_back() {
    let dead = World { canary: |_, _| 1.0, ..USUAL };
    let worlds = [
        ("dead", dead, 16.0),
        ("dead, 10 a second", World { rate: 10.0, ..dead }, 20.0),
        ("dead, 1,000 a second", World { rate: 1000.0, until: 40.0, ..dead }, 16.0),
        ("dead, share 1/20", World { share: 0.05, ..dead }, 25.0),
        ("dead, stable fails 2 %", World { stable: |_| 0.02, ..dead }, 25.0),
        ("dead, and starts again every 20 s", World { restarts_every: 20.0, ..dead }, 16.0),
    ];
    for (name, world, within) in worlds {
        let measured = world.requests().print(name);
        assert!(measured.rolled_back > 0.999 && measured.most < within, "{name}: {measured:?}");
    }
    let worse = World { canary: |_, _| 0.3, ..USUAL }.requests().print("30 % fail all the time");
    assert!(worse.rolled_back > 0.999 && worse.most < WARM_UP + 15.0, "{worse:?}");
    let never = World { canary: |_, _| 1.0, start: 10.0, until: 24.0, ..USUAL };
    let at_the_end = (0..100).filter(|seed| {
        let (ended, mut judge) = never.run(settings(), &mut Rng::with_seed(*seed));
        assert!(ended.rolled_back.is_none(), "it may still be a moment");
        judge.end();
        matches!(judge.decided(), Some(Decision::RollBack { .. }))
    });
    assert_eq!(at_the_end.count(), 100, "a run that ends within it is judged by what was seen");
}

#[test]
fn scraped_counters_have_the_same_warm_up() {
    for interval in [5.0, 15.0] {
        let nulls: [(&str, World); 4] = [
            ("30 % of the first 200 fail", World { canary: cold, ..USUAL }),
            (
                "half of the first 25 s fail",
                World { canary: |_, age| if age < 25.0 { 0.5 } else { 0.001 }, ..USUAL },
            ),
            (
                "both alike, all fail for 40 s as it starts",
                World {
                    stable: |at| f64::from((5.0..45.0).contains(&at)).max(0.001),
                    canary: |at, _| f64::from((5.0..45.0).contains(&at)).max(0.001),
                    ..USUAL
                },
            ),
            (
                "both alike, all fail for 2 s of 20 s",
                World {
                    stable: |at| f64::from(at % 20.0 < 2.0).max(0.001),
                    canary: |at, _| f64::from(at % 20.0 < 2.0).max(0.001),
                    ..USUAL
                },
            ),
        ];
        for (name, world) in nulls {
            let name = format!("scrapes every {interval} s, {name}");
            assert_at_most_alpha(&name, world.scrapes(interval).print(&name).rolled_back);
        }
        let dead = World { canary: |_, _| 1.0, ..USUAL };
        for (name, world) in
            [("dead", dead), ("dead, and starts again every 20 s", World { restarts_every: 20.0, ..dead })]
        {
            let measured = world.scrapes(interval).print(&format!("scrapes every {interval} s, {name}"));
            assert!(measured.rolled_back > 0.999 && measured.most < 15.0 + 3.0 * interval, "{measured:?}");
        }
    }
}

#[test]
fn a_promotion_rests_on_no_answer_of_a_warm_up() {
    let good_at_first =
        World { canary: |_, age| if age < WARM_UP { 0.0 } else { 0.0101 }, rate: 200.0, ..USUAL };
    let name = "0 in its warm-up, and 1.01 % after it";
    assert_at_most_alpha(name, good_at_first.requests().print(name).promoted);
    let always_new = World { restarts_every: 20.0, ..USUAL }.requests().print("it starts again every 20 s");
    assert!(always_new.promoted == 0.0, "nothing else was seen: {always_new:?}");
}

#[test]
fn all_that_was_counted_is_judged_waits_or_is_left_out() {
    let world = World { canary: cold, until: 60.0, ..USUAL };
    let (_, judge) = world.run(settings(), &mut Rng::with_seed(1));
    let verdict = judge.verdict();
    let Batch { canary, stable, .. } = judge.counted();
    assert_eq!(verdict.canary.counts + verdict.waiting.canary + verdict.warm_up.canary, canary);
    assert_eq!(verdict.stable.counts + verdict.waiting.stable + verdict.warm_up.stable, stable);
    assert!(verdict.warm_up.canary.failures > 30 && verdict.canary.counts.failures < 5, "{verdict:?}");
    let text = verdict.to_string();
    let left_out = " Left out, because their pods had started less than 30s before: the canary has failed ";
    assert!(text.contains(left_out), "{text}");
    let json = serde_json::to_value(&verdict).unwrap();
    assert_eq!(json["warm_up"]["canary"]["failures"], verdict.warm_up.canary.failures);
    assert_eq!(json["settings"]["warm_up_ms"], 30_000.0);
}

#[test]
fn the_sentence_of_a_dead_canary_names_its_warm_up() {
    let world = World { canary: |_, _| 1.0, ..USUAL };
    let (_, judge) = world.run(settings(), &mut Rng::with_seed(1));
    let text = judge.verdict().to_string();
    assert!(text.starts_with("Roll back: the canary has failed all of its first "), "{text}");
    let json = serde_json::to_value(judge.verdict()).unwrap();
    assert!(json["clear_after"]["warm_up"]["failures"].as_u64().unwrap() > 50, "{json}");
    assert!(json["p_value"].as_f64().unwrap() <= ALPHA);

    let mut early = Judge::new(settings());
    let canary = Request::new(Some(Release::Canary), Outcome::Success).with_warm_up(true);
    early.observe(canary);
    let text = early.verdict().to_string();
    assert!(text.starts_with("Not yet: all answers of the canary are of its warm-up."), "{text}");
}
