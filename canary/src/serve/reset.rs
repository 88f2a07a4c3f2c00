//! `POST /v1/reset`.

use std::{net::SocketAddr, sync::Arc, time::Instant};

use axum::{
    Extension,
    body::Body,
    extract::{ConnectInfo, State},
    http::{HeaderMap, StatusCode},
    response::Response,
};
use serde::{Deserialize, Serialize};

use super::{
    Serve,
    access::{Refusal, caller, json},
    engines::resource,
    input::read_json,
    trials::Wanted,
};
use crate::messages::message;

/// The body of `POST /v1/reset`. Without a name, it is about the current trial.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Reset {
    /// The name of a trial.
    trial: Option<String>,
    /// The namespace and the name of one of Flagger's resources `Canary`: the trial of its last rollout.
    namespace: Option<String>,
    name: Option<String>,
}

impl Reset {
    fn wanted(self) -> Result<Wanted, Refusal> {
        match (self.trial, self.namespace, self.name) {
            (None, None, None) => Ok(Wanted::Current),
            (Some(trial), None, None) => Ok(Wanted::Named(trial)),
            (None, Some(namespace), Some(name)) => Ok(Wanted::Named(resource(&namespace, &name)?)),
            _ => Err(Refusal::new(StatusCode::BAD_REQUEST, "want a trial, or a namespace and a name, or {}")),
        }
    }
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
    let remote = remote.map(|remote| remote.0.0);
    serve.access.check_reset(remote, &headers)?;
    let wanted = read_json::<Reset>(&headers, body).await?.wanted()?;
    let id = serve.trials().reset(&wanted, Instant::now()).ok_or_else(|| no_such_trial(&wanted))?;
    if let Some(rehearsal) = &serve.rehearsal {
        rehearsal.begin_round();
    }
    message(format_args!("trial {id} begins anew: POST /v1/reset from {}", caller(remote)));
    let sentence = "The trial begins anew. Each reset is another chance to err: what --alpha promises holds for \
                    each trial between two resets.";
    Ok(json(&HasReset { trial: id, sentence }))
}

fn no_such_trial(wanted: &Wanted) -> Refusal {
    let id = match wanted {
        Wanted::Current => "",
        Wanted::Named(id) | Wanted::Version(id) => id,
    };
    Refusal::new(StatusCode::NOT_FOUND, format!("there is no trial {id:?}"))
}
