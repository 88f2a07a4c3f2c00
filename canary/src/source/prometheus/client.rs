//! The HTTP client for Prometheus, with TLS and credentials.

use std::{collections::BTreeMap, error, fs, io, iter::successors, path::PathBuf, time::Duration};

use base64::prelude::{BASE64_STANDARD as BASE64, Engine};
use prometheus_http_query::{
    Client, InstantQueryBuilder,
    response::{Data, MetricType, PromqlResult},
};
use reqwest::{
    StatusCode,
    header::{AUTHORIZATION, HeaderValue},
    redirect::Policy,
};
use serde::Deserialize;

use super::counters::Sample;
use crate::source::probe::Trust;

/// The time limit of an answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Credentials for Prometheus.
#[derive(Clone, Debug, Default)]
pub enum Credentials {
    /// No credentials.
    #[default]
    None,
    /// A bearer token, in a file. It is read for each query, because tokens are renewed.
    Bearer(PathBuf),
    /// A user's name, and the file with the password.
    Basic(String, PathBuf),
}

/// The cause why there are no samples.
#[derive(Debug, thiserror::Error)]
pub(super) enum AskError {
    #[error("cannot read {}: {cause}", path.display())]
    Credentials { path: PathBuf, cause: io::Error },
    #[error("Prometheus does not answer: {0}")]
    NoAnswer(String),
    #[error("this is not a Prometheus server: {0}")]
    NotPrometheus(String),
    #[error("Prometheus answers with something that cannot be read, {0}")]
    Unreadable(String),
    #[error("Prometheus refuses {question}: {cause}")]
    Refused { question: String, cause: String },
    #[error("Prometheus answers {question} with a {kind}, and a {wanted} is wanted")]
    WrongType { question: String, kind: &'static str, wanted: &'static str },
}

impl AskError {
    /// Whether Prometheus has answered, even with an error.
    pub(super) fn is_answer(&self) -> bool {
        matches!(self, Self::Refused { .. } | Self::WrongType { .. } | Self::Unreadable(_))
    }
}

/// The labels and raw samples of one series.
#[derive(Debug)]
pub(super) struct RawSeries {
    pub(super) labels: BTreeMap<String, String>,
    /// Oldest first.
    pub(super) samples: Vec<Sample>,
}

/// A client of one Prometheus.
pub(super) struct Prometheus {
    client: Client,
    credentials: Credentials,
}

impl Prometheus {
    /// # Errors
    /// If the URL, the credentials or the certificates cannot be used.
    pub(super) fn new(url: &str, credentials: Credentials, trust: &Trust) -> Result<Self, String> {
        let parsed = reqwest::Url::parse(url).map_err(|error| format!("--prometheus {url}: {error}"))?;
        let wanted = || format!("--prometheus {url}: want http://HOST:PORT or https://HOST:PORT");
        if !["http", "https"].contains(&parsed.scheme()) || parsed.query().is_some() {
            return Err(wanted());
        }
        if !parsed.username().is_empty() || parsed.password().is_some() {
            return Err(
                "--prometheus: want the name and the password by --user and --password-file".to_owned()
            );
        }
        let tls =
            if parsed.scheme() == "https" { trust.client_config()? } else { Trust::no_client_config()? };
        // redirects are reported and not followed: they may lead to a login page
        let http = reqwest::Client::builder().timeout(TIMEOUT).redirect(Policy::none());
        let http = http.tls_backend_preconfigured(tls).build().map_err(|error| with_causes(&error))?;
        let client = Client::from(http, url.trim_end_matches('/')).map_err(|_| wanted())?;
        let new = Self { client, credentials };
        new.authorization().map_err(|error| error.to_string())?;
        Ok(new)
    }

    /// The time of Prometheus' clock, in seconds since 1970. Samples have this time. The clock of this machine may
    /// differ.
    pub(super) async fn time(&self) -> Result<f64, AskError> {
        match self.ask("time()", |question| question).await? {
            Data::Scalar(sample) => Ok(sample.value()),
            other => Err(wrong_type("time()", &other, "scalar")),
        }
    }

    /// The raw samples that match a selector, in the `window` before `time`, in seconds since 1970.
    pub(super) async fn samples(
        &self,
        selector: &str,
        window: Duration,
        time: i64,
    ) -> Result<Vec<RawSeries>, AskError> {
        let question = format!("{selector}[{}s]", window.as_secs());
        let series = match self.ask(&question, |question| question.at(time)).await? {
            Data::Matrix(series) => series,
            other => return Err(wrong_type(&question, &other, "matrix")),
        };
        let series = series.into_iter().map(|series| {
            let (labels, samples) = series.into_inner();
            let samples = samples.iter().map(|sample| (sample.timestamp(), sample.value())).collect();
            RawSeries { labels: labels.into_iter().collect(), samples }
        });
        Ok(series.collect())
    }

    /// Whether Prometheus' metadata says that this metric is a gauge. Without metadata, as with remote write, it is
    /// taken for a counter.
    pub(super) async fn is_gauge(&self, name: &str) -> bool {
        let answer = self.client.metric_metadata().metric(name).get().await;
        let types = answer.ok().and_then(|mut all| all.remove(name)).unwrap_or_default();
        !types.is_empty() && types.iter().all(|one| one.metric_type() == MetricType::Gauge)
    }

    async fn ask(
        &self,
        question: &str,
        with: impl FnOnce(InstantQueryBuilder) -> InstantQueryBuilder,
    ) -> Result<Data, AskError> {
        let mut query = with(self.client.query(question));
        if let Some(value) = self.authorization()? {
            query = query.header(AUTHORIZATION, value);
        }
        let answer = query.get_raw().await.map_err(|error| AskError::NoAnswer(with_causes(&error)))?;
        let status = answer.status();
        let body = answer.bytes().await.map_err(|error| AskError::NoAnswer(with_causes(&error)))?;
        parse(question, status, &body)
    }

    fn authorization(&self) -> Result<Option<HeaderValue>, AskError> {
        let read = |path: &PathBuf| {
            let text = fs::read_to_string(path);
            let text = text.map_err(|cause| AskError::Credentials { path: path.clone(), cause })?;
            Ok(text.trim_end_matches(['\n', '\r']).to_owned())
        };
        let (path, text) = match &self.credentials {
            Credentials::None => return Ok(None),
            Credentials::Bearer(path) => (path, format!("Bearer {}", read(path)?)),
            Credentials::Basic(user, path) => {
                (path, format!("Basic {}", BASE64.encode(format!("{user}:{}", read(path)?))))
            }
        };
        let mut value = HeaderValue::from_str(&text).map_err(|error| AskError::Credentials {
            path: path.clone(),
            cause: io::Error::new(io::ErrorKind::InvalidData, error),
        })?;
        value.set_sensitive(true);
        Ok(Some(value))
    }
}

/// The frame of every answer: <https://prometheus.io/docs/prometheus/latest/querying/api/#format-overview>.
#[derive(Deserialize)]
#[serde(tag = "status", rename_all = "lowercase")]
enum Frame {
    Success { data: serde_json::Value },
    Error { error: String },
}

fn parse(question: &str, status: StatusCode, body: &[u8]) -> Result<Data, AskError> {
    match serde_json::from_slice(body) {
        Ok(Frame::Success { data }) => {
            let kind = data["resultType"].as_str().unwrap_or("none").to_owned();
            let result: Result<PromqlResult, _> = serde_json::from_value(data);
            Ok(result
                .map_err(|error| AskError::Unreadable(format!("of type {kind}: {error}")))?
                .into_inner()
                .0)
        }
        Ok(Frame::Error { error }) => Err(AskError::Refused {
            question: question.to_owned(),
            cause: format!("{error} (HTTP {status})"),
        }),
        // the answer of a proxy
        Err(_) if status == StatusCode::UNAUTHORIZED || status == StatusCode::FORBIDDEN => {
            Err(AskError::Refused { question: question.to_owned(), cause: format!("HTTP {status}") })
        }
        Err(_) if status.is_server_error() => Err(AskError::NoAnswer(format!("HTTP {status}"))),
        Err(_) if !status.is_success() => Err(AskError::NotPrometheus(format!("HTTP {status}"))),
        Err(error) => Err(AskError::NotPrometheus(error.to_string())),
    }
}

fn wrong_type(question: &str, data: &Data, wanted: &'static str) -> AskError {
    let kind = match data {
        Data::Vector(_) => "vector",
        Data::Matrix(_) => "matrix",
        Data::Scalar(_) => "scalar",
    };
    AskError::WrongType { question: question.to_owned(), kind, wanted }
}

/// The message of an error with its causes, which the libraries keep apart.
fn with_causes(error: &dyn error::Error) -> String {
    let mut causes: Vec<_> =
        successors(Some(error), |error| error.source()).map(ToString::to_string).collect();
    causes.dedup();
    causes.join(": ")
}
