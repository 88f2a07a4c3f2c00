//! The list of all sources that yield outcomes as they come, and the one place that opens a source.

use std::path::PathBuf;

use clap::Args;

use super::{
    opened::{Bounds, Opened},
    pods::{Place, PodsFlags},
    probe::{ProbeFlags, Trust},
    prometheus::PrometheusFlags,
    strata::StrataFlags,
};

/// Where outcomes come from.
#[derive(Clone, Debug, Args)]
pub struct SourceFlags {
    /// Requests of canary's own, unless the flags choose another source.
    #[command(flatten)]
    pub probe: ProbeFlags,

    /// TLS, for every source.
    #[command(flatten)]
    pub tls: TlsFlags,

    /// What divides the requests.
    #[command(flatten)]
    pub strata: StrataFlags,

    /// The service's own counters.
    #[command(flatten)]
    pub prometheus: PrometheusFlags,

    /// The pods of workloads.
    #[command(flatten)]
    pub pods: PodsFlags,
}

impl SourceFlags {
    /// Opens the source that the flags choose. Call it within a tokio runtime.
    ///
    /// # Errors
    /// If a flag cannot be used: the cause, in words.
    pub async fn open(&self, bounds: Bounds) -> Result<Opened, String> {
        // names each source, so that the compiler complains about one that is not opened
        let Self { probe, tls, strata, prometheus, pods } = self;
        let trust = tls.trust();
        if let Some(opened) = prometheus.open(&trust, &strata.by, bounds) {
            return opened;
        }
        match &probe.target {
            Place::Url(target) => probe.open(target, trust, &strata.paths, bounds),
            Place::Workload(stable) => {
                pods.open(stable, prometheus.canary.labels()?, probe, &strata.paths, bounds).await
            }
        }
    }
}

impl SourceFlags {
    /// What decides which requests are counted, and as what, besides the address. Without headers, which may be secret.
    pub(crate) fn terms(&self) -> String {
        let StrataFlags { by, paths } = &self.strata;
        let paths: Vec<_> = paths.iter().map(ToString::to_string).collect();
        match (&by[..], &paths[..]) {
            ([], [] | [_]) => self.terms_of_all(paths.first()),
            (by, paths) => format!("{} by {by:?} {paths:?}", self.terms_of_all(None)),
        }
    }

    /// The same, but for what divides the requests.
    fn terms_of_all(&self, path: Option<&String>) -> String {
        let PrometheusFlags { url, stable, canary, failed, slow, latency_metric, .. } = &self.prometheus;
        if url.is_some() {
            return format!("{stable:?} {canary:?} {failed:?} {slow:?} {latency_metric:?}");
        }
        let ProbeFlags { target, timeout, service, .. } = &self.probe;
        match target {
            Place::Url(_) => format!("{timeout:?} {:?}", service.naming()),
            Place::Workload(stable) => {
                let PodsFlags { canary_workload, namespace, port, .. } = &self.pods;
                format!(
                    "{timeout:?} {stable:?} {canary_workload:?} {canary:?} {namespace:?} {port:?} {path:?}"
                )
            }
        }
    }
}

/// Which certificates to trust.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Service")]
pub struct TlsFlags {
    /// With https://, trust the certificates of this PEM file instead of the platform's
    #[arg(long, value_name = "FILE", conflicts_with = "insecure")]
    pub cacert: Option<PathBuf>,

    /// With https://, trust any certificate
    #[arg(long)]
    pub insecure: bool,
}

impl TlsFlags {
    fn trust(&self) -> Trust {
        match &self.cacert {
            _ if self.insecure => Trust::Anything,
            Some(path) => Trust::File(path.clone()),
            None => Trust::Platform,
        }
    }
}
