//! The routes.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use appinfo::server::Phase;
use axum::{
    Router,
    body::{Body, Bytes},
    extract::{ConnectInfo, Request, State},
    http::{
        HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri,
        header::{
            CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
        },
    },
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::time::timeout;

use super::{
    Serve,
    access::{Access, Refusal, json},
    engines,
    events::MOST_VIEWERS,
    rehearsal,
    state::VerdictAnswer,
    trials::TooMany,
};
use crate::view::page;

/// The longest body of a request, in bytes.
const MOST_BYTES: usize = 64 << 10;
/// The time limit of a request's body.
const BODY_LIMIT: Duration = Duration::from_secs(10);
/// The longest name of a trial, in bytes. A namespace, a name and a checksum are shorter.
const LONGEST_NAME: usize = 400;

/// The headers of every answer: the page loads nothing from other sites, and no other page may show it in a
/// frame.
const HEADERS: [(HeaderName, HeaderValue); 4] = [
    (
        CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(
            "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
             base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        ),
    ),
    (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (CACHE_CONTROL, HeaderValue::from_static("no-store")),
];

/// The routes for clients.
pub(super) fn router(serve: Arc<Serve>) -> Router {
    Router::new()
        .route("/v1/verdict", get(verdict))
        .route("/v1/events", get(events))
        .route("/v1/reset", post(reset))
        .route("/v1/step", post(rehearsal::step))
        .route("/flagger/{hook}", post(engines::flagger))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .fallback(page)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(middleware::from_fn_with_state(Arc::clone(&serve), guard))
        .with_state(serve)
}

/// The routes for probes and for Prometheus, for a port of their own. [`router`] has them as well.
pub(super) fn admin(serve: Arc<Serve>) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .fallback(|| async { Refusal::new(StatusCode::NOT_FOUND, "not found") })
        .method_not_allowed_fallback(method_not_allowed)
        .layer(middleware::from_fn_with_state(Arc::clone(&serve), guard))
        .with_state(serve)
}

/// Checks the host before anything else, and gives every answer its headers.
async fn guard(State(serve): State<Arc<Serve>>, request: Request, next: Next) -> Response {
    let allowed = serve.access.check_host(request.uri(), request.headers());
    let mut answer = match allowed {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    };
    answer.headers_mut().extend(HEADERS);
    answer
}

async fn verdict(State(serve): State<Arc<Serve>>, uri: Uri, headers: HeaderMap) -> Result<Response, Refusal> {
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

async fn events(State(serve): State<Arc<Serve>>, uri: Uri, headers: HeaderMap) -> Result<Response, Refusal> {
    Access::check_site(&headers)?;
    if *serve.phase.borrow() != Phase::Serving {
        return Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "this server is about to end"));
    }
    let named = named_trial(&uri)?;
    let mut trials = serve.trials();
    let named = named.map(|id| trials.ask(Some(&id), Instant::now())).transpose()?;
    let events = serve.viewers.events(named.as_deref(), &trials, &serve.heading(), serve.phase.subscribe());
    let events = events.ok_or_else(|| {
        let error = format!("there are {MOST_VIEWERS} viewers, and no more are served");
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, error)
    })?;
    Ok(([(CONTENT_TYPE, "text/event-stream")], events).into_response())
}

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

async fn reset(
    State(serve): State<Arc<Serve>>,
    remote: Option<axum::Extension<ConnectInfo<SocketAddr>>>,
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

/// Ready while it serves, even if the service does not answer: there is always a verdict, if only "not yet".
async fn readyz(State(serve): State<Arc<Serve>>) -> (StatusCode, &'static str) {
    if *serve.phase.borrow() == Phase::Serving {
        (StatusCode::OK, "ok\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "draining\n")
    }
}

async fn metrics(State(serve): State<Arc<Serve>>) -> Response {
    match serve.metrics.text(&serve) {
        Ok(text) => ([(CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

async fn page(method: Method, uri: Uri) -> Response {
    match page::asset(uri.path()) {
        Some((kind, bytes)) if method == Method::GET || method == Method::HEAD => {
            ([(CONTENT_TYPE, kind)], bytes).into_response()
        }
        Some(_) => method_not_allowed().await.into_response(),
        None => Refusal::new(StatusCode::NOT_FOUND, "not found").into_response(),
    }
}

async fn method_not_allowed() -> Refusal {
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "method not allowed")
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

/// The value of `?trial=`, if there is one.
fn named_trial(uri: &Uri) -> Result<Option<String>, Refusal> {
    let query = uri.query().unwrap_or_default();
    let mut names = form_urlencoded::parse(query.as_bytes()).filter(|(key, _)| key == "trial");
    match (names.next(), names.next()) {
        (None, _) => Ok(None),
        (Some((_, name)), None) => trial_name(name.into_owned()).map(Some),
        _ => Err(Refusal::new(StatusCode::BAD_REQUEST, "trial occurs twice: want one name")),
    }
}

/// Checks a trial's name that a client has chosen.
pub(super) fn trial_name(name: String) -> Result<String, Refusal> {
    let cause = if name.is_empty() {
        "is empty".to_owned()
    } else if name.len() > LONGEST_NAME {
        format!("has {} bytes: want at most {LONGEST_NAME}", name.len())
    } else if name.chars().any(char::is_control) {
        "has control characters".to_owned()
    } else {
        return Ok(name);
    };
    Err(Refusal::new(StatusCode::BAD_REQUEST, format!("the trial's name {cause}")))
}

/// Reads the body of a request that changes something. Without a body, it is `{}`.
pub(super) async fn read_json<T: DeserializeOwned>(headers: &HeaderMap, body: Body) -> Result<T, Refusal> {
    Access::check_origin(headers)?;
    let body = read(body).await?;
    let text: &[u8] = if body.is_empty() { b"{}" } else { &body };
    serde_json::from_slice(text)
        .map_err(|error| Refusal::new(StatusCode::BAD_REQUEST, format!("the body: {error}")))
}

async fn read(body: Body) -> Result<Bytes, Refusal> {
    let Ok(read) = timeout(BODY_LIMIT, Limited::new(body, MOST_BYTES).collect()).await else {
        return Err(Refusal::new(StatusCode::REQUEST_TIMEOUT, "the body takes too long"));
    };
    read.map(http_body_util::Collected::to_bytes).map_err(|error| {
        if error.is::<LengthLimitError>() {
            let error = format!("the body is longer than {MOST_BYTES} bytes");
            Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, error)
        } else {
            Refusal::new(StatusCode::BAD_REQUEST, format!("the body: {error}"))
        }
    })
}
