//! A server for the fuzz targets, which are a package of their own: they send requests without a connection.

use std::{io, net::SocketAddr, sync::Arc, time::Instant};

use axum::{Router, body::Body, extract::ConnectInfo, http::Request, response::Response};
use tower::ServiceExt;

use super::{Access, Serve, routes};
use crate::{source::Seen, trial::Trial};

/// A server of one service.
pub struct Server {
    serve: Arc<Serve>,
    router: Router,
}

impl Server {
    /// A server whose trials start as copies of `trial`.
    ///
    /// # Errors
    /// If the metrics library refuses a metric.
    pub fn new(trial: Trial) -> io::Result<Self> {
        let serve = Serve::new("service".to_owned(), None, trial, Access::default())?;
        let router = routes::router(Arc::clone(&serve));
        Ok(Self { serve, router })
    }

    /// Counts what a source yields.
    pub fn observe(&self, seen: &Seen) {
        self.serve.metrics.observe(seen);
        self.serve.trials().observe(seen, Instant::now());
    }

    /// The answer to a request from this machine.
    pub async fn answer(&self, mut request: Request<Body>) -> Response {
        request.extensions_mut().insert(ConnectInfo(SocketAddr::from(([127, 0, 0, 1], 1))));
        match self.router.clone().oneshot(request).await {
            Ok(response) => response,
        }
    }

    /// The number of trials.
    pub fn trials(&self) -> usize {
        self.serve.trials().count()
    }
}
