//! `GET /v1/verdict`: the verdict for scripts and Argo Rollouts.

use std::{
    sync::{Arc, PoisonError},
    time::{Instant, SystemTime},
};

use axum::{
    extract::State,
    http::{HeaderMap, StatusCode, Uri},
    response::Response,
};
use serde::Serialize;

use super::{
    Serve, Start,
    access::{Access, Refusal, json},
    input::wanted_trial,
    text_of,
    trials::{Found, TooMany, Wanted},
};
use crate::{
    source::Asked,
    view::{sentence, word},
};
use canary_judge::{Decision, Price, Verdict};

/// The answer to `GET /v1/verdict`.
#[derive(Clone, Debug, Serialize)]
struct VerdictAnswer<'a> {
    /// The trial's name.
    trial: &'a str,
    /// The number of requests since it began.
    requests: u64,
    /// The verdict. Its key `decision` is one of `promote`, `roll_back`, `not_yet` and `hold`.
    #[serde(flatten)]
    verdict: Verdict,
    /// The same in words.
    sentence: String,
    /// The other versions that answer now. The verdict is the most cautious of all of them.
    others: Vec<Other<'a>>,
    /// The cost of the canary; `None` before stable has answered.
    price: Option<Price>,
    /// The same in words.
    price_sentence: Option<String>,
    /// When the trial began, in UTC.
    trial_began: String,
    /// Since when this server has counted requests.
    counting_since: String,
    /// When this process started.
    process_started: String,
    /// The last time of this trial in which nothing was seen, because the server did not run.
    not_seen: Option<NotSeen>,
    /// What this process has asked, if the source tells it.
    #[serde(skip_serializing_if = "Option::is_none")]
    asked: Option<Asked>,
}

/// A time in which nothing was seen, in UTC.
#[derive(Clone, Debug, Serialize)]
struct NotSeen {
    since: String,
    until: String,
    /// How far the clock was set back in between, at least, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    clock_set_back_s: Option<u64>,
}

/// Another version of the canary.
#[derive(Clone, Debug, Serialize)]
struct Other<'a> {
    trial: &'a str,
    decision: &'static str,
}

impl<'a> VerdictAnswer<'a> {
    fn new(
        found: &Found<'a>,
        started: Start,
        counting_since: SystemTime,
        asked: Option<Asked>,
        now: Instant,
    ) -> Self {
        let trial = found.one.trial();
        let (verdict, price) = (trial.verdict(now), trial.price(now));
        let other = |(trial, decision): &(&'a str, Decision)| Other { trial, decision: word(decision) };
        Self {
            trial: found.id,
            requests: trial.tally().total().requests,
            sentence: sentence(&verdict, found.note().as_deref()),
            others: found.others.iter().map(other).collect(),
            price_sentence: price.map(|price| verdict.price_sentence(&price)),
            verdict,
            price,
            trial_began: started.text_of(trial.tally().began()),
            counting_since: text_of(counting_since),
            process_started: started.text_of(started.instant),
            not_seen: found.one.gap().map(|gap| {
                let [since, until] = gap.ends();
                let clock_set_back_s = gap.set_back().map(|time| time.as_secs());
                NotSeen { since, until, clock_set_back_s }
            }),
            asked,
        }
    }
}

pub(super) async fn verdict(
    State(serve): State<Arc<Serve>>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let wanted = wanted_trial(&uri)?;
    if wanted != Wanted::Current {
        Access::check_site(&headers)?;
    }
    let now = Instant::now();
    let asked = serve.asked.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let mut trials = serve.trials();
    let since = serve.counting_since(&trials);
    let found = trials.ask(&wanted, now)?;
    Ok(json(&VerdictAnswer::new(&found, serve.started, since, asked, now)))
}

impl From<TooMany> for Refusal {
    fn from(error: TooMany) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, error.to_string())
    }
}
