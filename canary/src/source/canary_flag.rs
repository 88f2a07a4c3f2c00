//! The value of `--canary`, which two sources have.

use std::{fmt, str::FromStr};

use super::{pods::Selector, prometheus::Matchers};

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

impl fmt::Display for CanaryFlag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Matchers(matchers) => matchers.fmt(f),
            Self::Labels(labels) => labels.fmt(f),
        }
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
    pub(super) fn labels(&self) -> Result<Option<Selector>, String> {
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
