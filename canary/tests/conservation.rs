//! Conservation: what was counted is what the verdict rests on, what waits, and what was left out. At every moment, for
//! every source, and no sentence denies it. And a record says the same again.

use std::{
    io::Cursor,
    time::{Duration, Instant},
};

use canary::{
    source::{
        Answer, Attribution, Cause, CountedWindow, Health, Interval, NoAnswer, Observation, Response, Seen,
        lines::{End, Entry, Reader},
    },
    trial::{Coverage, Trial},
};
use canary_judge::{Batch, Counts, Decision, Outcome, Release, Settings, Window};
use proptest::prelude::*;

/// An outcome of a random request, and after how many later requests it is known.
#[derive(Clone, Debug)]
struct Ending {
    response: Response,
    takes: usize,
}

fn attribution() -> impl Strategy<Value = Attribution> {
    prop_oneof![
        6 => Just(Attribution::Release(Release::Stable)),
        3 => Just(Attribution::Release(Release::Canary)),
        1 => Just(Attribution::Unnamed),
        1 => Just(Attribution::Other("experiment".to_owned())),
    ]
}

fn ending() -> impl Strategy<Value = Ending> {
    let outcome = prop_oneof![
        6 => Just(Outcome::Success),
        1 => Just(Outcome::Slow),
        3 => Just(Outcome::Failure),
    ];
    let answer = (attribution(), outcome, 0..3_usize).prop_map(|(attribution, outcome, pod)| {
        let latency = Some(Duration::from_millis(if outcome == Outcome::Slow { 400 } else { 2 }));
        let pod = Some(format!("pod-{pod}"));
        Response::Answer(Answer { attribution, outcome, status: None, latency, pod, info: None })
    });
    let no_answer = prop_oneof![
        Just(Attribution::NoAnswer),
        Just(Attribution::Release(Release::Canary)),
        Just(Attribution::Release(Release::Stable)),
    ];
    let no_answer = no_answer.prop_map(|attribution| {
        let cause = Cause::TimedOut;
        Response::NoAnswer(NoAnswer { attribution, cause, detail: cause.to_string(), pod: None, info: None })
    });
    let unsent = Just(Response::Unsent("no open file".to_owned()));
    let response = prop_oneof![12 => answer, 2 => no_answer, 1 => unsent];
    (response, prop_oneof![5 => Just(0), 1 => 0..40_usize])
        .prop_map(|(response, takes)| Ending { response, takes })
}

/// The requests in the order in which they end.
fn requests() -> impl Strategy<Value = Vec<(usize, Response)>> {
    prop::collection::vec(ending(), 0..300).prop_map(|endings| {
        let mut ended: Vec<_> = endings
            .into_iter()
            .enumerate()
            .map(|(number, Ending { response, takes })| (number + takes, number, response))
            .collect();
        ended.sort_by_key(|(end, number, _)| (*end, *number));
        ended.into_iter().map(|(_, number, response)| (number, response)).collect()
    })
}

fn settings(warm_up: Option<Duration>) -> Settings {
    Settings { max_latency: Some(Duration::from_millis(300)), warm_up, ..Settings::default() }
}

fn trial(began: Instant) -> Trial {
    Trial::new(settings(None), None, Coverage::All, began)
}

/// The counts of a trial's verdict: what it rests on, what waits, and what is left out of a warm-up.
fn accounted(trial: &Trial, now: Instant) -> Batch {
    let verdict = trial.verdict(now);
    let mut sum = verdict.waiting;
    sum += verdict.warm_up;
    sum += Batch {
        stable: verdict.stable.counts,
        canary: verdict.canary.counts,
        unattributed: verdict.unattributed,
    };
    sum
}

/// Whether the sentence denies an answer or a failure of the canary.
fn denies(trial: &Trial, counted: Batch, now: Instant) -> bool {
    let sentence = trial.verdict(now).to_string();
    let never = ["the canary has not answered.", "the canary has not answered "];
    let silent = "the canary has not answered for ";
    counted.canary.requests > 0
        && never.iter().any(|text| sentence.contains(text))
        && !sentence.contains(silent)
}

/// What a record of the trial says.
fn replayed(record: Vec<u8>, now: Instant) -> (Trial, Instant) {
    let (mut trial, mut at) = (trial(now), now);
    for line in Reader::new(Cursor::new(record), None, now) {
        let line = line.expect("a good line");
        at = line.at.unwrap_or(at);
        match line.entry {
            Entry::Header(header) => {
                trial = Trial::new(header.settings, header.budget, header.coverage, now);
            }
            Entry::Outcome(observation) => trial.observe(&observation),
            Entry::Scraped(interval) => trial.observe_interval(&interval, |_| true),
            Entry::Health(health) => trial.observe_health(&health),
            Entry::Unsent(number) => trial.skip(number),
            Entry::Interval(stratum, batch) => trial.observe_batch(stratum.as_deref(), batch),
            Entry::End(End::Over) => trial.end(),
            Entry::End(End::Decided | End::Stopped) => {}
        }
    }
    (trial, at)
}

/// A pod's counters, scraped at its own moments: the beginning, the lengths of its windows, and their counts.
fn pod(release: Release, name: &'static str, divided: bool) -> impl Strategy<Value = Vec<Window>> {
    let counts = (0..40_u64)
        .prop_flat_map(|requests| (Just(requests), 0..=requests))
        .prop_map(|(requests, failures)| Counts { requests, failures, slow: failures / 2 });
    let windows = prop::collection::vec((1.0..20.0_f64, counts, prop::bool::weighted(0.1)), 0..30);
    (0.0..10.0_f64, windows).prop_map(move |(began, windows)| {
        let mut until = began;
        let of = |(length, counts, restarted): (f64, Counts, bool)| {
            let since = until;
            until += length;
            // a part without a name is left
            let half = |count: u64| count / 2;
            let part = Counts {
                requests: half(counts.requests),
                failures: half(counts.failures),
                slow: half(counts.slow),
            };
            let strata = if divided { vec![("/a".into(), part)] } else { Vec::new() };
            let (pod, is_warm_up, latencies) = (name.into(), false, Vec::new());
            Window { release, pod, since, until, counts, restarted, is_warm_up, strata, latencies }
        };
        let baseline = Window {
            release,
            pod: name.into(),
            since: began,
            until: began,
            counts: Counts::default(),
            restarted: false,
            is_warm_up: false,
            strata: Vec::new(),
            latencies: Vec::new(),
        };
        [baseline].into_iter().chain(windows.into_iter().map(of)).collect()
    })
}

/// Of pods of both releases, with the parts of a stratum or without.
fn intervals() -> impl Strategy<Value = Vec<Vec<Window>>> {
    any::<bool>().prop_flat_map(|divided| {
        let pods = (
            pod(Release::Stable, "one", divided),
            pod(Release::Stable, "two", divided),
            pod(Release::Canary, "three", divided),
            pod(Release::Canary, "four", divided),
        );
        pods.prop_map(|(one, two, three, four)| {
            let mut windows = [one, two, three, four].concat();
            windows.sort_by(|a, b| a.until.total_cmp(&b.until));
            windows.chunks(5).map(<[Window]>::to_vec).collect()
        })
    })
}

proptest! {
    #[test]
    fn each_request_is_judged_or_waits_or_is_left_out_whatever_the_order_of_arrival(
        requests in requests(),
        divided in any::<bool>(),
        health in prop::collection::vec((0..40_usize, 0..3_u64, prop::option::of(0..60_u64)), 0..4),
        warm_up in prop::option::of(1..400_u64),
        started in prop::option::of(0..200_u64),
    ) {
        let began = Instant::now();
        let settings = settings(warm_up.map(Duration::from_millis));
        let mut trial = Trial::new(settings, None, Coverage::All, began);
        let started = started.and_then(|earlier| began.checked_sub(Duration::from_millis(earlier)));
        let mut recorder = trial.record_to(Vec::new()).unwrap();
        let mut counted = Batch::default();
        for (place, (number, response)) in requests.into_iter().enumerate() {
            let now = began + Duration::from_millis(10 * place as u64);
            let sent = began + Duration::from_millis(number as u64);
            for (_, restarts, unready) in health.iter().filter(|(at, ..)| *at == place) {
                // what Kubernetes tells about pods changes no count
                let unready = unready.map(|seconds| now.checked_sub(Duration::from_secs(seconds)).unwrap_or(now));
                let seen = Seen::Health(Health { at: now, restarts: *restarts, unready, pod: None });
                recorder.observe(&seen, now).unwrap();
                trial.see(&seen);
                prop_assert_eq!(accounted(&trial, now), counted);
            }
            let stratum = divided.then(|| format!("/{}", number % 70).into());
            let observation = Observation { number: number as u64, sent, started, stratum, response };
            if let Some((attribution, outcome)) = observation.attributed() {
                counted.record(attribution.release(), outcome);
            }
            let seen = Seen::Request(observation);
            recorder.observe(&seen, now).unwrap();
            trial.see(&seen);
            prop_assert_eq!(accounted(&trial, now), counted);
            prop_assert!(!denies(&trial, counted, now));
        }
        let now = began + Duration::from_secs(20);
        trial.end();
        let verdict = trial.verdict(now);
        prop_assert_eq!(verdict.waiting, Batch::default(), "all requests have ended");
        prop_assert_eq!(accounted(&trial, now), counted);
        recorder.end(End::Over, now).unwrap();
        let (replayed, at) = replayed(recorder.into_inner(), began);
        prop_assert_eq!(replayed.verdict(at).to_string(), verdict.to_string());
        let price = |trial: &Trial, at| trial.price(at).map(|price| trial.verdict(at).price_sentence(&price));
        prop_assert_eq!(price(&replayed, at), price(&trial, now));
    }

    #[test]
    fn each_scraped_request_is_judged_at_once_or_left_out(
        rounds in intervals(),
        warm_up in prop::option::of(1..60_u64),
        started in prop::option::of(0.0..200.0_f64),
    ) {
        let began = Instant::now();
        let settings = settings(warm_up.map(Duration::from_secs));
        let mut trial = Trial::new(settings, None, Coverage::All, began);
        let mut recorder = trial.record_to(Vec::new()).unwrap();
        let mut counted = Batch::default();
        let mut now = began;
        for windows in rounds {
            let clock = windows.iter().map(|window| window.until).fold(0.0, f64::max);
            now = began + Duration::from_secs_f64(clock);
            for window in &windows {
                counted.add(window.release, window.counts);
            }
            let of = |window| CountedWindow { version: String::new(), window, started };
            let windows = windows.into_iter().map(of).collect();
            let seen = Seen::Interval(Interval { at: now, clock, began: 0.0, windows });
            recorder.observe(&seen, now).unwrap();
            trial.see(&seen);
            prop_assert_eq!(accounted(&trial, now), counted);
            prop_assert_eq!(trial.verdict(now).waiting, Batch::default());
            prop_assert!(!denies(&trial, counted, now));
        }
        trial.end();
        let verdict = trial.verdict(now);
        prop_assert_eq!(accounted(&trial, now), counted);
        if matches!(verdict.decision, Decision::Promote { .. }) {
            let limit = verdict.settings.max_failure_rate.get();
            let stable = (counted.stable - verdict.warm_up.stable).rate().unwrap_or(0.0);
            let canary = (counted.canary - verdict.warm_up.canary).rate().unwrap_or(0.0);
            prop_assert!(canary <= limit || stable > limit, "{}", verdict);
        }
        recorder.end(End::Over, now).unwrap();
        let (replayed, at) = replayed(recorder.into_inner(), began);
        prop_assert_eq!(replayed.verdict(at).to_string(), verdict.to_string());
    }

    #[test]
    fn each_batch_is_judged_at_once(batches in prop::collection::vec((0..50_u64, 0..50_u64, 0..5_u64), 0..50)) {
        let began = Instant::now();
        let mut trial = trial(began);
        let mut counted = Batch::default();
        for (stable, canary, unattributed) in batches {
            let counts = |requests| Counts { requests, failures: requests / 3, slow: 0 };
            let batch = Batch { stable: counts(stable), canary: counts(canary), unattributed };
            counted += batch;
            trial.observe_batch(None, batch);
            prop_assert_eq!(accounted(&trial, began), counted);
        }
    }
}

/// A canary that answered well, and then stops.
#[test]
fn a_canary_that_has_stopped_answering_is_not_promoted() {
    let began = Instant::now();
    let mut trial = trial(began);
    let answered = |number: u64, release| {
        let attribution = Attribution::Release(release);
        let sent = began + Duration::from_millis(10 * number);
        let outcome = Outcome::Success;
        let answer = Answer { attribution, outcome, status: None, latency: None, pod: None, info: None };
        Observation { number, sent, started: None, stratum: None, response: Response::Answer(answer) }
    };
    for number in 0..2000 {
        let release = if number % 4 == 3 { Release::Canary } else { Release::Stable };
        trial.observe(&answered(number, release));
    }
    let last = began + Duration::from_secs(20);
    assert!(matches!(trial.decided(last), Some(Decision::Promote { .. })));
    for number in 2000..6000 {
        trial.observe(&answered(number, Release::Stable));
    }
    let later = last + Duration::from_secs(40);
    assert_eq!(trial.decided(later), None);
    let sentence = trial.verdict(later).to_string();
    assert!(sentence.starts_with("Not yet: the canary has not answered for 40s"), "{sentence}");
    trial.observe(&answered(6000, Release::Canary));
    assert!(matches!(trial.decided(later), Some(Decision::Promote { .. })), "it answers again");
}
