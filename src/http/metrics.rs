//! The metrics of `/metrics`, in the Prometheus text format.
//!
//! They have no label for the release: Prometheus gets it from the pod's labels, by service discovery.

use std::time::Duration;

use axum::http::{Method, StatusCode};
use prometheus::{Error, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, Opts, Registry, TextEncoder};

use super::APP_INFO;
use crate::process::ProcessMetrics;

/// Upper bounds in seconds. An answer takes about 50 µs; above 1 s, the exact time does not matter.
const BUCKETS: &[f64] =
    &[50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 100e-3, 250e-3, 500e-3, 1.0];

const METHODS: &[Method] = &[
    Method::GET,
    Method::HEAD,
    Method::POST,
    Method::PUT,
    Method::PATCH,
    Method::DELETE,
    Method::OPTIONS,
    Method::TRACE,
    Method::CONNECT,
];

/// The label value for any unknown path or method, so that clients cannot add series.
const OTHER: &str = "other";

/// The metrics of one pod.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    durations: HistogramVec,
    in_flight: IntGauge,
    process: ProcessMetrics,
}

/// Method, route and status of all possible answers.
fn all_series() -> impl Iterator<Item = (&'static str, &'static str, StatusCode)> {
    METHODS.iter().map(Method::as_str).chain([OTHER]).flat_map(|method| {
        let statuses: &[_] = match method {
            "GET" | "HEAD" => &[StatusCode::OK, StatusCode::INTERNAL_SERVER_ERROR],
            _ => &[StatusCode::METHOD_NOT_ALLOWED],
        };
        let service = statuses.iter().map(move |&status| (method, APP_INFO, status));
        service.chain([(method, OTHER, StatusCode::NOT_FOUND)])
    })
}

impl Metrics {
    /// Metrics of a pod that runs this implementation.
    ///
    /// # Errors
    /// If the metrics library rejects a name.
    pub fn new(implementation: &str) -> Result<Self, Error> {
        let registry = Registry::new();
        let requests = Opts::new("http_requests_total", "Requests answered on the public port.");
        let requests = IntCounterVec::new(requests, &["method", "path", "status"])?;
        let durations = HistogramOpts::new(
            "http_request_duration_seconds",
            "Time from the end of a request's head until its answer is ready to be sent, in seconds.",
        );
        let durations = HistogramVec::new(durations.buckets(BUCKETS.to_vec()), &["method", "path"])?;
        // Every counter exists from the start, at 0: rate() ignores requests that were counted before the first scrape.
        for (method, route, status) in all_series() {
            requests.with_label_values(&[method, route, status.as_str()]);
            durations.with_label_values(&[method, route]);
        }
        let in_flight =
            IntGauge::new("http_requests_in_flight", "Requests being answered on the public port.")?;
        let build =
            Opts::new("appinfo_build_info", "Version and implementation as labels; the value is always 1.")
                .const_label("version", env!("CARGO_PKG_VERSION"))
                .const_label("implementation", implementation);
        let build = IntGauge::with_opts(build)?;
        build.set(1);
        registry.register(Box::new(requests.clone()))?;
        registry.register(Box::new(durations.clone()))?;
        registry.register(Box::new(in_flight.clone()))?;
        registry.register(Box::new(build))?;
        let process = ProcessMetrics::register(&registry)?;
        Ok(Self { registry, requests, durations, in_flight, process })
    }

    /// Counts a request as in flight until the returned guard is dropped.
    pub(super) fn begin(&self) -> impl Drop + use<> {
        struct InFlight(IntGauge);
        impl Drop for InFlight {
            fn drop(&mut self) {
                self.0.dec();
            }
        }
        self.in_flight.inc();
        InFlight(self.in_flight.clone())
    }

    /// Counts an answered request; `route` is the route that its path matched.
    pub(super) fn observe(&self, method: &Method, route: Option<&str>, status: StatusCode, time: Duration) {
        let method = if METHODS.contains(method) { method.as_str() } else { OTHER };
        let route = route.unwrap_or(OTHER);
        self.requests.with_label_values(&[method, route, status.as_str()]).inc();
        self.durations.with_label_values(&[method, route]).observe(time.as_secs_f64());
    }

    /// The current metrics as text.
    ///
    /// # Errors
    /// If the metrics library cannot encode them.
    pub(super) fn text(&self) -> Result<String, Error> {
        self.process.update();
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}
