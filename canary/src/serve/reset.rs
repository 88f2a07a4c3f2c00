//! `POST /v1/reset`.

use std::{net::SocketAddr, sync::Arc, time::Instant};

use axum::{
    Extension,
    body::Body,
    extract::{ConnectInfo, State},
    http::HeaderMap,
    response::Response,
};
use serde::{Deserialize, Serialize};

use super::{
    Serve,
    access::{Refusal, json},
    input::read_json,
};

/// The body of `POST /v1/reset`.
#[derive(Debug, Default, Deserialize)]
struct Reset {
    /// The current trial if `None`.
    trial: Option<String>,
}

#[derive(Debug, Serialize)]
struct HasReset {
    trial: String,
    sentence: &'static str,
}

pub(super) async fn reset(
    State(serve): State<Arc<Serve>>,
    remote: Option<Extension<ConnectInfo<SocketAddr>>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    serve.access.check_reset(remote.map(|remote| remote.0.0))?;
    let Reset { trial } = read_json(&headers, body).await?;
    let id = serve.trials().reset(trial.as_deref(), Instant::now());
    let id = id.ok_or_else(|| Refusal::no_such_trial(trial.as_deref().unwrap_or_default()))?;
    let sentence = "The trial begins anew. Each reset is another chance to err: what --alpha promises holds for \
                    each trial between two resets.";
    Ok(json(&HasReset { trial: id, sentence }))
}
