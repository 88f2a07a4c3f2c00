//! Whether the judge keeps its promises on counters that are scraped at different moments.

use std::{env, time::Instant};

use fastrand::Rng;

use super::counters::{Closed, Counters, Kind, Quantity, Sample, Series};
use crate::{
    source::Interval,
    trial::{Coverage, Trial},
};
use canary_judge::{Decision, Release, Settings};

/// Seconds between scrapes.
const INTERVALS: [f64; 4] = [5.0, 15.0, 30.0, 60.0];
/// How long a run is, in seconds.
const TIME: u32 = 600;

/// How many runs there are of each kind: as many as `.ci/run` wants, or as many as cost little.
fn runs() -> u64 {
    env::var("SIMULATION_RUNS").ok().and_then(|runs| runs.parse().ok()).unwrap_or(400)
}

/// The most roll-backs in so many runs: α.
fn most_at_alpha(runs: u64) -> f64 {
    Settings::default().alpha.get() * runs as f64
}

/// A pod whose counters are scraped now and then.
struct Pod {
    release: Release,
    /// The moments of its scrapes, within the interval.
    offset: f64,
    counted: [f64; 2],
    scraped: [Vec<Sample>; 2],
}

/// What happens in a run.
struct World<'a> {
    /// Seconds between the scrapes of a pod.
    interval: f64,
    /// The failure rates of stable and the canary at a time.
    rates: &'a dyn Fn(f64) -> (f64, f64),
    /// Whether batches at the edge of a change are left out.
    edges: bool,
}

impl World<'_> {
    /// Three stable pods and a canary get 20 requests a second. Now and then a scrape is missing, or a pod restarts.
    fn trial(&self, rng: &mut Rng) -> Trial {
        let mut pods: Vec<_> = (0..4)
            .map(|number| Pod {
                release: if number == 3 { Release::Canary } else { Release::Stable },
                offset: rng.f64() * self.interval,
                counted: [0.0; 2],
                scraped: [Vec::new(), Vec::new()],
            })
            .collect();
        let mut counters = Counters::default();
        let mut trial = Trial::new(Settings::default(), None, Coverage::All, Instant::now());
        for second in 0..TIME {
            let time = f64::from(second);
            self.serve(&mut pods, time, rng);
            self.scrape(&mut pods, time, rng);
            if second % 5 == 0 {
                counters.observe(&look(&mut pods));
                if let Some(closed) = counters.close() {
                    self.tell(&mut trial, closed);
                }
            }
        }
        trial.end();
        trial
    }

    fn serve(&self, pods: &mut [Pod], time: f64, rng: &mut Rng) {
        let (stable, canary) = (self.rates)(time);
        for _ in 0..20 {
            let pod = &mut pods[rng.usize(0..4)];
            let rate = if pod.release == Release::Canary { canary } else { stable };
            pod.counted[0] += 1.0;
            pod.counted[1] += f64::from(u8::from(rng.f64() < rate));
        }
        if rng.f64() < 0.005 {
            pods[rng.usize(0..4)].counted = [0.0; 2]; // its container restarts
        }
    }

    fn scrape(&self, pods: &mut [Pod], time: f64, rng: &mut Rng) {
        for pod in pods {
            if (time - pod.offset).rem_euclid(self.interval) < 1.0 && rng.f64() > 0.02 {
                for (samples, value) in pod.scraped.iter_mut().zip(pod.counted) {
                    samples.push((time, value));
                }
            }
        }
    }

    fn tell(&self, trial: &mut Trial, closed: Closed) {
        let Closed { since, until, stable, canary } = closed;
        let length = std::time::Duration::from_secs_f64(until - since);
        let interval = Interval { since: None, length, stable, canary };
        let batch = interval.batch(|_| true);
        if self.edges { trial.observe_interval(&interval, batch) } else { trial.observe_batch(batch) }
    }

    /// In how many of the runs the canary was rolled back.
    fn roll_backs(&self, runs: u64) -> u64 {
        let decided = (0..runs).map(|seed| self.trial(&mut Rng::with_seed(seed)).decided());
        decided.filter(|decision| matches!(decision, Some(Decision::RollBack { .. }))).count() as u64
    }
}

/// What has been scraped since the last look.
fn look(pods: &mut [Pod]) -> Vec<Series> {
    let series = pods.iter_mut().enumerate().flat_map(|(number, pod)| {
        let release = pod.release;
        let quantities = [Quantity::Requests, Quantity::Failures].into_iter();
        quantities.zip(&mut pod.scraped).map(move |(quantity, samples)| Series {
            kind: Kind { release, quantity },
            target: Some(number.to_string()),
            version: String::new(),
            labels: number.to_string(),
            samples: std::mem::take(samples),
        })
    });
    series.filter(|series| !series.samples.is_empty()).collect()
}

/// Incidents that hit both releases alike: how long they are, every how many seconds, and how much fails.
const INCIDENTS: [(f64, f64, f64); 6] = [
    (30.0, 1e9, 0.5),
    (10.0, 1e9, 1.0),
    (60.0, 200.0, 0.1),
    (20.0, 100.0, 0.3),
    (40.0, 90.0, 0.2),
    (20.0, 70.0, 0.2),
];

fn incidents((length, every, rate): (f64, f64, f64)) -> impl Fn(f64) -> (f64, f64) {
    move |time| {
        let rate = if (time - 250.0).rem_euclid(every) < length { rate } else { 0.002 };
        (rate, rate)
    }
}

#[test]
fn incidents_of_both_releases_are_not_blamed_on_the_canary_however_scrapes_are_offset() {
    for interval in INTERVALS {
        for incident @ (length, every, rate) in INCIDENTS {
            let world = World { interval, rates: &incidents(incident), edges: true };
            let (runs, most) = (runs(), most_at_alpha(runs()));
            let rolled_back = world.roll_backs(runs);
            println!(
                "scrapes every {interval} s, {length} s of {rate} every {every} s: rolled back in {rolled_back} of {runs}"
            );
            assert!(rolled_back as f64 <= most, "{rolled_back} at {interval} s, {incident:?}");
        }
    }
}

#[test]
fn steady_failures_of_both_releases_are_not_blamed_on_the_canary() {
    for interval in INTERVALS {
        let world = World { interval, rates: &|_| (0.02, 0.02), edges: true };
        let (runs, most) = (runs(), most_at_alpha(runs()));
        let rolled_back = world.roll_backs(runs);
        println!("scrapes every {interval} s, steadily 2 % of both: rolled back in {rolled_back} of {runs}");
        assert!(rolled_back as f64 <= most, "{rolled_back} at {interval} s");
    }
}

#[test]
fn without_the_rule_for_edges_a_shared_incident_would_be_blamed_on_the_canary() {
    let world = World { interval: 30.0, rates: &incidents((30.0, 1e9, 0.5)), edges: false };
    let rolled_back = world.roll_backs(200);
    println!("without the rule, scrapes every 30 s: rolled back in {rolled_back} of 200");
    assert!(rolled_back > 20, "{rolled_back} of 200");
}

#[test]
fn a_canary_that_is_worse_is_still_found() {
    for interval in INTERVALS {
        for (stable, canary) in [(0.01, 0.1), (0.0, 0.05)] {
            let rolled_back = World { interval, rates: &|_| (stable, canary), edges: true }.roll_backs(100);
            println!(
                "scrapes every {interval} s, {stable} of stable and {canary} of the canary: rolled back in {rolled_back} of 100"
            );
            assert!(rolled_back >= 90, "{rolled_back} of 100 at {interval} s");
        }
    }
}
