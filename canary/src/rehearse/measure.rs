//! Requests that a step of the story is measured by.

use std::time::{Duration, Instant};

use crate::{
    judge::{Budget, Decision, Fraction, InvalidNumber, Settings, Traffic},
    sample::{Pace, Sampling, Target},
    tally::{Source, Tally},
    trial::Trial,
};

/// Requests a second. As many as two busy cores manage: the story shall be over within a minute.
const RATE: f64 = 400.0;
const TIMEOUT: Duration = Duration::from_secs(10);

/// Asks that many times.
pub(super) async fn ask(target: &Target, count: u64) -> Tally {
    let mut tally = Tally::new(Instant::now());
    let mut sampling = start(target, count);
    while let Some(observation) = sampling.next().await {
        tally.observe(&observation);
    }
    tally
}

/// Asks until the judge has decided, at most that many times.
pub(super) async fn judge(target: &Target, count: u64) -> Result<Trial, InvalidNumber> {
    let mut trial = new_trial(RATE)?;
    let mut sampling = start(target, count);
    while let Some(observation) = sampling.next().await {
        trial.observe(&observation);
        if !matches!(trial.verdict().decision, Decision::NotYet { .. }) {
            break;
        }
    }
    Ok(trial)
}

fn start(target: &Target, count: u64) -> Sampling {
    Sampling::start(target.clone(), Pace { rate: RATE, timeout: TIMEOUT, time: None, count: Some(count) })
}

/// A trial by the rules that `canary judge` has unless flags say otherwise, of a Service that gets `rate`
/// requests a second.
pub(super) fn new_trial(rate: f64) -> Result<Trial, InvalidNumber> {
    let budget = Budget { traffic: Traffic::new(rate)?, slo: Fraction::new(0.999)? };
    Ok(Trial::new(Settings::default(), budget, Instant::now()))
}

/// What was counted, in words.
pub(super) fn summary(tally: &Tally) -> String {
    let mut parts = Vec::new();
    for (source, counts) in tally.counts() {
        for (count, what) in [(counts.success, "good"), (counts.failure, "failed")] {
            if count > 0 && *source != Source::Nobody {
                parts.push(format!("{count} {what} from {source}"));
            }
        }
    }
    parts.push(format!("{} without an answer", tally.of(&Source::Nobody).total()));
    if let Some(trouble) = tally.last_trouble() {
        parts.push(format!("the last because: {trouble}"));
    }
    format!("{} requests: {}", tally.total().total(), parts.join(", "))
}
