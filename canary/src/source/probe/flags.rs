//! The flags of the probe.

use std::time::Duration;

use clap::Args;
use hyper::header::HeaderName;

use super::{
    Limits, NameFrom, NamePattern, Naming, Options, Pace, Probe, ReleaseFrom, Resolve, Service, Target, Trust,
};
use crate::source::{
    AnySource,
    opened::{Bounds, Opened, duration},
    pods::Place,
    shown,
    strata::WeightedPath,
};

/// The service counts as unreachable after this time plus `--timeout` without an answer.
pub(in crate::source) const PATIENCE: Duration = Duration::from_secs(3);

/// Where to send requests, and how often.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Requests")]
pub struct ProbeFlags {
    /// The Service: http://HOST:PORT or https://HOST:PORT, and a path if it is not /v1/appinfo (with --release-from or
    /// --pod-from: if it is not /). Or the stable workload in Kubernetes, such as deployment/shop, and the canary's after
    /// it; or service/NAME with --canary LABEL=VALUE, or rollout/NAME
    #[arg(value_name = "URL|STABLE", default_value = "http://127.0.0.1:8080", help_heading = None::<&str>)]
    pub target: Place,

    /// Requests a second, each on a new connection
    #[arg(long, value_name = "NUMBER", default_value = "10", value_parser = rate)]
    pub rate: f64,

    /// How long an answer may take
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = duration)]
    pub timeout: Duration,

    /// How the service is asked.
    #[command(flatten)]
    pub service: ServiceFlags,
}

/// Flags for services other than appinfo.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Service")]
pub struct ServiceFlags {
    /// Send this header with each request; may be repeated. Host and Authorization are allowed
    #[arg(long = "header", value_name = "NAME: VALUE")]
    pub headers: Vec<String>,

    /// The header of an answer that names the release
    #[arg(long, value_name = "NAME", default_value = "x-release")]
    pub release_header: HeaderName,

    /// The header of an answer that names the pod
    #[arg(long, value_name = "NAME", default_value = "x-served-by")]
    pub pod_header: HeaderName,

    /// Where an answer names its release instead: `body:/version` (a JSON pointer), 'body~Version: (\S+)' (a regular
    /// expression with one group), header:NAME, or pod (the name of its pod)
    #[arg(long, value_name = "WHERE", conflicts_with = "release_header")]
    pub release_from: Option<ReleaseFrom>,

    /// Where an answer names its pod instead of --pod-header, in the same forms
    #[arg(long, value_name = "WHERE", conflicts_with = "pod_header")]
    pub pod_from: Option<NameFrom>,

    /// The name of the stable release, in which * stands for any text; may be repeated. If a name fits both releases,
    /// the more exact pattern counts
    #[arg(long = "stable-value", value_name = "NAME", default_value = "stable")]
    pub stable_values: Vec<NamePattern>,

    /// The name of the canary, in the same way
    #[arg(long = "canary-value", value_name = "NAME", default_value = "canary")]
    pub canary_values: Vec<NamePattern>,

    /// Short for --release-from pod --stable-value NAME, such as appinfo-primary-*
    #[arg(long, value_name = "NAME", requires = "canary_pods")]
    #[arg(conflicts_with_all = ["release_header", "release_from", "stable_values", "canary_values"])]
    pub stable_pods: Option<NamePattern>,

    /// The same for the canary, such as appinfo-*
    #[arg(long, value_name = "NAME", requires = "stable_pods")]
    pub canary_pods: Option<NamePattern>,

    /// Use these addresses for this host and port, as in curl; may be repeated
    #[arg(long, value_name = "HOST:PORT:ADDRESS[,ADDRESS]...")]
    pub resolve: Vec<Resolve>,
}

impl ProbeFlags {
    /// A probe that sends no request yet, with what commands say about it. Call it within a tokio runtime.
    ///
    /// # Errors
    /// If a flag cannot be used: the cause, in words.
    pub(in crate::source) fn open(
        &self,
        target: &Target,
        trust: Trust,
        paths: &[WeightedPath],
        bounds: Bounds,
    ) -> Result<Opened, String> {
        let target = self.service.target(target.clone());
        let title = match paths {
            [] => target.to_string(),
            [one] => format!("{}{}", target.origin(), shown::path_and_query(&one.path)),
            several => format!("{} with {} paths", target.origin(), several.len()),
        };
        let probe = Probe::paused(self.service.of(target, trust, paths)?, self.pace(bounds));
        Ok(Opened {
            place: String::new(),
            source: AnySource::new(probe),
            how: format!("{title} {} times a second", self.rate),
            rate: Some(self.rate),
            share: bounds.share,
            patience: Some(PATIENCE.saturating_add(self.timeout)),
            unseen: format!("no answer from {title} named the release"),
            no_answer: format!("no answer from {title}: "),
            no_trouble: "no request was sent",
            title,
        })
    }

    fn pace(&self, Bounds { time, count, max_latency, .. }: Bounds) -> Pace {
        Pace { rate: self.rate, limits: Limits { timeout: self.timeout, max_latency }, time, count }
    }
}

impl ServiceFlags {
    /// The URL to ask. A service that names itself in its own way has no default path.
    fn target(&self, target: Target) -> Target {
        if self.release_from.is_some() || self.pod_from.is_some() { target.without_default() } else { target }
    }

    /// The service that these flags describe.
    fn of(&self, target: Target, trust: Trust, paths: &[WeightedPath]) -> Result<Service, String> {
        let options = Options {
            headers: self.headers.clone(),
            naming: self.naming(),
            resolve: self.resolve.clone(),
            trust,
            paths: paths.to_owned(),
        };
        Service::new(target, options)
    }

    /// Where answers name their release and pod.
    pub(in crate::source) fn naming(&self) -> Naming {
        let header = |name: &HeaderName| NameFrom::Header(name.clone());
        let pod = self.pod_from.clone().unwrap_or_else(|| header(&self.pod_header));
        if let (Some(stable), Some(canary)) = (self.stable_pods.clone(), self.canary_pods.clone()) {
            return Naming { release: ReleaseFrom::Pod, pod, stable: vec![stable], canary: vec![canary] };
        }
        let release = self.release_from.clone();
        Naming {
            release: release.unwrap_or_else(|| ReleaseFrom::Answer(header(&self.release_header))),
            pod,
            stable: self.stable_values.clone(),
            canary: self.canary_values.clone(),
        }
    }
}

/// Parses a rate, in requests a second.
pub(crate) fn rate(text: &str) -> Result<f64, &'static str> {
    let wanted = "want a number from 0.01 to 2000";
    text.parse().ok().filter(|rate| (0.01..=2000.0).contains(rate)).ok_or(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_must_be_more_than_nothing() {
        for bad in ["0", "-1", "NaN", "inf", "2001", "fast"] {
            assert!(rate(bad).is_err(), "{bad}");
        }
        assert_eq!(rate("0.01"), Ok(0.01));
    }
}
