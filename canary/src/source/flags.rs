//! The list of all sources that yield outcomes as they come, and the one place that opens a source.

use std::path::PathBuf;

use clap::Args;

use super::{
    opened::{Bounds, Opened},
    pods::{Place, PodsFlags},
    probe::{ProbeFlags, Trust},
    prometheus::PrometheusFlags,
    shown,
    strata::{StrataFlags, WeightedPath},
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
                let PodsFlags { canary_workload, port, .. } = &self.pods;
                format!("{timeout:?} {stable:?} {canary_workload:?} {canary:?} {port:?} {path:?}")
            }
        }
    }
}

impl SourceFlags {
    /// The same terms for people: flags and their values.
    pub(crate) fn shown_terms(&self) -> Vec<(&'static str, String)> {
        let StrataFlags { by, paths } = &self.strata;
        let shown_path = |path: &WeightedPath| shown::path_and_query(&path.to_string());
        let paths: Vec<_> = paths.iter().map(shown_path).collect();
        let PrometheusFlags { url, stable, canary, failed, slow, latency_metric, .. } = &self.prometheus;
        let mut terms = Vec::new();
        let ProbeFlags { target, timeout, service, .. } = &self.probe;
        match target {
            _ if url.is_some() => {
                terms.extend([
                    ("--stable", stable.to_string()),
                    ("--canary", canary.to_string()),
                    ("--failed", failed.to_string()),
                ]);
                terms.extend(slow.as_ref().map(|slow| ("--slow", slow.to_string())));
                terms.extend(latency_metric.as_ref().map(|metric| ("--latency-metric", metric.to_string())));
            }
            Place::Url(_) => {
                terms.push(("--timeout", format!("{timeout:?}")));
                terms.extend(service.naming().terms());
            }
            Place::Workload(stable) => {
                let PodsFlags { canary_workload, port, .. } = &self.pods;
                terms.extend([
                    ("--timeout", format!("{timeout:?}")),
                    ("the stable workload", stable.to_string()),
                ]);
                terms.push(match canary_workload {
                    Some(workload) => ("the canary", workload.to_string()),
                    None => ("--canary", canary.to_string()),
                });
                terms.extend(port.as_ref().map(|port| ("--port", port.to_string())));
            }
        }
        let several = |flag, values: &[String]| (!values.is_empty()).then(|| (flag, values.join(" ")));
        terms.extend([several("--by", by), several("--path", &paths)].into_iter().flatten());
        terms
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
