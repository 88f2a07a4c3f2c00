//! The flags of all sources that yield outcomes as they come, and the one place that opens a source.

use std::{path::PathBuf, str::FromStr, time::Duration};

use canary_judge::Fraction;
use clap::{Args, Command, Id};

use super::{
    AnySource,
    pods::{Place, PodsFlags, Selector},
    probe::{ProbeFlags, Trust},
    prometheus::{Matchers, PrometheusFlags},
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
        let trust = self.tls.trust();
        if let Some(opened) = self.prometheus.open(&trust, bounds) {
            return opened;
        }
        match &self.probe.target {
            Place::Url(target) => self.probe.open(target, trust, bounds),
            Place::Workload(stable) => {
                let labels = self.prometheus.canary.labels()?;
                self.pods.open(stable, labels, &self.probe, bounds).await
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

/// What `--canary` selects: series of Prometheus, or pods of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CanaryFlag {
    /// Matchers of Prometheus, as `release="canary"`.
    Matchers(Matchers),
    /// A label selector of Kubernetes, as `track=canary`.
    Labels(Selector),
}

impl FromStr for CanaryFlag {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let matchers = text.parse().map(Self::Matchers);
        matchers.or_else(|error| text.parse().map(Self::Labels).map_err(|_| error))
    }
}

impl CanaryFlag {
    /// The matchers of Prometheus.
    pub(super) fn matchers(&self) -> Result<Matchers, String> {
        match self {
            Self::Matchers(matchers) => Ok(matchers.clone()),
            Self::Labels(labels) => {
                Err(format!("--canary {labels}: Prometheus wants LABEL=\"VALUE\", as in release=\"canary\""))
            }
        }
    }

    /// The label selector; `None` if it is the default, which is for Prometheus.
    fn labels(&self) -> Result<Option<Selector>, String> {
        match self {
            Self::Labels(labels) => Ok(Some(labels.clone())),
            Self::Matchers(_) if *self == DEFAULT_CANARY.parse()? => Ok(None),
            Self::Matchers(_) => {
                Err("--canary with a Service wants LABEL=VALUE without quotes, as in track=canary".to_owned())
            }
        }
    }
}

/// The default of `--canary`, for Prometheus.
pub(super) const DEFAULT_CANARY: &str = r#"release="canary""#;

/// What bounds a source.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bounds {
    /// How long it yields outcomes.
    pub time: Option<Duration>,
    /// The maximum number of requests to send.
    pub count: Option<u64>,
    /// A slower answer to a request counts as a failure.
    pub max_latency: Option<Duration>,
    /// The canary's share of the requests, if it is given.
    pub share: Option<Fraction>,
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
    /// The canary's share of the requests, if it is given or the source decides it.
    pub share: Option<Fraction>,
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
