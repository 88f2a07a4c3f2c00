//! The admin router, for Kubernetes and Prometheus. Its requests are not logged. It does not call the service: a
//! broken canary must become Ready, so that it receives requests and its failures are seen.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::get,
};

use super::{Metrics, path};
use crate::service::Pod;

#[derive(Clone)]
struct Admin {
    pod: Arc<Pod>,
    draining: Arc<AtomicBool>,
    metrics: Arc<Metrics>,
}

/// The admin port's routes: `/healthz`, `/metrics`, and `/readyz`, which answers 503 once `draining` is true.
pub fn router(pod: Arc<Pod>, draining: Arc<AtomicBool>, metrics: Arc<Metrics>) -> Router {
    let routes = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics_text))
        .with_state(Admin { pod, draining, metrics });
    path::with_any_spelling(routes)
}

async fn readyz(State(admin): State<Admin>) -> (StatusCode, String) {
    if admin.draining.load(Ordering::Relaxed) {
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
