//! The flags of all sources that yield outcomes as they come, and the one place that opens a source.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Command, Id};

use super::{
    AnySource,
    probe::{ProbeFlags, ServiceFlags, Trust},
    prometheus::PrometheusFlags,
};

/// The group of the flags that choose another source than the probe. Only one of them may be there.
pub(super) const OTHER: &str = "other_source";

/// Where outcomes come from.
#[derive(Clone, Debug, Args)]
pub struct SourceFlags {
    /// Requests of canary's own, unless the flags choose another source.
    #[command(flatten)]
    pub probe: ProbeFlags,

    /// TLS, for every source.
    #[command(flatten)]
    pub tls: TlsFlags,

    /// The service's own counters.
    #[command(flatten)]
    pub prometheus: PrometheusFlags,
}

impl SourceFlags {
    /// Opens the source that the flags choose. Call it within a tokio runtime.
    ///
    /// # Errors
    /// If a flag cannot be used: the cause, in words.
    pub fn open(&self, bounds: Bounds) -> Result<Opened, String> {
        let trust = self.tls.trust();
        let others = [self.prometheus.open(&trust, bounds.time)];
        others.into_iter().flatten().next().unwrap_or_else(|| self.probe.open(trust, bounds))
    }
}

impl SourceFlags {
    /// What decides which requests are counted, and as what, besides the address. Without headers, which may be secret.
    pub(crate) fn terms(&self) -> String {
        let PrometheusFlags { url, stable, canary, failed, slow, .. } = &self.prometheus;
        if url.is_some() {
            return format!("{stable:?} {canary:?} {failed:?} {slow:?}");
        }
        let ProbeFlags { timeout, service, .. } = &self.probe;
        let ServiceFlags { release_header, pod_header, stable_value, canary_value, .. } = service;
        let pods = [&service.stable_pods, &service.canary_pods];
        format!("{timeout:?} {release_header} {pod_header} {stable_value:?} {canary_value:?} {pods:?}")
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

/// What bounds a source.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bounds {
    /// How long it yields outcomes.
    pub time: Option<Duration>,
    /// The maximum number of requests to send.
    pub count: Option<u64>,
    /// A slower answer to a request counts as a failure.
    pub max_latency: Option<Duration>,
}

/// An open source, and what commands say about it.
#[derive(Debug)]
pub struct Opened {
    /// The source. It may be paused.
    pub source: AnySource,
    /// Its name.
    pub title: String,
    /// Its name, and how often it is asked if canary sends the requests.
    pub how: String,
    /// Requests a second, if canary sends them. Otherwise, the source counts all requests that the service gets.
    pub rate: Option<f64>,
    /// The time after which a service without any answer counts as unreachable; `None` if that may take any time.
    pub patience: Option<Duration>,
    /// What one outcome of it is called.
    pub outcome: String,
    /// How a message begins that says why there was no answer.
    pub(super) no_answer: String,
    /// Why there was no answer if no trouble was told.
    pub(super) no_trouble: &'static str,
}

impl Opened {
    /// The message if there was no answer at all, with the last trouble.
    pub fn no_answer(&self, trouble: Option<&str>) -> String {
        format!("{}{}", self.no_answer, trouble.unwrap_or(self.no_trouble))
    }
}

/// The ids of these flags, for conflicts.
pub(super) fn ids<F: Args>() -> Vec<Id> {
    F::augment_args(Command::new("")).get_arguments().map(|flag| flag.get_id().clone()).collect()
}

/// Parses a time in the form of appinfo's flags. It must be more than zero.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    match appinfo::config::duration(text) {
        Ok(Duration::ZERO) => Err("want more than no time".to_owned()),
        Ok(time) => Ok(time),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_must_be_more_than_nothing() {
        assert_eq!(duration("90"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("0.5"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert!(duration("0s").is_err() && duration("0.0").is_err() && duration("soon").is_err());
    }
}
