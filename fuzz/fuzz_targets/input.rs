//! Any bytes can be the input of `canary judge --input`. Each request counts once, and what is shown is safe and bounded.
#![no_main]

use std::time::Instant;

use canary::{
    foreign,
    source::lines::{Entry, Header, Reader},
    trial::{Coverage, Trial},
    view::report::Report,
};
use canary_judge::{Counts, Settings};
use libfuzzer_sys::fuzz_target;

/// No message about an input of this fuzz target is longer, in bytes: of a line it may show a key or a value.
const LONGEST_MESSAGE: usize = 1000;

fuzz_target!(|input: &[u8]| {
    let start = Instant::now();
    let mut trial = Trial::new(Settings::default(), None, Coverage::All, start);
    let (mut requests, mut now) = (0, start);
    for read in Reader::new(input, None, start) {
        let read = match read {
            Ok(read) => read,
            Err(error) => {
                let error = error.to_string();
                assert!(error.len() <= LONGEST_MESSAGE, "{} bytes: {error}", error.len());
                assert!(error.chars().all(foreign::is_safe), "{error:?}");
                break;
            }
        };
        now = read.at.unwrap_or(now);
        match read.entry {
            Entry::Header(header) => {
                let Header { settings, coverage, budget } = *header;
                trial = Trial::new(settings, budget, coverage, start);
                requests = 0;
                trial.record_to(Vec::new()).expect("it can be recorded again");
            }
            Entry::Outcome(observation) => {
                requests += u64::from(observation.attributed().is_some());
                if let Some(pod) = observation.pod() {
                    assert!(pod.len() <= foreign::NAME && pod.chars().all(foreign::is_safe), "{pod:?}");
                }
                trial.observe(&observation);
            }
            Entry::Interval(stratum, batch) => {
                requests += batch.stable.requests + batch.canary.requests + batch.unattributed;
                trial.observe_batch(stratum.as_deref(), batch);
            }
            Entry::Scraped(interval) => {
                let before = trial.tally().total().requests;
                trial.observe_interval(&interval, |_| true);
                // windows that began before the trial do not count
                requests += trial.tally().total().requests - before;
            }
            Entry::Health(health) => trial.observe_health(&health),
            Entry::Unsent(number) => trial.skip(number),
            Entry::End(_) => break,
        }
        check(&trial, requests, now);
    }
    trial.end();
    check(&trial, requests, now);
    let mut shown = Vec::new();
    Report::new(&mut shown, start).end(&trial, now).expect("a line");
    serde_json::from_slice::<serde_json::Value>(&shown).expect("JSON");
});

/// What was counted is what is judged and what waits.
fn check(trial: &Trial, requests: u64, now: Instant) {
    assert_eq!(trial.tally().total().requests, requests);
    let (verdict, counted) = (trial.verdict(now), trial.tally().sides());
    let all = |judged: Counts, waiting: Counts| {
        (judged.requests + waiting.requests, judged.failures + waiting.failures)
    };
    let of = |counts: Counts| (counts.requests, counts.failures);
    assert_eq!(all(verdict.stable.counts, verdict.waiting.stable), of(counted.stable));
    assert_eq!(all(verdict.canary.counts, verdict.waiting.canary), of(counted.canary));
    assert_eq!(verdict.unattributed + verdict.waiting.unattributed, counted.unattributed);
    assert!((0.0..=1.0).contains(&verdict.p_value) && !verdict.ln_e_value.is_nan(), "{verdict:?}");
}
