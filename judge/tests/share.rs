//! A loop in which the weight follows `max_share`, by simulation: whether the judge's promises still hold, and what it
//! costs beside usual ladders. `cargo test -p canary-judge --test share -- --nocapture` prints the measured figures, and
//! `SIMULATION_RUNS=1000` sets more runs. `docs/verdict.md` has the figures.

use std::{env, num::NonZeroU32, sync::Arc};

use canary_judge::{Counts, Decision, Judge, Outcome, Release, Request, Settings, Window};
use rand::{Rng, SeedableRng, rngs::SmallRng};
use rand_distr::{Binomial, Distribution, Poisson};

const ALPHA: f64 = 0.05;
/// The simulation goes in steps of this many seconds.
const STEP: f64 = 0.5;

fn runs(default: u32) -> u32 {
    let Ok(runs) = env::var("SIMULATION_RUNS") else { return default };
    runs.parse::<NonZeroU32>().unwrap_or_else(|error| panic!("SIMULATION_RUNS={runs}: {error}")).get()
}

/// What the judge sees.
#[derive(Clone, Copy, Debug)]
enum Seen {
    /// A prober's requests, so many a second, through the same balancer.
    Probes(f64),
    /// Counters of three pods of stable and one of the canary, scraped every so many seconds.
    Scrapes(f64),
}

/// How the weight moves.
#[derive(Clone, Copy, Debug)]
enum Mover {
    /// It follows `max_share`, every five seconds.
    Follows,
    /// It has this share until there is a decision.
    Stays(f64),
    /// It begins with the first number, and rises by the second one every so many seconds, up to the last one. At the top, it
    /// waits for a promotion.
    Ladder(f64, f64, f64, f64),
}

/// Who decides.
#[derive(Clone, Copy, Debug, PartialEq)]
enum By {
    Judge,
    /// As in Flagger's tutorial: a success rate of at least 99 % in each minute; five bad minutes are a roll-back. The top of
    /// the ladder, and one more minute, is a promotion.
    Flagger,
    /// As in Argo Rollouts' documentation: a success rate of at least 95 % in each interval of five minutes; four bad ones are
    /// a roll-back.
    Argo,
}

/// The failure rate at each time.
type Rate = fn(f64) -> f64;
/// The failure rate by the time and by the share.
type RateOfShare = fn(f64, f64) -> f64;

/// What the canary fails.
#[derive(Clone, Copy)]
enum Canary {
    /// The same as stable.
    Alike,
    /// So much more than stable.
    MoreBy(f64),
    /// By the time and by its share.
    Own(RateOfShare),
}

#[derive(Clone, Copy)]
struct World {
    rate: f64,
    stable: Rate,
    canary: Canary,
    seen: Seen,
    mover: Mover,
    by: By,
    until: f64,
}

const USUAL: World = World {
    rate: 100.0,
    stable: |_| 0.001,
    canary: Canary::Alike,
    seen: Seen::Probes(20.0),
    mover: Mover::Follows,
    by: By::Judge,
    until: 1200.0,
};

#[derive(Clone, Copy, Debug, Default)]
struct Ended {
    rolled_back: Option<f64>,
    promoted: Option<f64>,
    /// When it had half of the traffic.
    half: Option<f64>,
    /// Users' requests that failed at the canary, and would not have failed at stable.
    cost: f64,
    /// The greatest expected burn of the error budget by the canary, once its share was chosen.
    burn: f64,
}

/// A pod's counters, and the moment of its last scrape.
struct Pod {
    release: Release,
    name: Arc<str>,
    offset: f64,
    counts: Counts,
    scraped: Option<f64>,
}

impl World {
    fn run(&self, rng: &mut SmallRng) -> Ended {
        let mut judge = Judge::new(Settings::default());
        let mut ended = Ended::default();
        let interval = if let Seen::Scrapes(interval) = self.seen { interval } else { 1.0 };
        let mut pods: Vec<Pod> = ["one", "two", "three", "canary"]
            .map(|name| Pod {
                release: if name == "canary" { Release::Canary } else { Release::Stable },
                name: name.into(),
                offset: rng.random::<f64>() * interval,
                counts: Counts::default(),
                scraped: None,
            })
            .into();
        let mut share = match self.mover {
            Mover::Follows => 0.01,
            Mover::Stays(share) | Mover::Ladder(share, ..) => share,
        };
        let (mut of_interval, mut bad_intervals) = (Counts::default(), 0);
        let times = (0..).map(|step| f64::from(step) * STEP).take_while(|at| *at < self.until);
        for at in times {
            let stable = (self.stable)(at);
            let canary = match self.canary {
                Canary::Alike => stable,
                Canary::MoreBy(more) => (stable + more).min(1.0),
                Canary::Own(rate) => rate(at, share),
            };
            let rates = [stable, canary];
            if ended.promoted.is_none() {
                ended.burn = ended.burn.max(share * (rates[1] - rates[0]) / 0.001);
            }
            let users = poisson(self.rate * STEP, rng);
            let of_canary = binomial(users, share, rng);
            let canary =
                Counts { requests: of_canary, failures: binomial(of_canary, rates[1], rng), slow: 0 };
            let of_stable = users - of_canary;
            let stable =
                Counts { requests: of_stable, failures: binomial(of_stable, rates[0], rng), slow: 0 };
            if rates[1] > 0.0 {
                ended.cost += canary.failures as f64 * (rates[1] - rates[0]).max(0.0) / rates[1];
            }
            of_interval += canary;
            match self.seen {
                Seen::Probes(rate) => {
                    for _ in 0..poisson(rate * STEP, rng) {
                        let is_canary = rng.random::<f64>() < share;
                        let failed = rng.random::<f64>() < rates[usize::from(is_canary)];
                        let release = if is_canary { Release::Canary } else { Release::Stable };
                        let outcome = if failed { Outcome::Failure } else { Outcome::Success };
                        judge.observe(Request::new(Some(release), outcome));
                    }
                }
                Seen::Scrapes(interval) => scrape(&mut pods, [stable, canary], at, interval, &mut judge, rng),
            }
            let (rolls_back, promotes) = match self.by {
                By::Judge => match judge.decided() {
                    Some(Decision::RollBack { .. }) => (true, false),
                    Some(Decision::Promote { .. }) => (false, self.is_at_the_top(share)),
                    _ => (false, false),
                },
                By::Flagger | By::Argo => {
                    let (every, least, most) =
                        if self.by == By::Flagger { (60.0, 0.99, 5) } else { (300.0, 0.95, 4) };
                    if (at + STEP) % every < STEP && of_interval.requests > 0 {
                        bad_intervals += u32::from(1.0 - of_interval.rate().unwrap_or(0.0) < least);
                        of_interval = Counts::default();
                    }
                    (bad_intervals >= most, self.is_at_the_top(share) && at >= self.top() + every)
                }
            };
            if rolls_back {
                ended.rolled_back = Some(at);
                return ended;
            }
            if promotes && ended.promoted.is_none() {
                ended.promoted = Some(at);
            }
            share = match self.mover {
                _ if ended.promoted.is_some() => 1.0,
                Mover::Follows if at % 5.0 < STEP => judge.verdict().max_share,
                Mover::Follows | Mover::Stays(_) => share,
                Mover::Ladder(first, more, every, most) => (first + more * (at / every).floor()).min(most),
            };
            if share >= 0.5 && ended.half.is_none() {
                ended.half = Some(at);
            }
        }
        ended
    }

    fn is_at_the_top(&self, share: f64) -> bool {
        match self.mover {
            Mover::Follows | Mover::Stays(_) => true,
            Mover::Ladder(_, _, _, most) => share >= most,
        }
    }

    /// When the ladder is at its top.
    fn top(&self) -> f64 {
        match self.mover {
            Mover::Follows | Mover::Stays(_) => 0.0,
            Mover::Ladder(first, more, every, most) => ((most - first) / more).ceil() * every,
        }
    }

    fn all(&self, runs: u32) -> Measured {
        let ended: Vec<_> =
            (0..runs).map(|seed| self.run(&mut SmallRng::seed_from_u64(seed.into()))).collect();
        let share = |happened: fn(&Ended) -> Option<f64>| {
            ended.iter().filter_map(happened).count() as f64 / ended.len() as f64
        };
        let median = |of: fn(&Ended) -> Option<f64>| {
            let mut all: Vec<_> = ended.iter().map(|one| of(one).unwrap_or(f64::INFINITY)).collect();
            all.sort_by(f64::total_cmp);
            all[all.len() / 2]
        };
        Measured {
            rolled_back: share(|one| one.rolled_back),
            promoted: share(|one| one.promoted),
            half: median(|one| one.half),
            all: median(|one| one.promoted),
            until_roll_back: median(|one| one.rolled_back),
            cost: ended.iter().map(|one| one.cost).sum::<f64>() / ended.len() as f64,
            burnt_too_much: ended.iter().filter(|one| one.burn > MAX_BURN + 1e-9).count() as f64
                / ended.len() as f64,
            burn: ended.iter().map(|one| one.burn).fold(0.0, f64::max),
        }
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small count")]
fn poisson(mean: f64, rng: &mut SmallRng) -> u64 {
    Poisson::new(mean).expect("a mean").sample(rng) as u64
}

fn binomial(requests: u64, rate: f64, rng: &mut SmallRng) -> u64 {
    Binomial::new(requests, rate).expect("a probability").sample(rng)
}

/// Adds the requests of a step to the pods, and gives the judge what a scrape now sees.
fn scrape(
    pods: &mut [Pod],
    [stable, canary]: [Counts; 2],
    at: f64,
    interval: f64,
    judge: &mut Judge,
    rng: &mut SmallRng,
) {
    for (outcome, counts) in [(Outcome::Failure, stable.failures), (Outcome::Success, stable.successes())] {
        let mut left = counts;
        for (pod, parts) in pods.iter_mut().zip([3, 2, 1]) {
            let its = binomial(left, 1.0 / f64::from(parts), rng);
            left -= its;
            let failures = if outcome.failed() { its } else { 0 };
            pod.counts += Counts { requests: its, failures, slow: 0 };
        }
    }
    pods[3].counts += canary;
    for pod in pods {
        if (at - pod.offset).rem_euclid(interval) >= STEP {
            continue;
        }
        let counts = std::mem::take(&mut pod.counts);
        let (since, counts) = pod.scraped.map_or((at, Counts::default()), |since| (since, counts));
        pod.scraped = Some(at);
        let (release, pod) = (pod.release, Arc::clone(&pod.name));
        let (strata, latencies) = (Vec::new(), Vec::new());
        let (restarted, is_warm_up) = (false, false);
        let window =
            Window { release, pod, since, until: at, counts, restarted, is_warm_up, strata, latencies };
        judge.observe_scrapes([window]);
    }
}

#[derive(Clone, Copy, Debug)]
struct Measured {
    rolled_back: f64,
    promoted: f64,
    half: f64,
    all: f64,
    until_roll_back: f64,
    cost: f64,
    burn: f64,
    /// The share of runs in which it burnt more than is allowed before the promotion.
    burnt_too_much: f64,
}

impl Measured {
    fn print(self, what: &str) -> Self {
        let Self { rolled_back, promoted, half, all, until_roll_back, cost, burn, burnt_too_much } = self;
        let too_much = 100.0 * burnt_too_much;
        println!(
            "{what}: rolled back {:.1} % (median {until_roll_back:.0} s), promoted {:.1} % (median {all:.0} s), half after \
             {half:.0} s, cost {cost:.1}, burn {burn:.1}, too much in {too_much:.1} %",
            100.0 * rolled_back,
            100.0 * promoted
        );
        self
    }
}

#[track_caller]
fn assert_at_most_alpha(what: &str, measured: f64, runs: u32) {
    let standard_error = (ALPHA * (1.0 - ALPHA) / f64::from(runs)).sqrt();
    assert!(measured <= ALPHA + standard_error, "{what}: {measured}");
}

const SOURCES: [Seen; 3] = [Seen::Probes(20.0), Seen::Scrapes(15.0), Seen::Scrapes(30.0)];

fn part(at: f64, length: f64, every: f64, part: f64) -> f64 {
    if at % every < length { part } else { 0.001 }
}

#[test]
fn a_loop_that_follows_the_evidence_keeps_the_judges_promises() {
    let runs = runs(50);
    let alike: [(&str, Rate); 8] = [
        ("0.1 %", |_| 0.001),
        ("1 %", |_| 0.01),
        ("5 %", |_| 0.05),
        ("all of 5 s in 60 s", |at| part(at, 5.0, 60.0, 1.0)),
        ("all of 30 s in 300 s", |at| part(at, 30.0, 300.0, 1.0)),
        ("a fifth of 20 s in 100 s", |at| part(at, 20.0, 100.0, 0.2)),
        ("half of 2 s in 10 s", |at| part(at, 2.0, 10.0, 0.5)),
        ("5 % of 60 s in 200 s", |at| part(at, 60.0, 200.0, 0.05)),
    ];
    for (name, stable) in alike {
        for seen in SOURCES {
            // both releases have the same course
            let world = World { stable, seen, ..USUAL };
            let measured = world.all(runs);
            let name = format!("both alike, {name}, {seen:?}");
            assert_at_most_alpha(&name, measured.print(&name).rolled_back, runs);
        }
    }
    for (name, stable) in [alike[0], alike[3], alike[5]] {
        for seen in SOURCES {
            let world = World { stable, seen, canary: Canary::MoreBy(0.011), ..USUAL };
            let measured = world.all(runs);
            let name = format!("1.1 % more than stable, {name}, {seen:?}");
            assert_at_most_alpha(&name, measured.print(&name).promoted, runs);
        }
    }
}

/// The default of `--max-burn`, with a limit of 1 % and an objective of 99.9 %.
const MAX_BURN: f64 = 10.0;

#[test]
fn the_canary_burns_no_more_than_allowed_until_the_promotion_whatever_the_traffic() {
    let runs = runs(20);
    for (rate, until) in [(1.0, 20_000.0), (10.0, 3600.0), (100.0, 1200.0), (1000.0, 300.0)] {
        for (name, canary) in CANARIES.into_iter().take(6) {
            let seen = Seen::Probes(rate);
            let world = World { canary: Canary::Own(canary), rate, seen, until, ..USUAL };
            let measured = world.all(runs).print(&format!("{rate} a second, {name}, follows"));
            // an error of the bound has a probability of at most 0.9 α
            let standard_error = (ALPHA * (1.0 - ALPHA) / f64::from(runs)).sqrt();
            assert!(measured.burnt_too_much <= ALPHA + standard_error, "{measured:?}");
            if name == "dead" {
                assert!(measured.rolled_back > 0.999 && measured.cost < 15.0, "{measured:?}");
            }
            if name == "well" {
                assert!(measured.promoted > 0.9, "{measured:?}");
            }
        }
    }
}

/// The canaries of which the cost is measured.
const CANARIES: [(&str, RateOfShare); 8] = [
    ("dead", |_, _| 1.0),
    ("20 %", |_, _| 0.2),
    ("5 %", |_, _| 0.05),
    ("2 %", |_, _| 0.02),
    ("0.5 %", |_, _| 0.005),
    ("well", |_, _| 0.001),
    ("10 % from the third minute on", |at, _| if at < 180.0 { 0.001 } else { 0.1 }),
    ("10 % above 30 % of the traffic", |_, share| if share <= 0.3 { 0.001 } else { 0.1 }),
];

#[test]
fn following_the_evidence_costs_less_than_a_ladder_and_is_faster() {
    let runs = runs(10);
    let movers = [
        ("follows", Mover::Follows, By::Judge),
        ("a quarter at once", Mover::Stays(0.25), By::Judge),
        ("10 % more every minute", Mover::Ladder(0.1, 0.1, 60.0, 0.5), By::Judge),
        ("5, 25, 45 % for ten minutes", Mover::Ladder(0.05, 0.2, 600.0, 0.45), By::Judge),
        ("10 % more every minute, thresholds of Flagger", Mover::Ladder(0.1, 0.1, 60.0, 0.5), By::Flagger),
        ("20 % more every ten minutes, thresholds of Argo", Mover::Ladder(0.2, 0.2, 600.0, 0.8), By::Argo),
    ];
    for (canary_name, canary) in CANARIES {
        for (name, mover, by) in movers {
            let world = World {
                canary: Canary::Own(canary),
                seen: Seen::Probes(100.0),
                mover,
                by,
                until: 3600.0,
                ..USUAL
            };
            let measured = world.all(runs);
            measured.print(&format!("100 a second, {canary_name}, {name}"));
            if let (Mover::Follows, Canary::Own(_), "dead") = (mover, world.canary, canary_name) {
                assert!(measured.cost < 15.0, "{measured:?}");
            }
            if let (Mover::Follows, "well") = (mover, canary_name) {
                assert!(measured.half < 60.0 && measured.all < 120.0, "{measured:?}");
            }
        }
    }
}
