//! What `/metrics` tells, in the Prometheus text format.
//!
//! The release is not among the labels: Prometheus knows it from the pod itself, by service discovery.

use std::{
    fs, io,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use axum::http::{Method, StatusCode};
use prometheus::{
    Counter, Error, Gauge, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, Opts, Registry, TextEncoder,
};
use rustix::{
    process::{Resource, getrlimit},
    time::{ClockId, clock_gettime},
};

use super::APP_INFO;

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
    process: Process,
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
        for status in ["200", "500"] {
            requests.with_label_values(&["GET", APP_INFO, status]);
        }
        durations.with_label_values(&["GET", APP_INFO]);
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
        let process = Process::register(&registry)?;
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

/// The usual metrics of a process, which tell what Linux does (`proc(5)`) when they are asked for.
///
/// <https://prometheus.io/docs/instrumenting/writing_clientlibs/#process-metrics>. The library's own would
/// tell processor time in whole seconds, and this process takes minutes to use one.
#[derive(Debug)]
struct Process {
    cpu: Counter,
    resident_memory: Gauge,
    open_fds: Gauge,
    max_fds: Gauge,
}

impl Process {
    fn register(registry: &Registry) -> Result<Self, Error> {
        let gauge = |name, help| {
            let gauge = Gauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok::<_, Error>(gauge)
        };
        let cpu =
            Counter::new("process_cpu_seconds_total", "User and system processor time used, in seconds.")?;
        registry.register(Box::new(cpu.clone()))?;
        let start_time =
            gauge("process_start_time_seconds", "When the process started, in seconds since 1970.")?;
        start_time.set(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64());
        Ok(Self {
            cpu,
            resident_memory: gauge("process_resident_memory_bytes", "Memory that is resident, in bytes.")?,
            open_fds: gauge("process_open_fds", "Open file descriptors.")?,
            max_fds: gauge("process_max_fds", "How many file descriptors may be open.")?,
        })
    }

    fn update(&self) {
        let used = clock_gettime(ClockId::ProcessCPUTime);
        let used = Duration::try_from(used).unwrap_or_default().as_secs_f64();
        self.cpu.inc_by((used - self.cpu.get()).max(0.0));
        if let Ok(bytes) = resident_bytes() {
            self.resident_memory.set(bytes);
        }
        if let Ok(descriptors) = fs::read_dir("/proc/self/fd") {
            self.open_fds.set(descriptors.count() as f64 - 1.0); // without the one that counts them
        }
        self.max_fds.set(getrlimit(Resource::Nofile).current.map_or(f64::INFINITY, |limit| limit as f64));
    }
}

/// The second number of `/proc/self/statm` counts resident pages.
fn resident_bytes() -> io::Result<f64> {
    let pages = fs::read_to_string("/proc/self/statm")?;
    let pages = pages.split(' ').nth(1).and_then(|pages| pages.parse::<f64>().ok());
    let pages = pages.ok_or(io::ErrorKind::InvalidData)?;
    Ok(pages * rustix::param::page_size() as f64)
}
