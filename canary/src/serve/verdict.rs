//! `GET /v1/verdict`: the verdict for scripts and Argo Rollouts.

use std::{sync::Arc, time::Instant};

use axum::{
    extract::State,
    http::{HeaderMap, StatusCode, Uri},
    response::Response,
};
use serde::Serialize;

use super::{
    Serve,
    access::{Access, Refusal, json},
    input::named_trial,
    trials::TooMany,
};
use crate::trial::Trial;
use canary_judge::{Price, Verdict};

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
    /// The cost of the canary; `None` before stable has answered.
    price: Option<Price>,
    /// The same in words.
    price_sentence: Option<String>,
}

impl<'a> VerdictAnswer<'a> {
    /// The verdict of the named trial `now`.
    fn new(id: &'a str, trial: &Trial, now: Instant) -> Self {
        let (verdict, price) = (trial.verdict(), trial.price(now));
        Self {
            trial: id,
            requests: trial.tally().total().requests,
            sentence: verdict.to_string(),
            verdict,
            price_sentence: price.map(|price| price.to_string()),
            price,
        }
    }
}

pub(super) async fn verdict(
    State(serve): State<Arc<Serve>>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let named = named_trial(&uri)?;
    if named.is_some() {
        Access::check_site(&headers)?;
    }
    let now = Instant::now();
    let mut trials = serve.trials();
    let id = trials.ask(named.as_deref(), now)?;
    let one = trials.get(&id).ok_or_else(|| Refusal::no_such_trial(&id))?;
    Ok(json(&VerdictAnswer::new(&id, one.trial(), now)))
}

impl From<TooMany> for Refusal {
    fn from(error: TooMany) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, error.to_string())
    }
}

impl Refusal {
    pub(super) fn no_such_trial(id: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, format!("there is no trial {id:?}"))
    }
}
