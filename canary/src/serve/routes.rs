//! The routes.

use std::{net::SocketAddr, sync::Arc, time::Instant};

use appinfo::server::Phase;
use axum::{
    Extension, Router,
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

use super::{
    Serve,
    access::{Access, Refusal},
    engines,
    events::{MOST_VIEWERS, Rights},
    input::wanted_trial,
    pace::{Paces, in_turn},
    rehearsal, reset, verdict, vote,
};
use crate::view::page;

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

/// <https://nginx.org/en/docs/http/ngx_http_proxy_module.html#proxy_buffering>
const NOT_BUFFERED: HeaderName = HeaderName::from_static("x-accel-buffering");

/// The routes for clients.
pub(super) fn router(serve: Arc<Serve>) -> Router {
    // in a rehearsal, the service that is judged is in this process, too
    let paces = serve.rehearsal.is_some().then(Arc::<Paces>::default);
    let router = Router::new()
        .route("/v1/verdict", get(verdict::verdict))
        .route("/v1/events", get(events))
        .route("/v1/reset", post(reset::reset))
        .route("/v1/step", post(rehearsal::step))
        .route("/v1/rehearsal", post(rehearsal::change))
        .route("/v1/vote.svg", get(vote::code))
        .route("/flagger/{hook}", post(engines::flagger))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .fallback(page)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(middleware::from_fn_with_state(Arc::clone(&serve), guard))
        .with_state(serve);
    match paces {
        Some(paces) => router.layer(middleware::from_fn_with_state(paces, in_turn)),
        None => router,
    }
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
pub(super) async fn guard(State(serve): State<Arc<Serve>>, request: Request, next: Next) -> Response {
    let allowed = serve.access.check_host(request.uri(), request.headers());
    let mut answer = match allowed {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    };
    answer.headers_mut().extend(HEADERS);
    answer
}

async fn events(
    State(serve): State<Arc<Serve>>,
    remote: Option<Extension<ConnectInfo<SocketAddr>>>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    Access::check_site(&headers)?;
    let remote = remote.map(|remote| remote.0.0);
    let rights = Rights {
        step: serve.rehearsal.is_some() && Access::check_step(remote).is_ok(),
        reset: serve.access.check_reset(remote, &headers).is_ok(),
    };
    if *serve.phase.borrow() != Phase::Serving {
        return Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "this server is about to end"));
    }
    let wanted = wanted_trial(&uri)?;
    let mut trials = serve.trials();
    let heading = serve.heading(&trials);
    let found = trials.ask(&wanted, Instant::now())?;
    let events = serve.viewers.events(wanted.clone(), &found, &heading, rights, serve.phase.subscribe());
    let events = events.ok_or_else(|| {
        let error = format!("there are {MOST_VIEWERS} viewers, and no more are served");
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, error)
    })?;
    // nginx keeps back what it forwards, unless it is told not to
    let headers = [(CONTENT_TYPE, "text/event-stream"), (NOT_BUFFERED, "no")];
    Ok((headers, events).into_response())
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

pub(super) async fn method_not_allowed() -> Refusal {
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "method not allowed")
}
