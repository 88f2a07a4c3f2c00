//! Stable against itself: its pods form two halves, and each half is judged as if it were a canary beside the other.
//!
//! A pod's half is decided when the pod appears, in turn. The requests until then are left out, so how they end cannot
//! influence which half they belong to. If an outcome could choose the half, alike pods would look different.
//!
//! Each of the two directions has half of α, so if all pods are alike, the probability of "not fit" is at most α.

use std::{collections::HashMap, fmt};

use canary_judge::{
    Counts, Decision, FailingPod, Fraction, Judge, Outcome, Release, Request, Settings, Window, count,
};
use serde::Serialize;

use crate::{
    foreign::bounded,
    source::{Interval, Observation, Seen},
};

/// The maximum number of pods. Answers of later pods are left out.
const MOST_PODS: usize = 1000;
/// The number of pods of each half that a sentence names.
const MOST_NAMED: usize = 5;
/// The maximum length of a name in a sentence, in bytes.
const LONGEST_NAME: usize = 80;
const CONTEXT: &str = "docs/verdict.md#is-the-traffic-fit-to-be-judged";

/// What two halves of stable's pods show about the traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fitness {
    /// Either half would be promoted beside the other.
    Fit,
    /// One half is worse than the other, although both are stable.
    NotFit,
    /// There were too few answers.
    NotYet,
    /// Fewer than two pods of stable were named.
    NoHalves,
}

#[derive(Clone, Debug)]
struct Pod {
    half: Release,
    /// Requests with a smaller number are left out.
    from: u64,
    counts: Counts,
}

/// The two halves of stable's pods. The first one plays stable, and the second one plays the canary.
#[derive(Debug)]
pub struct Halves {
    pods: HashMap<String, Pod>,
    /// Their names, in the order in which they appeared.
    names: Vec<String>,
    /// The second half beside the first one, and the other way round. They do not get the names of pods: then they would
    /// not show a difference that differences within a half explain.
    judges: [Judge; 2],
    /// All of them, to find single pods. It decides nothing.
    single: Judge,
    /// One more than the greatest number of a request so far.
    next: u64,
    /// Stable's answers without the name of a pod.
    unnamed: u64,
    left_out: u64,
}

impl Halves {
    /// Without answers.
    ///
    /// # Errors
    /// Never, with a valid α: a half of it is valid, too.
    pub fn new(settings: Settings) -> Result<Self, canary_judge::InvalidNumber> {
        let half = Settings { alpha: Fraction::new(settings.alpha.get() / 2.0)?, ..settings };
        Ok(Self {
            pods: HashMap::new(),
            names: Vec::new(),
            judges: [Judge::new(half), Judge::new(half)],
            single: Judge::new(settings),
            next: 0,
            unnamed: 0,
            left_out: 0,
        })
    }

    /// Counts what a source yields.
    pub fn see(&mut self, seen: &Seen) {
        match seen {
            Seen::Request(observation) => self.observe(observation),
            Seen::Interval(interval) => self.observe_interval(interval),
            Seen::Health(_) | Seen::Trouble(_) => {}
        }
    }

    /// Counts a request, if it is of stable.
    pub fn observe(&mut self, observation: &Observation) {
        let number = observation.number;
        self.next = self.next.max(number.saturating_add(1));
        let of_stable = observation.attributed().filter(|(of, _)| of.release() == Some(Release::Stable));
        let placed = of_stable.and_then(|(_, outcome)| {
            let Some(pod) = observation.pod() else {
                self.unnamed += 1;
                return None;
            };
            Some((self.place(pod, number, |counts| counts.record(outcome))?, outcome, pod))
        });
        for (judge, turned) in self.judges.iter_mut().zip([false, true]) {
            let request = placed.map(|(half, outcome, _)| {
                let side = if turned { other(half) } else { half };
                request(side, outcome, observation)
            });
            judge.observe_numbered(number, request);
        }
        let single = placed
            .map(|(_, outcome, pod)| request(Release::Stable, outcome, observation).with_pod(Some(pod)));
        self.single.observe_numbered(number, single);
    }

    /// The number of a request that was not sent.
    pub fn skip(&mut self, number: u64) {
        for judge in self.judges.iter_mut().chain([&mut self.single]) {
            judge.observe_numbered(number, None);
        }
    }

    /// Counts so many of stable's answers without the name of a pod.
    pub fn observe_unnamed(&mut self, answers: u64) {
        self.unnamed += answers;
    }

    /// Counts the windows of stable.
    pub fn observe_interval(&mut self, interval: &Interval) {
        let mut placed = Vec::new();
        for one in &interval.windows {
            let window = &one.window;
            if window.release != Release::Stable {
                continue;
            }
            if window.pod.is_empty() {
                self.unnamed += window.counts.requests;
            } else if let Some(half) = self.place(&window.pod, u64::MAX, |counts| *counts += window.counts) {
                placed.push((half, window));
            }
        }
        for (judge, turned) in self.judges.iter_mut().zip([false, true]) {
            judge.observe_scrapes(placed.iter().map(|(half, window)| Window {
                release: if turned { other(*half) } else { *half },
                ..(*window).clone()
            }));
        }
    }

    /// The half of a pod. `None` if this is the pod's first answer, or it was sent before that.
    fn place(&mut self, name: &str, number: u64, add: impl FnOnce(&mut Counts)) -> Option<Release> {
        if let Some(pod) = self.pods.get_mut(name)
            && number >= pod.from
        {
            add(&mut pod.counts);
            return Some(pod.half);
        }
        self.left_out += 1;
        if self.names.len() < MOST_PODS && !self.pods.contains_key(name) {
            let half = if self.names.len().is_multiple_of(2) { Release::Stable } else { Release::Canary };
            self.names.push(name.to_owned());
            self.pods.insert(name.to_owned(), Pod { half, from: self.next, counts: Counts::default() });
        }
        None
    }

    /// Call this when no more requests will come.
    pub fn end(&mut self) {
        for judge in self.judges.iter_mut().chain([&mut self.single]) {
            judge.end();
        }
    }

    /// Whether one half is shown to be worse. That is final.
    pub fn differ(&self) -> bool {
        self.judges.iter().any(|judge| matches!(judge.decided(), Some(Decision::RollBack { .. })))
    }

    /// What is shown so far.
    pub fn fitness(&self) -> Fitness {
        let promoted = |judge: &Judge| matches!(judge.decided(), Some(Decision::Promote { .. }));
        if self.differ() {
            Fitness::NotFit
        } else if self.names.len() < 2 {
            Fitness::NoHalves
        } else if self.judges.iter().all(promoted) {
            Fitness::Fit
        } else {
            Fitness::NotYet
        }
    }

    /// The result, for people (`Display`) and for programs (`Serialize`).
    pub fn report(&self) -> HalvesReport {
        let of = |half| {
            let pods = self.names.iter().filter_map(|name| Some((name, self.pods.get(name)?)));
            let pods: Vec<_> = pods.filter(|(_, pod)| pod.half == half).collect();
            Half {
                counts: pods.iter().map(|(_, pod)| pod.counts).sum(),
                pods: pods.iter().map(|(name, _)| (*name).clone()).collect(),
            }
        };
        let p_values = self.judges.iter().map(|judge| judge.verdict().p_value);
        HalvesReport {
            aa: self.fitness(),
            halves: [of(Release::Stable), of(Release::Canary)],
            failing_pods: self.single.verdict().failing_pods.stable,
            p_value: (2.0 * p_values.fold(1.0, f64::min)).min(1.0),
            unnamed: self.unnamed,
            left_out: self.left_out,
        }
    }
}

fn other(half: Release) -> Release {
    match half {
        Release::Stable => Release::Canary,
        Release::Canary => Release::Stable,
    }
}

fn request(side: Release, outcome: Outcome, observation: &Observation) -> Request<'_> {
    Request::new(Some(side), outcome)
        .with_stratum(observation.stratum.as_deref())
        .with_latency(observation.latency())
}

/// A half of stable's pods.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Half {
    /// Its pods.
    pub pods: Vec<String>,
    /// Their answers.
    #[serde(flatten)]
    pub counts: Counts,
}

impl fmt::Display for Half {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.pods.iter().take(MOST_NAMED).map(|name| bounded(name, LONGEST_NAME));
        let names = names.collect::<Vec<_>>().join(", ");
        let more = self.pods.len().saturating_sub(MOST_NAMED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let Counts { requests, failures, .. } = self.counts;
        write!(f, "{names}{more}: {} of {}", count(failures), count(requests))
    }
}

/// What two halves of stable's pods have shown.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HalvesReport {
    /// The result.
    pub aa: Fitness,
    /// The two halves.
    pub halves: [Half; 2],
    /// Pods that fail more often than all other pods of stable. They decide nothing.
    pub failing_pods: Vec<FailingPod>,
    /// The smallest α at which the result would be "not fit".
    pub p_value: f64,
    /// Stable's answers without the name of a pod. They are not compared.
    pub unnamed: u64,
    /// Answers, or windows of counters, that are not compared, because the half of their pod was not decided before.
    pub left_out: u64,
}

impl fmt::Display for HalvesReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [first, second] = &self.halves;
        match self.aa {
            Fitness::Fit => write!(
                f,
                "Fit: no clear difference between two halves of stable's pods ({first} failed; {second} failed). This \
                 shows only differences between pods, and nothing about later traffic."
            )?,
            Fitness::NotFit => write!(
                f,
                "Not fit: two halves of stable's pods differ, though all are stable ({first} failed; {second} \
                 failed). A canary could look worse in the same way. For causes, see {CONTEXT}."
            )?,
            Fitness::NotYet => write!(
                f,
                "Not yet: no difference between two halves of stable's pods, and too few answers to say that they \
                 are alike ({first} failed; {second} failed)."
            )?,
            Fitness::NoHalves => f.write_str("Not compared: fewer than two pods of stable were named.")?,
        }
        for FailingPod { pod, counts, others } in self.failing_pods.iter().take(MOST_NAMED) {
            let (pod, failures) = (bounded(pod, LONGEST_NAME), count(counts.failures));
            let [requests, of_others, all_others] =
                [counts.requests, others.failures, others.requests].map(count);
            write!(
                f,
                " The pod {pod} fails more often than the others: {failures} of {requests}, the others {of_others} of \
                 {all_others}."
            )?;
        }
        if self.unnamed > 0 {
            let unnamed = count(self.unnamed);
            write!(f, " Not compared, because they name no pod: {unnamed} of stable's answers.")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{env, time::Instant};

    use fastrand::Rng;

    use super::*;
    use crate::source::{Answer, Attribution, CountedWindow, Response};

    fn answer(number: u64, sent: Instant, pod: &str, failed: bool) -> Observation {
        let response = Response::Answer(Answer {
            attribution: Attribution::Release(Release::Stable),
            outcome: if failed { Outcome::Failure } else { Outcome::Success },
            status: None,
            latency: None,
            pod: Some(pod.to_owned()),
            info: None,
        });
        Observation { number, sent, started: None, stratum: None, response }
    }

    /// 10 requests a second, for so many seconds. `rate` is the failure rate of a pod at a time.
    fn run(
        rng: &mut Rng,
        seconds: u32,
        pods: usize,
        mut rate: impl FnMut(usize, f64, &mut Rng) -> f64,
    ) -> (Fitness, f64) {
        let mut halves = Halves::new(Settings::default()).expect("a valid half of alpha");
        let sent = Instant::now();
        let requests = seconds * 10;
        for number in 0..requests {
            let (pod, time) = (rng.usize(..pods), f64::from(number) / 10.0);
            let failed = rng.f64() < rate(pod, time, rng);
            halves.observe(&answer(number.into(), sent, &format!("pod-{pod}"), failed));
            if halves.differ() {
                return (Fitness::NotFit, time);
            }
        }
        halves.end();
        (halves.fitness(), seconds.into())
    }

    fn normal(rng: &mut Rng) -> f64 {
        (-2.0 * (1.0 - rng.f64()).ln()).sqrt() * (std::f64::consts::TAU * rng.f64()).cos()
    }

    /// The share of runs that are not fit, and of those that are fit. `canary-judge`'s settings are the default ones.
    fn measured(
        what: &str,
        seconds: u32,
        pods: usize,
        rates: impl Fn(&mut Rng) -> Vec<(f64, f64, f64)>,
        incident: f64,
    ) -> (f64, f64) {
        let runs = env::var("SIMULATION_RUNS").map_or(100, |runs| runs.parse::<u32>().expect("a number"));
        let (mut not_fit, mut fit) = (Vec::new(), 0);
        for seed in 0..runs {
            let mut rng = Rng::with_seed(1_000_000 + u64::from(seed));
            let pods_rates = rates(&mut rng); // the rate, the phase of its hiccups, and their period
            let result = run(&mut rng, seconds, pods, |pod, time, _| {
                let (rate, phase, period) = pods_rates[pod];
                let hiccups = period > 0.0 && (time + phase) % period < 1.0;
                let shared = if time % 100.0 < 10.0 { incident } else { 0.0 };
                if hiccups { 1.0 } else { 1.0 - (1.0 - rate) * (1.0 - shared) }
            });
            match result {
                (Fitness::NotFit, time) => not_fit.push(time),
                (Fitness::Fit, _) => fit += 1,
                _ => {}
            }
        }
        not_fit.sort_by(f64::total_cmp);
        let share = |number: usize| 100.0 * number as f64 / f64::from(runs);
        let median = not_fit.get(not_fit.len() / 2).copied().unwrap_or(f64::NAN);
        println!(
            "{what}: not fit {:.1} %, median {median:.0} s, fit {:.1} %",
            share(not_fit.len()),
            share(fit)
        );
        (share(not_fit.len()), share(fit))
    }

    #[test]
    fn alike_pods_are_rarely_not_fit_and_differences_are_found() {
        let alike = |rate: f64| move |_: &mut Rng| vec![(rate, 0.0, 0.0); 4];
        let (not_fit, fit) = measured("alike, 0.1 %", 300, 4, alike(0.001), 0.0);
        assert!(not_fit <= 5.0 && fit >= 50.0, "{not_fit} {fit}");
        assert!(measured("alike, 5 %", 300, 4, alike(0.05), 0.0).0 <= 5.0);
        assert!(measured("alike, shared incidents", 300, 4, alike(0.005), 0.5).0 <= 5.0);
        let one_bad =
            |_: &mut Rng| vec![(0.05, 0.0, 0.0), (0.005, 0.0, 0.0), (0.005, 0.0, 0.0), (0.005, 0.0, 0.0)];
        assert!(measured("one pod 5 %, others 0.5 %", 300, 4, one_bad, 0.0).0 >= 50.0);
        let sticky = |_: &mut Rng| vec![(0.2, 0.0, 0.0), (0.0, 0.0, 0.0), (0.0, 0.0, 0.0), (0.0, 0.0, 0.0)];
        assert!(measured("a sticky client that always fails", 300, 4, sticky, 0.0).0 >= 95.0);
        // these are reported, whatever they are
        let hiccups = |rng: &mut Rng| (0..4).map(|_| (0.0, 120.0 * rng.f64(), 120.0)).collect();
        measured("hiccups, 1 s of 120 s", 300, 4, hiccups, 0.0);
        measured("hiccups, two pods", 300, 2, hiccups, 0.0);
        let spread = |rng: &mut Rng| (0..4).map(|_| (0.05 * (0.3 * normal(rng)).exp(), 0.0, 0.0)).collect();
        measured("5 %, sigma 0.3", 300, 4, spread, 0.0);
        measured("5 %, sigma 0.3, 1800 s", 1800, 4, spread, 0.0);
    }

    #[test]
    fn a_pods_half_is_decided_before_its_answers_count() {
        let mut halves = Halves::new(Settings::default()).expect("a valid half of alpha");
        let sent = Instant::now();
        // the answer to request 3 makes the pod known, so that those to 0 to 2 do not count
        for (number, pod, failed) in
            [(3, "a", true), (0, "a", true), (1, "b", true), (4, "b", false), (5, "a", false)]
        {
            halves.observe(&answer(number, sent, pod, failed));
        }
        let report = halves.report();
        assert_eq!(report.left_out, 3);
        let [first, second] = report.halves;
        assert_eq!((first.pods, first.counts.requests, first.counts.failures), (vec!["a".to_owned()], 1, 0));
        assert_eq!(
            (second.pods, second.counts.requests, second.counts.failures),
            (vec!["b".to_owned()], 1, 0)
        );
    }

    #[test]
    fn counters_of_pods_are_compared_and_a_canarys_are_left_out() {
        for bad in ["c", "d"] {
            let mut halves = Halves::new(Settings::default()).expect("a valid half of alpha");
            let at = Instant::now();
            for round in 0..40_u32 {
                let clock = f64::from(round) * 15.0;
                let windows = ["canary", "a", "b", "c", "d"].map(|pod| CountedWindow {
                    version: String::new(),
                    window: Window {
                        release: if pod == "canary" { Release::Canary } else { Release::Stable },
                        pod: pod.into(),
                        since: clock - 15.0,
                        until: clock,
                        counts: Counts {
                            requests: 100,
                            failures: if pod == "canary" || pod == bad { 30 } else { 0 },
                            slow: 0,
                        },
                        restarted: false,
                        is_warm_up: false,
                        strata: Vec::new(),
                        latencies: Vec::new(),
                    },
                    started: None,
                });
                halves.observe_interval(&Interval { at, clock, began: -15.0, windows: windows.to_vec() });
            }
            halves.end();
            let report = halves.report();
            assert_eq!(report.aa, Fitness::NotFit, "{report}");
            assert!(report.halves.iter().all(|half| half.counts.requests == 2 * 39 * 100), "{report}");
        }
    }
}
