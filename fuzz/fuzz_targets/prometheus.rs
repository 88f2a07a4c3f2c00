//! A Prometheus may answer anything. An answer counts, each request once, or the message about it is safe and bounded.
//! The input has one answer in each line, and the target asks round after round until there are no more.
#![no_main]

use std::time::{Duration, Instant};

use canary::{
    foreign,
    source::prometheus::{Credentials, Options, Queries, fuzzing::Rounds},
    trial::{Coverage, Trial},
};
use canary_judge::{Counts, Settings};
use hyper::StatusCode;
use libfuzzer_sys::fuzz_target;

/// No message is longer, in bytes. It may show the labels of two series, a label, and a selector.
const LONGEST_MESSAGE: usize = 4 * foreign::ERROR;

fn options() -> Options {
    Options {
        address: "http://127.0.0.1:9090".parse().expect("an address"),
        headers: Vec::new(),
        credentials: Credentials::None,
        trust: Default::default(),
        queries: Queries {
            requests: "a".parse().expect("a metric"),
            stable: "r=\"s\"".parse().expect("matchers"),
            canary: "r=\"c\"".parse().expect("matchers"),
            failed: "e=\"1\"".parse().expect("matchers"),
            slow: Some("t_bucket{le=\"1\"}".parse().expect("a bucket")),
            latencies: Some("l".parse().expect("a histogram")),
            by: Vec::new(),
        },
        compares_pods: false,
        every: Duration::from_secs(5),
    }
}

fuzz_target!(|input: &[u8]| {
    let mut rounds = Rounds::new(&options()).expect("rounds");
    let mut trial = Trial::new(Settings::default(), None, Coverage::All, Instant::now());
    let mut answers = input.split(|byte| *byte == b'\n').peekable();
    while answers.peek().is_some() {
        let found = rounds.round(|_| {
            let answer = answers.next().unwrap_or_default();
            // a proxy's answer begins with a digit
            match answer.split_first() {
                Some((digit @ b'1'..=b'9', rest)) => {
                    let status = StatusCode::from_u16(u16::from(digit - b'0') * 100 + 1);
                    (status.expect("a status"), rest.to_vec())
                }
                _ => (StatusCode::OK, answer.to_vec()),
            }
        });
        match found {
            Ok(None) => {}
            Ok(Some(interval)) => {
                for one in &interval.windows {
                    let window = &one.window;
                    let Counts { requests, failures, slow } = window.counts;
                    assert!(slow <= failures && failures <= requests, "{window:?}");
                    assert!(window.since <= window.until, "{window:?}");
                }
                trial.observe_interval(&interval, |_| true);
            }
            Err(shown) => {
                assert!(shown.len() <= LONGEST_MESSAGE, "{} bytes: {shown}", shown.len());
                assert!(shown.chars().all(foreign::is_safe), "{shown:?}");
            }
        }
        let (verdict, counted) = (trial.verdict(Instant::now()), trial.tally().sides());
        let all = |judged: Counts, waiting: Counts| judged.requests + waiting.requests;
        assert_eq!(all(verdict.stable.counts, verdict.waiting.stable), counted.stable.requests);
        assert_eq!(all(verdict.canary.counts, verdict.waiting.canary), counted.canary.requests);
    }
});
