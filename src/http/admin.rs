//! The admin router: what Kubernetes asks. Nothing here is logged, and nothing here asks the service: a broken
//! canary must become Ready, or nobody would see it fail.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use axum::{Router, extract::State, http::StatusCode, routing::get};

use crate::service::Pod;

#[derive(Clone)]
struct Admin {
    pod: Arc<Pod>,
    draining: Arc<AtomicBool>,
}

/// The admin port's routes: `/healthz`, and `/readyz`, which is no longer 200 once `draining` is true.
pub fn router(pod: Arc<Pod>, draining: Arc<AtomicBool>) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .with_state(Admin { pod, draining })
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
