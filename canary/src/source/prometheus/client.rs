//! The client for Prometheus: the queries, the credentials, and what its answers mean.
//!
//! It asks directly, without a proxy, and follows no redirect, which may lead to a login page. Its answers are
//! limited in time and size.

use std::{collections::HashMap, fmt, fs, io, path::PathBuf, str::FromStr, sync::Arc, time::Duration};

use base64::prelude::{BASE64_STANDARD as BASE64, Engine};
use form_urlencoded::Serializer;
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper::{
    Request, StatusCode, Uri,
    body::{Body, Bytes, Incoming},
    header::{AUTHORIZATION, CONNECTION, HOST, HeaderMap, HeaderValue, LOCATION, USER_AGENT},
};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::samples::{RawSeries, Room, Value};
use crate::source::{
    Cause,
    http::{self, Lost, Origin, Tls},
    probe::{Trust, addresses},
    shown,
};

/// The time limit of an answer, to its last byte.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The maximum size of an answer, in bytes. A series that is scraped every 15 seconds takes about 400.
const MAX_ANSWER: usize = 8 << 20;
/// The maximum number of a server's warnings that are shown.
const MOST_WARNINGS: usize = 3;
/// The year 10000, in seconds since 1970: no clock is later.
const LATEST: f64 = 253_402_300_800.0;
/// The question for the time.
pub(super) const TIME: &str = "time()";

/// The address of a Prometheus: `http://HOST:PORT`, or `https://`, with a path if a proxy needs one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    origin: Origin,
    /// Without a slash at its end.
    path: String,
}

impl FromStr for Address {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WANTED: &str = "want http://HOST:PORT or https://HOST:PORT, for example http://prometheus:9090";
        let uri: Uri = text.parse().map_err(|_| WANTED)?;
        let credentials = "want the name and the password by --user and --password-file";
        let origin = Origin::of(&uri).map_err(|error| error.text(WANTED, credentials))?;
        if uri.query().is_some() {
            return Err("there must be no query in it");
        }
        Ok(Self { origin, path: uri.path().trim_end_matches('/').to_owned() })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.origin, self.path)
    }
}

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
    #[error("Prometheus answers {question} with more than {} MiB: select fewer series with --metric", MAX_ANSWER >> 20)]
    TooLarge { question: String },
    #[error("Prometheus answers {question} with something that cannot be read: {cause}")]
    Unreadable { question: String, cause: String },
    #[error("Prometheus refuses {question}: {cause}")]
    Refused { question: String, cause: String },
    #[error("Prometheus answers {question} with a {kind}, and a {wanted} is wanted")]
    WrongType { question: String, kind: String, wanted: &'static str },
    /// Something is missing in the answer, so counts of it may be too small.
    #[error("the answer to {question} may be incomplete, so it does not count ({why}); it is asked again")]
    Incomplete { question: String, why: String },
}

impl AskError {
    /// Whether Prometheus has answered, even with an error.
    pub(super) fn is_answer(&self) -> bool {
        !matches!(self, Self::Credentials { .. } | Self::NoAnswer(_) | Self::NotPrometheus(_))
    }
}

/// What the metadata says about a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MetricType {
    /// It is a counter.
    Counter,
    /// It is a gauge, wherever it is scraped.
    Gauge,
    /// There is no metadata, as with remote write, or it says something else.
    Unknown,
}

impl MetricType {
    /// The type of the metric `name`, by the answer to the question for its metadata.
    pub(super) fn of(
        name: &str,
        question: String,
        status: StatusCode,
        body: Bytes,
    ) -> Result<Self, AskError> {
        // some servers have no metadata at all
        if [StatusCode::NOT_FOUND, StatusCode::METHOD_NOT_ALLOWED, StatusCode::NOT_IMPLEMENTED]
            .contains(&status)
        {
            return Ok(Self::Unknown);
        }
        let answer = Answer::new(question, status, body)?;
        let mut all: HashMap<String, Vec<Metadata>> = answer.data()?;
        let types = all.remove(name).unwrap_or_default();
        Ok(if types.iter().any(|one| one.kind == "counter") {
            Self::Counter
        } else if !types.is_empty() && types.iter().all(|one| one.kind == "gauge") {
            Self::Gauge
        } else {
            Self::Unknown
        })
    }
}

/// A client of one Prometheus.
pub(super) struct Prometheus {
    address: Address,
    tls: Option<Tls>,
    headers: HeaderMap,
    credentials: Credentials,
}

impl Prometheus {
    /// # Errors
    /// If the headers, the credentials or the certificates cannot be used.
    pub(super) fn new(
        address: Address,
        headers: &[String],
        credentials: Credentials,
        trust: &Trust,
    ) -> Result<Self, String> {
        let mut headers = http::headers("--prometheus-header", headers)?;
        if headers.contains_key(AUTHORIZATION) && !matches!(credentials, Credentials::None) {
            return Err("--prometheus-header authorization: the other credentials set this header".to_owned());
        }
        headers.entry(USER_AGENT).or_insert(http::AGENT);
        headers.entry(HOST).or_insert_with(|| address.origin.authority.clone());
        // each question has a connection of its own, so that none is lost with a connection that was just closed
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        let connector = || trust.client_config().map(|config| TlsConnector::from(Arc::new(config)));
        let tls = address.origin.tls(connector)?;
        let new = Self { address, tls, headers, credentials };
        new.authorization().map_err(|error| error.to_string())?;
        Ok(new)
    }

    /// The time of Prometheus' clock, in seconds since 1970. Samples have this time. The clock of this machine may
    /// differ.
    pub(super) async fn time(&self) -> Result<f64, AskError> {
        self.ask(TIME, None).await?.time()
    }

    /// The raw samples that match a selector, in the `window` before `time`, in seconds since 1970.
    pub(super) async fn samples(
        &self,
        selector: &str,
        window: Duration,
        time: i64,
        room: &mut Room,
    ) -> Result<Vec<RawSeries>, AskError> {
        self.ask(&format!("{selector}[{}s]", window.as_secs()), Some(time)).await?.samples(room)
    }

    /// What Prometheus' metadata says about this metric.
    pub(super) async fn type_of(&self, name: &str) -> Result<MetricType, AskError> {
        let query = Serializer::new(String::new()).append_pair("metric", name).finish();
        let question = format!("/api/v1/metadata, which tells whether {name} is a counter");
        let (status, body) = self.get(&question, &format!("/api/v1/metadata?{query}")).await?;
        MetricType::of(name, question, status, body).map_err(|error| self.with_address(error))
    }

    /// The same error. If this is no Prometheus, it says where.
    fn with_address(&self, error: AskError) -> AskError {
        match error {
            AskError::NotPrometheus(cause) => {
                AskError::NotPrometheus(format!("{cause}, at {}", self.address))
            }
            error => error,
        }
    }

    async fn ask(&self, question: &str, time: Option<i64>) -> Result<Answer, AskError> {
        let time = time.map(|time| ("time", time.to_string()));
        let pairs = [("query", question.to_owned())].into_iter().chain(time);
        let query = Serializer::new(String::new()).extend_pairs(pairs).finish();
        let (status, body) = self.get(question, &format!("/api/v1/query?{query}")).await?;
        Answer::new(question.to_owned(), status, body).map_err(|error| self.with_address(error))
    }

    async fn get(&self, question: &str, path_and_query: &str) -> Result<(StatusCode, Bytes), AskError> {
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = format!("{}{path_and_query}", self.address.path)
            .parse()
            .map_err(|error| AskError::NoAnswer(format!("{question} is not a possible question: {error}")))?;
        request.headers_mut().clone_from(&self.headers);
        if let Some(value) = self.authorization()? {
            request.headers_mut().insert(AUTHORIZATION, value);
        }
        let answer = timeout(TIMEOUT, self.send(question, request)).await;
        answer.unwrap_or_else(|_| Err(self.no_answer(&Lost::Late)))
    }

    async fn send(
        &self,
        question: &str,
        request: Request<Empty<Bytes>>,
    ) -> Result<(StatusCode, Bytes), AskError> {
        let Origin { host, port, .. } = &self.address.origin;
        let lost = |lost: Lost| self.no_answer(&lost);
        let stream = addresses::connect(host, *port).await.map_err(|why| lost(why.into()))?;
        let mut connection = http::start(stream, self.tls.as_ref()).await.map_err(lost)?;
        let answer = connection.send_request(request).await.map_err(|error| lost(Lost::Http(error)))?;
        let status = answer.status();
        if status.is_redirection() {
            let cause = redirects(status, answer.headers());
            return Err(self.with_address(AskError::NotPrometheus(cause)));
        }
        Ok((status, self.read(question, answer.into_body()).await?))
    }

    async fn read(&self, question: &str, body: Incoming) -> Result<Bytes, AskError> {
        let too_large = || AskError::TooLarge { question: question.to_owned() };
        if body.size_hint().lower() > MAX_ANSWER as u64 {
            return Err(too_large());
        }
        match Limited::new(body, MAX_ANSWER).collect().await {
            Ok(body) => Ok(body.to_bytes()),
            Err(error) if error.is::<LengthLimitError>() => Err(too_large()),
            Err(error) => Err(match error.downcast::<hyper::Error>() {
                Ok(error) => self.no_answer(&Lost::Http(*error)),
                Err(error) => AskError::NoAnswer(error.to_string()),
            }),
        }
    }

    /// The error in words, with what to do.
    fn no_answer(&self, lost: &Lost) -> AskError {
        let detail = lost.detail(TIMEOUT);
        let address = &self.address;
        AskError::NoAnswer(match lost.cause() {
            Cause::UnknownName => format!("the name in {address} does not resolve ({detail})"),
            Cause::Refused => {
                format!("connection refused by {}: does it run, and is that its port?", address.origin)
            }
            Cause::Unreachable => format!("no connection to {} ({detail})", address.origin),
            Cause::TimedOut | Cause::Certificate | Cause::Tls => format!("{address}: {detail}"),
            Cause::BrokeOff => format!("{} broke the connection off ({detail})", address.origin),
        })
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

fn redirects(status: StatusCode, headers: &HeaderMap) -> String {
    let to = headers.get(LOCATION).map(|to| String::from_utf8_lossy(to.as_bytes()).into_owned());
    let to = to.map(|to| format!(" to {}", shown::text(&shown::url(&to)))).unwrap_or_default();
    format!("HTTP {status}, a redirect{to}, which canary does not follow")
}

/// An answer in the form of Prometheus' API:
/// <https://prometheus.io/docs/prometheus/latest/querying/api/#format-overview>.
pub(super) struct Answer {
    question: String,
    frame: Frame,
    body: Bytes,
}

/// What every answer has. The data are parsed later, when their kind is known.
#[derive(Deserialize)]
struct Frame {
    status: Status,
    #[serde(default)]
    error: String,
    warnings: Option<Vec<String>>,
    /// Of `VictoriaMetrics`: a storage node did not answer.
    #[serde(default, rename = "isPartial")]
    is_partial: bool,
    data: Option<Kind>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    Success,
    Error,
}

#[derive(Deserialize)]
struct Kind {
    #[serde(rename = "resultType")]
    kind: Option<String>,
}

impl Answer {
    /// # Errors
    /// If it is an error, no answer of Prometheus, or incomplete.
    pub(super) fn new(question: String, status: StatusCode, body: Bytes) -> Result<Self, AskError> {
        let frame = match serde_json::from_slice::<Frame>(&body) {
            Ok(frame) => frame,
            // the answer of a proxy
            Err(_) if [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN].contains(&status) => {
                return Err(AskError::Refused { question, cause: format!("HTTP {status}") });
            }
            Err(_) if status.is_server_error() => {
                return Err(AskError::NoAnswer(format!("HTTP {status} to {question}")));
            }
            Err(_) if !status.is_success() => return Err(AskError::NotPrometheus(format!("HTTP {status}"))),
            Err(_) if body.is_empty() => {
                return Err(AskError::NotPrometheus("its answer is empty".to_owned()));
            }
            Err(error) => {
                return Err(AskError::NotPrometheus(format!(
                    "its answer is not that of Prometheus' API ({})",
                    shown::text(&error.to_string())
                )));
            }
        };
        if matches!(frame.status, Status::Error) {
            let cause = format!("{} (HTTP {status})", shown::text(&frame.error));
            return Err(AskError::Refused { question, cause });
        }
        let mut why: Vec<_> =
            frame.warnings.iter().flatten().take(MOST_WARNINGS).map(|it| shown::text(it)).collect();
        if frame.is_partial {
            why.push("isPartial".to_owned());
        }
        if !why.is_empty() {
            return Err(AskError::Incomplete { question, why: why.join("; ") });
        }
        Ok(Self { question, frame, body })
    }

    /// The result as a time, in seconds since 1970.
    pub(super) fn time(&self) -> Result<f64, AskError> {
        let time = self.number()?;
        if (0.0..LATEST).contains(&time) {
            return Ok(time);
        }
        let cause = format!("{time} is not a time in seconds since 1970");
        Err(AskError::Unreadable { question: self.question.clone(), cause })
    }

    fn number(&self) -> Result<f64, AskError> {
        match self.kind() {
            "scalar" => Ok(self.result::<Value>()?.value),
            "vector" => match self.result::<[Element; 1]>() {
                // VictoriaMetrics
                Ok([element]) => Ok(element.value.value),
                Err(_) => Err(self.wrong_type("scalar")),
            },
            _ => Err(self.wrong_type("scalar")),
        }
    }

    /// The result as raw samples, which take some of the `room`.
    pub(super) fn samples(&self, room: &mut Room) -> Result<Vec<RawSeries>, AskError> {
        if self.kind() != "matrix" {
            return Err(self.wrong_type("matrix"));
        }
        room.read(self.result::<&RawValue>()?.get()).map_err(|error| self.unreadable(&error))
    }

    /// The kind of result: scalar, vector, matrix.
    fn kind(&self) -> &str {
        self.frame.data.as_ref().and_then(|data| data.kind.as_deref()).unwrap_or("result of no type")
    }

    fn result<'a, T: Deserialize<'a>>(&'a self) -> Result<T, AskError> {
        #[derive(Deserialize)]
        struct Data<T> {
            result: T,
        }
        self.data().map(|Data { result }| result)
    }

    fn data<'a, T: Deserialize<'a>>(&'a self) -> Result<T, AskError> {
        #[derive(Deserialize)]
        struct Success<T> {
            data: T,
        }
        let data = serde_json::from_slice(&self.body).map(|Success { data }| data);
        data.map_err(|error| self.unreadable(&error))
    }

    fn unreadable(&self, error: &serde_json::Error) -> AskError {
        AskError::Unreadable { question: self.question.clone(), cause: shown::text(&error.to_string()) }
    }

    fn wrong_type(&self, wanted: &'static str) -> AskError {
        AskError::WrongType { question: self.question.clone(), kind: shown::text(self.kind()), wanted }
    }
}

/// One series of a vector.
#[derive(Deserialize)]
struct Element {
    value: Value,
}

/// One metric of one target.
#[derive(Deserialize)]
struct Metadata {
    #[serde(rename = "type")]
    kind: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(body: String) -> Result<Answer, AskError> {
        Answer::new(TIME.to_owned(), StatusCode::OK, Bytes::from(body))
    }

    #[test]
    fn a_time_that_no_clock_has_is_refused() {
        let scalar = |value| {
            answer(format!(
                r#"{{"status":"success","data":{{"resultType":"scalar","result":[0,"{value}"]}}}}"#
            ))
        };
        for (value, is_time) in [("1763971200.1", true), ("1e300", false), ("+Inf", false), ("NaN", false)] {
            assert_eq!(scalar(value).and_then(|answer| answer.time()).is_ok(), is_time, "{value}");
        }
    }

    #[test]
    fn an_answer_that_is_not_prometheus_is_shown_bounded_and_safe() {
        let body = format!(r#"{{"status":"\u001b{}"}}"#, "a".repeat(100_000));
        let Err(error) = answer(body) else { panic!("it is no status") };
        let shown = error.to_string();
        assert!(shown.len() < 1000 && shown.chars().all(crate::foreign::is_safe), "{shown:?}");
    }
}
