//! Any bytes can be the input of `canary judge --input`. Each request counts once, and what is shown is safe and bounded.
//! A first byte below 32, which begins no line, chooses flags: a bit for each.
#![no_main]

use std::time::{Duration, Instant};

use canary::{
    foreign,
    source::lines::{Entry, Header, Reader},
    trial::{Coverage, Trial},
    view::report::Report,
};
use canary_judge::{Batch, Counts, Decision, Settings, Tolerance, Verdict};
use libfuzzer_sys::fuzz_target;

/// No message about an input of this fuzz target is longer, in bytes: of a line it may show a key or a value.
const LONGEST_MESSAGE: usize = 1000;

/// All strata with a name, and the one of all others.
const MOST_STRATA: usize = 64 + 1;

/// The settings and the keys of `--by` that the flags choose.
fn chosen(flags: u8) -> (Settings, Vec<String>) {
    let has = |bit: u8| flags & 1 << bit != 0;
    let settings = Settings {
        max_latency: has(2).then_some(Duration::from_millis(300)),
        slower_by: has(3).then(|| Tolerance::new(0.2).expect("a tolerance")),
        warm_up: has(4).then_some(Duration::from_secs(30)),
        episodes: (has(1) && has(4)).then_some(Duration::from_secs(2)),
        min_answers: if has(0) && has(3) { 3 } else { 0 },
        ..Settings::default()
    };
    let keys = ["path", "method"].into_iter().enumerate();
    let by = keys.filter(|(bit, _)| flags & 1 << bit != 0).map(|(_, key)| key.to_owned());
    (settings, by.collect())
}

fuzz_target!(|input: &[u8]| {
    let start = Instant::now();
    let (flags, input) = match input.split_first() {
        Some((flags, lines)) if *flags < 32 => (*flags, lines),
        _ => (0, input),
    };
    let (settings, by) = chosen(flags);
    let mut trial = Trial::new(settings, None, Coverage::All, start);
    let (mut requests, mut now, mut was_rolled_back) = (0, start, false);
    let lines = Reader::new(input, settings.max_latency, start)
        .with_times(settings.warm_up.map(|_| "--warm-up"))
        .divided_by(&by);
    for read in lines {
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
                (requests, was_rolled_back) = (0, false);
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
        check(&trial, requests, now, &mut was_rolled_back);
    }
    trial.end();
    check(&trial, requests, now, &mut was_rolled_back);
    let mut shown = Vec::new();
    Report::new(&mut shown, start).end(&trial, None, now).expect("a line");
    serde_json::from_slice::<serde_json::Value>(&shown).expect("JSON");
});

/// What was counted is what is judged, what waits, and what is left out. A roll-back stays.
fn check(trial: &Trial, requests: u64, now: Instant, was_rolled_back: &mut bool) {
    assert_eq!(trial.tally().total().requests, requests);
    let (verdict, counted) = (trial.verdict(now), trial.tally().sides());
    let Verdict { waiting, warm_up, .. } = verdict;
    let all = |parts: [Counts; 3]| {
        let sum = |of: fn(Counts) -> u64| parts.into_iter().map(of).sum::<u64>();
        (sum(|it| it.requests), sum(|it| it.failures), sum(|it| it.slow))
    };
    let of = |counts: Counts| (counts.requests, counts.failures, counts.slow);
    assert_eq!(all([verdict.stable.counts, waiting.stable, warm_up.stable]), of(counted.stable));
    assert_eq!(all([verdict.canary.counts, waiting.canary, warm_up.canary]), of(counted.canary));
    assert_eq!(verdict.unattributed + waiting.unattributed + warm_up.unattributed, counted.unattributed);

    let is_rolled_back = matches!(verdict.decision, Decision::RollBack { .. });
    assert!(is_rolled_back || !*was_rolled_back, "{verdict:?}");
    *was_rolled_back = is_rolled_back;
    let is_share = |share: f64| (0.0..=1.0).contains(&share);
    for bounds in [verdict.stable.bounds, verdict.canary.bounds] {
        assert!(
            is_share(bounds.lower) && is_share(bounds.upper) && bounds.lower <= bounds.upper,
            "{verdict:?}"
        );
    }
    for share in [verdict.p_value, verdict.promotion_bound, verdict.max_share] {
        assert!(is_share(share), "{verdict:?}");
    }
    assert!(verdict.ln_e_value.is_finite(), "{verdict:?}");
    check_strata(&verdict);
    check_latency(&verdict);
    let text = verdict.to_string();
    assert!(text.chars().all(foreign::is_safe), "{text:?}");
}

/// Each judged request is in one stratum, if requests are divided.
fn check_strata(verdict: &Verdict) {
    let strata = &verdict.strata;
    assert!(strata.len() <= MOST_STRATA);
    let mut sum = Batch::default();
    for one in strata {
        sum += Batch { stable: one.stable, canary: one.canary, unattributed: one.unattributed };
        assert!(one.ln_e_value.is_finite(), "{verdict:?}");
        let name = one.name.as_deref().unwrap_or_default();
        assert!(name.len() <= foreign::STRATUM && name.chars().all(foreign::is_safe), "{name:?}");
    }
    let (stable, canary) = (verdict.stable.counts, verdict.canary.counts);
    let judged = Batch { stable, canary, unattributed: verdict.unattributed };
    assert!(strata.is_empty() || sum == judged, "{verdict:?}");
}

fn check_latency(verdict: &Verdict) {
    let Some(latency) = &verdict.latency else { return };
    assert!((0.0..=1.0).contains(&latency.p_value) && latency.ln_e_value.is_finite(), "{verdict:?}");
    for of in [latency.canary, latency.stable] {
        let percentiles: Vec<_> = [of.p50_ms, of.p90_ms, of.p99_ms].into_iter().flatten().collect();
        assert!(percentiles.iter().all(|it| it.is_finite()) && percentiles.is_sorted(), "{verdict:?}");
        assert_eq!(percentiles.len(), if of.answers > 0 { 3 } else { 0 }, "{verdict:?}");
    }
    if let Some(slower) = latency.slower {
        for share in [slower.canary_share, slower.stable_share] {
            assert!((0.0..=1.0 + 1e-9).contains(&share), "{verdict:?}");
        }
    }
}
