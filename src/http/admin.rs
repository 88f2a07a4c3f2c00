//! The admin router, for Kubernetes and Prometheus. Its requests are not logged. It does not call the service: a
//! broken canary must become Ready, so that it receives requests and its failures are seen.

use std::sync::Arc;

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::sync::watch;

use super::Metrics;
use crate::service::Pod;

/// The lifecycle of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It answers, and keeps connections for the next request.
    Serving,
    /// It still answers, and every answer says `connection: close`.
    Draining,
    /// It accepts no new connection.
    Stopping,
}

#[derive(Clone)]
struct Admin {
    pod: Arc<Pod>,
    phase: watch::Receiver<Phase>,
    metrics: Arc<Metrics>,
}

/// The admin port's routes: `/healthz`, `/metrics`, and `/readyz`, which answers 503 from the drain on.
pub fn router(pod: Arc<Pod>, phase: watch::Receiver<Phase>, metrics: Arc<Metrics>) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics_text))
        .with_state(Admin { pod, phase, metrics })
}

async fn readyz(State(admin): State<Admin>) -> (StatusCode, String) {
    if *admin.phase.borrow() != Phase::Serving {
        return (StatusCode::SERVICE_UNAVAILABLE, "draining\n".to_owned());
    }
    match admin.pod.label_file.read() {
        Ok(_) => (StatusCode::OK, "ok\n".to_owned()),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")),
    }
}

async fn metrics_text(State(admin): State<Admin>) -> Response {
    match admin.metrics.text() {
        Ok(text) => ([(CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}
