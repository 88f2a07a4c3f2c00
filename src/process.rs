//! Metrics of this process, read from the kernel (`proc(5)`).

use std::{
    fs, io,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use prometheus::{Counter, Error, Gauge, Registry};
use rustix::{
    process::{Resource, getrlimit},
    time::{ClockId, clock_gettime},
};

/// The standard process metrics of Prometheus' client libraries:
/// <https://prometheus.io/docs/instrumenting/writing_clientlibs/#process-metrics>.
///
/// The crate `prometheus` has them, too, but counts CPU time in whole seconds. That is too coarse: this process
/// takes minutes to use one second.
#[derive(Debug)]
pub(crate) struct ProcessMetrics {
    cpu: Counter,
    resident_memory: Gauge,
    open_fds: Gauge,
    max_fds: Gauge,
}

impl ProcessMetrics {
    /// Registers the metrics with `registry`.
    ///
    /// # Errors
    /// If the metrics library rejects a name.
    pub(crate) fn register(registry: &Registry) -> Result<Self, Error> {
        let gauge = |name, help| {
            let gauge = Gauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok::<_, Error>(gauge)
        };
        let cpu = Counter::new("process_cpu_seconds_total", "User and system CPU time used, in seconds.")?;
        registry.register(Box::new(cpu.clone()))?;
        let start_time =
            gauge("process_start_time_seconds", "When the process started, in seconds since 1970.")?;
        start_time.set(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64());
        Ok(Self {
            cpu,
            resident_memory: gauge("process_resident_memory_bytes", "Resident memory, in bytes.")?,
            open_fds: gauge("process_open_fds", "Open file descriptors.")?,
            max_fds: gauge("process_max_fds", "Maximum number of open file descriptors.")?,
        })
    }

    /// Reads the current values. A metric whose value cannot be read keeps its last value.
    pub(crate) fn update(&self) {
        let used = clock_gettime(ClockId::ProcessCPUTime);
        let used = Duration::try_from(used).unwrap_or_default().as_secs_f64();
        self.cpu.inc_by((used - self.cpu.get()).max(0.0));
        if let Ok(bytes) = resident_bytes() {
            self.resident_memory.set(bytes);
        }
        if let Ok(descriptors) = fs::read_dir("/proc/self/fd") {
            self.open_fds.set(descriptors.count() as f64 - 1.0); // read_dir itself uses one
        }
        self.max_fds.set(getrlimit(Resource::Nofile).current.map_or(f64::INFINITY, |limit| limit as f64));
    }
}

/// Resident memory: the second number of `/proc/self/statm`, in pages.
fn resident_bytes() -> io::Result<f64> {
    let pages = fs::read_to_string("/proc/self/statm")?;
    let pages = pages.split(' ').nth(1).and_then(|pages| pages.parse::<f64>().ok());
    let pages = pages.ok_or(io::ErrorKind::InvalidData)?;
    Ok(pages * rustix::param::page_size() as f64)
}
