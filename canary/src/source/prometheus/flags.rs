//! The flags of Prometheus as a source.

use std::{path::PathBuf, time::Duration};

use clap::Args;

use super::{
    Address, Bucket, Credentials, Failures, Latencies, Matchers, Metric, Options, Prometheus, Queries,
    queries::is_label,
};
use crate::source::{
    AnySource,
    canary_flag::{CanaryFlag, DEFAULT_CANARY},
    opened::{Bounds, OTHER, Opened, duration, ids},
    pods::PodsFlags,
    probe::{ProbeFlags, Trust},
};

/// A Prometheus, and which of its counters to read.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Prometheus")]
pub struct PrometheusFlags {
    /// Judge by the counters in this Prometheus instead of sending requests: http://HOST:PORT or https://HOST:PORT
    #[arg(long = "prometheus", value_name = "URL", id = "prometheus", group = OTHER)]
    #[arg(conflicts_with_all = ids::<ProbeFlags>(), conflicts_with_all = ids::<PodsFlags>())]
    pub url: Option<Address>,

    /// How often to query Prometheus
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = duration, requires = "prometheus")]
    pub interval: Duration,

    /// The counter of requests, with matchers that select the service. Or several, if all requests are their sum:
    /// `{__name__=~"succeeded_total|failed_total"}`
    #[arg(long, value_name = "NAME{MATCHERS}", requires = "prometheus")]
    #[arg(default_value = r#"http_requests_total{app="appinfo",path="/v1/appinfo",method=~"GET|HEAD"}"#)]
    pub metric: Metric,

    /// Selects the series of the stable release
    #[arg(long, value_name = "MATCHERS", default_value = r#"release="stable""#, requires = "prometheus")]
    pub stable: Matchers,

    /// Selects the series of the canary. With service/NAME, a label selector of the canary's pods, such as track=canary
    #[arg(long, value_name = "MATCHERS", default_value = DEFAULT_CANARY)]
    pub canary: CanaryFlag,

    /// Selects the series that count failures. Or the counter of failures, if they have one of their own:
    /// NAME{MATCHERS}. The matchers of --metric apply to it, too
    #[arg(long, value_name = "MATCHERS", default_value = r#"status=~"5..""#, requires = "prometheus")]
    pub failed: Failures,

    /// Count slow answers as failures: the histogram bucket of the answers in time, such as
    /// `http_request_duration_seconds_bucket{le="0.25"}`. The matchers of --metric apply to it, too
    #[arg(long, value_name = "BUCKET", requires = "prometheus")]
    pub slow: Option<Bucket>,

    /// Compare the latencies of both releases: their histogram, such as `http_request_duration_seconds`. Its bounds are
    /// seconds, or milliseconds if its name ends in _ms, _millis or _milliseconds. The matchers of --metric apply to it, too
    #[arg(long, value_name = "HISTOGRAM", requires = "prometheus")]
    pub latency_metric: Option<Latencies>,

    /// Send the bearer token in this file
    #[arg(long, value_name = "FILE", requires = "prometheus", conflicts_with = "user")]
    pub bearer_token_file: Option<PathBuf>,

    /// The user name for basic authentication
    #[arg(long, value_name = "NAME", requires_all = ["prometheus", "password_file"])]
    pub user: Option<String>,

    /// The file with the password for --user
    #[arg(long, value_name = "FILE", requires = "user")]
    pub password_file: Option<PathBuf>,

    /// Send this header with each query, such as X-Scope-OrgID for Mimir; may be repeated
    #[arg(long = "prometheus-header", value_name = "NAME: VALUE", requires = "prometheus")]
    pub prometheus_headers: Vec<String>,
}

impl PrometheusFlags {
    /// Starts to query, for this long, if the flags choose this source. Call it within a tokio runtime.
    ///
    /// # Errors
    /// If a flag cannot be used: the cause, in words.
    pub(in crate::source) fn open(
        &self,
        trust: &Trust,
        by: &[String],
        bounds: Bounds,
    ) -> Option<Result<Opened, String>> {
        let address = self.url.as_ref()?;
        if bounds.compares_latency && self.latency_metric.is_none() {
            return Some(Err("with --prometheus, --slower-by needs --latency-metric".to_owned()));
        }
        let title = format!("{address} for {}", self.metric);
        if let Some(label) = by.iter().find(|label| !is_label(label)) {
            return Some(Err(format!("--by {label:?}: want the name of a label, such as path")));
        }
        let options = self.options(address.clone(), trust.clone(), by, bounds.compares_pods);
        let started = options.and_then(|options| Prometheus::start(&options, bounds.time));
        Some(started.map(|prometheus| Opened {
            place: String::new(),
            source: AnySource::new(prometheus),
            how: title.clone(),
            title,
            rate: None,
            share: bounds.share,
            patience: None,
            unseen: "in this time, Prometheus has counted no request of the release".to_owned(),
            no_answer: String::new(),
            no_trouble: "Prometheus does not answer",
        }))
    }

    fn options(
        &self,
        address: Address,
        trust: Trust,
        by: &[String],
        compares_pods: bool,
    ) -> Result<Options, String> {
        let Self {
            metric,
            stable,
            failed,
            slow,
            latency_metric: latencies,
            bearer_token_file,
            user,
            password_file,
            ..
        } = self.clone();
        let canary = self.canary.matchers()?;
        let credentials = match (bearer_token_file, user, password_file) {
            (Some(token), ..) => Credentials::Bearer(token),
            (None, Some(user), Some(password)) => Credentials::Basic(user, password),
            _ => Credentials::None,
        };
        Ok(Options {
            address,
            headers: self.prometheus_headers.clone(),
            credentials,
            trust,
            queries: Queries { requests: metric, stable, canary, failed, slow, latencies, by: by.to_owned() },
            compares_pods,
            every: self.interval,
        })
    }
}
