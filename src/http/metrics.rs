//! What `/metrics` tells, in the Prometheus text format.
//!
//! The release is not among the labels: Prometheus knows it from the pod itself, by service discovery.

use std::time::Duration;

use axum::http::{Method, StatusCode};
use prometheus::{Error, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, Opts, Registry, TextEncoder};

use super::APP_INFO;
use crate::process::ProcessMetrics;

/// Upper bounds in seconds: an answer takes some 50 µs, and anything above 1 s is as bad as it gets.
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

/// What a path or method is called that is none of ours: clients must not be able to add series.
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

/// Method, route and status of all answers that there are.
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
    /// If the metrics library refuses a name.
    pub fn new(implementation: &str) -> Result<Self, Error> {
        let registry = Registry::new();
        let requests = Opts::new("http_requests_total", "Requests answered on the public port.");
        let requests = IntCounterVec::new(requests, &["method", "path", "status"])?;
        let durations = HistogramOpts::new(
            "http_request_duration_seconds",
            "Time from a request's head being read to its answer being ready to be sent.",
        );
        let durations = HistogramVec::new(durations.buckets(BUCKETS.to_vec()), &["method", "path"])?;
        // A series begins where a scrape first sees it: had it not seen 0, the requests before would be lost.
        for (method, route, status) in all_series() {
            requests.with_label_values(&[method, route, status.as_str()]);
            durations.with_label_values(&[method, route]);
        }
        let in_flight =
            IntGauge::new("http_requests_in_flight", "Requests being answered on the public port.")?;
        let build = Opts::new("appinfo_build_info", "What is running: always 1.")
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

    /// Counts a request as being in flight until what it returns is dropped.
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

    /// The metrics as they are now.
    ///
    /// # Errors
    /// If the metrics library cannot write them.
    pub(super) fn text(&self) -> Result<String, Error> {
        self.process.update();
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}
