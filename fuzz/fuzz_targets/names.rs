//! A service may name any release, pod and labels, in headers or in its body. Each answer counts once, what is kept is
//! safe and bounded, and so is the number of releases, pods and trials.
//! In the input, each line is an answer: release, pod and body, with tabs between them.
#![no_main]

use std::{sync::LazyLock, time::Instant};

use canary::{
    foreign,
    serve::trials::{MOST_TRIALS, Trials, Wanted},
    source::{
        Attribution, Observation, Response, Seen,
        probe::{Body, Naming, Options, ReleaseFrom, Service, answer},
    },
    trial::{Coverage, Trial},
};
use canary_judge::Settings;
use hyper::http::HeaderValue;
use libfuzzer_sys::fuzz_target;

static SERVICE: LazyLock<Service> = LazyLock::new(|| service(Naming::default()));
/// Services that name the release in the body.
static OTHERS: LazyLock<[Service; 2]> = LazyLock::new(|| {
    ["body:/version", r"body~[Vv]ersion: (\S+)"].map(|from| {
        let release: ReleaseFrom = from.parse().expect("a place");
        service(Naming { release, ..Naming::default() })
    })
});

fn service(naming: Naming) -> Service {
    let target = "http://127.0.0.1/".parse().expect("a target");
    Service::new(target, Options { naming, ..Options::default() }).expect("a service")
}

/// The number of the names of releases that are kept, with the two sides, those without a name, and those that are
/// too many.
const MOST_ATTRIBUTIONS: usize = 16 + 4;
/// The most bytes of all labels of a pod, with the number of those that are left out.
const MOST_LABELS: usize = 1100;

fuzz_target!(|input: &[u8]| {
    let start = Instant::now();
    let mut trial = Trial::new(Settings::default(), None, Coverage::Sample, start);
    let mut trials = Trials::new(trial.clone());
    let mut sent = 0;
    for line in input.split(|byte| *byte == b'\n') {
        let mut parts = line.splitn(3, |byte| *byte == b'\t');
        let mut response = hyper::Response::new(());
        for name in ["x-release", "x-served-by"] {
            let value = parts.next().and_then(|value| HeaderValue::from_bytes(value).ok());
            if let Some(value) = value {
                response.headers_mut().insert(name, value);
            }
        }
        let (head, body) = (response.into_parts().0, parts.next().map_or(Body::Incomplete, Body::Whole));
        for other in OTHERS.iter() {
            if let Attribution::Other(name) = answer(&head, body, other).attribution {
                is_shown(&name, foreign::NAME);
            }
        }
        let answer = answer(&head, body, &SERVICE);
        if let Attribution::Other(name) = &answer.attribution {
            is_shown(name, foreign::NAME);
        }
        if let Some(pod) = &answer.pod {
            is_shown(pod, foreign::NAME);
        }
        if let Some(info) = &answer.info {
            let labels = || info.labels.iter().flat_map(|(key, value)| [key, value]);
            for text in
                [&info.pod_name, &info.app_name, &info.namespace, &info.release].into_iter().chain(labels())
            {
                is_shown(text, foreign::NAME + 1 + foreign::LABEL);
            }
            assert!(labels().map(String::len).sum::<usize>() <= MOST_LABELS, "{info:?}");
        }
        let observation = Observation {
            number: sent,
            sent: Instant::now(),
            started: None,
            stratum: None,
            response: Response::Answer(answer),
        };
        trial.observe(&observation);
        trials.observe(&Seen::Request(observation), Instant::now());
        sent += 1;
        assert!(trials.count() <= MOST_TRIALS);
        is_shown(trials.current(Instant::now()).id, 400);
    }
    trial.end();
    let tally = trial.tally();
    assert_eq!(tally.total().requests, sent, "each answer counts once");
    assert!(tally.counts().len() <= MOST_ATTRIBUTIONS);
    let verdict = trial.verdict(Instant::now());
    let judged = |of: &canary_judge::Estimate| of.counts.requests;
    let waiting = verdict.waiting.stable.requests + verdict.waiting.canary.requests;
    let counted = tally.sides();
    let sides = counted.stable.requests + counted.canary.requests;
    assert_eq!(judged(&verdict.stable) + judged(&verdict.canary) + waiting, sides);
    let found = trials.ask(&Wanted::Current, Instant::now()).expect("the current one");
    assert!(found.one.trial().tally().total().requests <= sent);
});

fn is_shown(text: &str, most: usize) {
    assert!(text.len() <= most && text.chars().all(foreign::is_safe), "{} bytes: {text:?}", text.len());
}
