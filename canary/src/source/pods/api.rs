//! The client of the Kubernetes API: through the socket of `kubectl proxy`, or in the cluster with the service account.
//! Its answers are bounded in time and size.

use std::{fs, net::IpAddr, path::PathBuf, sync::Arc, time::Duration};

use http_body_util::{BodyExt, Empty, Limited};
use hyper::{
    Request, StatusCode, Uri,
    body::{Bytes, Incoming},
    header::{
        AUTHORIZATION, CACHE_CONTROL, CONNECTION, HOST, HeaderMap, HeaderName, HeaderValue, USER_AGENT,
    },
};
use serde::{Deserialize, de::DeserializeOwned};
use tokio::{
    net::UnixStream,
    sync::Mutex,
    time::{Instant, timeout},
};
use tokio_rustls::TlsConnector;

use super::kubectl::Socket;
use crate::source::{
    http::{self, Connection, Lost, Origin, Tls},
    probe::{Trust, addresses},
    shown,
};

/// The time limit of an answer, to its last byte.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The time limit of the question whether the API server answers.
const CHECK_TIMEOUT: Duration = Duration::from_secs(3);
/// The maximum size of a list, in bytes. A pod takes about 10,000.
const MAX_ANSWER: usize = 64 << 20;
/// The maximum size of one event of a watch. An object has at most 1.5 MiB.
const MAX_EVENT: usize = 4 << 20;

/// Where a pod's service account is.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Headers that the API server sets on each of its answers, also on those of pods. Older ones set only the first.
const MARKS: [HeaderName; 3] = [
    CACHE_CONTROL,
    HeaderName::from_static("audit-id"),
    HeaderName::from_static("x-kubernetes-pf-flowschema-uid"),
];

/// How the message of the API server begins if it has not reached a pod. Older ones write it with a capital letter, and
/// as plain text.
const NOT_REACHED: &str = "error trying to reach service:";
/// A port that no pod can have. So only the API server, or a server before it, can answer a request to it.
const NO_PORT: u32 = 99_999;

/// Whether a message of the API server says that it has not reached a pod.
pub(super) fn is_not_reached(message: &str) -> bool {
    message.get(..NOT_REACHED.len()).is_some_and(|start| start.eq_ignore_ascii_case(NOT_REACHED))
}

/// The way to the API server.
pub(super) enum Way {
    /// The socket of a `kubectl proxy`.
    Proxy(Socket),
    /// From a pod, with its service account.
    Cluster {
        /// The API server.
        origin: Origin,
        /// Its certificate authority.
        tls: Option<Tls>,
        /// The file with the token. It is read for each request, because tokens are renewed.
        token: PathBuf,
    },
}

impl Way {
    /// The socket of the `kubectl proxy` that runs now; `None` in the cluster.
    pub(super) fn now(&self) -> Option<PathBuf> {
        match self {
            Self::Proxy(socket) => Some(socket.path()),
            Self::Cluster { .. } => None,
        }
    }

    /// The way from a pod; `None` where this is no pod, or it has no token.
    pub(super) fn in_cluster() -> Option<Result<Self, String>> {
        let folder = PathBuf::from(SERVICE_ACCOUNT);
        let token = folder.join("token");
        let host = std::env::var("KUBERNETES_SERVICE_HOST").ok().filter(|_| token.exists())?;
        let port = std::env::var("KUBERNETES_SERVICE_PORT").unwrap_or_else(|_| "443".to_owned());
        Some(Self::from_pod(&host, &port, folder.join("ca.crt"), token))
    }

    pub(super) fn from_pod(host: &str, port: &str, ca: PathBuf, token: PathBuf) -> Result<Self, String> {
        let bad = || format!("KUBERNETES_SERVICE_HOST and _PORT name no server: {host} and {port}");
        let host = match host.parse() {
            Ok(IpAddr::V6(address)) => format!("[{address}]"),
            _ => host.to_owned(),
        };
        let uri: Uri = format!("https://{host}:{port}").parse().map_err(|_| bad())?;
        let origin = Origin::of(&uri).map_err(|_| bad())?;
        let connector = || Trust::File(ca).client_config().map(|config| TlsConnector::from(Arc::new(config)));
        let tls = origin.tls(connector)?;
        Ok(Self::Cluster { origin, tls, token })
    }
}

/// The namespace of this pod.
pub(super) fn own_namespace() -> Option<String> {
    let text = fs::read_to_string(PathBuf::from(SERVICE_ACCOUNT).join("namespace")).ok()?;
    Some(text.trim().to_owned()).filter(|name| super::workload::is_name(name))
}

/// Why the API server has not said what was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ApiError {
    /// There was no answer.
    NoAnswer(String),
    /// It refuses, with this status.
    Refused(StatusCode, String),
    /// Its answer is not what was asked for.
    Unreadable(String),
}

/// What the API server says of a path of a kind that it does not know: as plain text, or as a `Status`.
const UNKNOWN_KIND: [&str; 2] = ["404 page not found", "the server could not find the requested resource"];

impl ApiError {
    /// Whether it does not know the kind of object that was asked for. If only the object is missing, it names it.
    pub(super) fn is_of_unknown_kind(&self) -> bool {
        matches!(self, Self::Refused(StatusCode::NOT_FOUND, why) if UNKNOWN_KIND.contains(&why.as_str()))
    }

    /// The error in words. `rule` is what a role must allow.
    pub(super) fn text(&self, rule: &str) -> String {
        match self {
            Self::NoAnswer(why) => format!("the Kubernetes API server does not answer: {why}"),
            Self::Refused(StatusCode::FORBIDDEN, why) => forbidden(why, rule),
            Self::Refused(status, why) => {
                format!("the Kubernetes API server answers {}: {why}", status.as_u16())
            }
            Self::Unreadable(why) => {
                format!("the Kubernetes API server answers with something that cannot be read: {why}")
            }
        }
    }
}

/// The message on a refusal, with the rule that is needed.
pub(super) fn forbidden(why: &str, rule: &str) -> String {
    format!("Kubernetes does not allow it: {why}. A Role with these rules does: {rule}")
}

/// The API server's own description of an error.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ApiStatus {
    kind: String,
    pub(super) message: String,
    pub(super) code: u16,
    pub(super) details: Option<Details>,
}

/// What an [`ApiStatus`] is about.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Details {
    pub(super) name: String,
    pub(super) kind: String,
}

impl ApiStatus {
    /// The status that a body describes, if it describes this one.
    pub(super) fn of(status: StatusCode, body: &[u8]) -> Option<Self> {
        let parsed: Self = serde_json::from_slice(body).ok()?;
        (parsed.kind == "Status" && parsed.code == status.as_u16()).then_some(parsed)
    }
}

/// The result of a question whether the API server answers.
struct Checked {
    path: String,
    began: Instant,
    result: Result<(), ApiError>,
}

/// The API server.
pub(super) struct Api {
    pub(super) way: Way,
    /// The path of the pods.
    pods: String,
    /// The last check.
    checked: Mutex<Option<Checked>>,
    /// The headers that its answers have.
    marks: std::sync::Mutex<Option<HeaderMap>>,
}

impl Api {
    pub(super) fn new(way: Way, namespace: &str) -> Self {
        let pods = format!("/api/v1/namespaces/{namespace}/pods");
        Self { way, pods, checked: Mutex::default(), marks: std::sync::Mutex::default() }
    }

    /// The path of a pod's port.
    pub(super) fn path_to(&self, scheme: &str, pod: &str, port: u32) -> String {
        format!("{}/{scheme}{pod}:{port}/proxy", self.pods)
    }

    /// Opens a connection.
    pub(super) async fn connect(&self) -> Result<Connection, Lost> {
        match &self.way {
            Way::Proxy(socket) => {
                http::handshake(UnixStream::connect(socket.path()).await.map_err(Lost::Connect)?).await
            }
            Way::Cluster { origin, tls, .. } => {
                let stream = addresses::connect(&origin.host, origin.port).await.map_err(Lost::from)?;
                http::start(stream, tls.as_ref()).await
            }
        }
    }

    /// A request that reads `path`.
    pub(super) fn request(&self, path: &str) -> Result<Request<Empty<Bytes>>, ApiError> {
        let no_answer = |why: String| ApiError::NoAnswer(shown::text(&why));
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = path.parse().map_err(|error| no_answer(format!("{path}: {error}")))?;
        let headers = request.headers_mut();
        headers.insert(USER_AGENT, http::AGENT);
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        match &self.way {
            Way::Proxy(_) => {
                headers.insert(HOST, HeaderValue::from_static("localhost"));
            }
            Way::Cluster { origin, token, .. } => {
                headers.insert(HOST, origin.authority.clone());
                let text = fs::read_to_string(token)
                    .map_err(|error| no_answer(format!("cannot read {}: {error}", token.display())))?;
                let mut value = HeaderValue::from_str(&format!("Bearer {}", text.trim()))
                    .map_err(|_| no_answer(format!("{} has no token", token.display())))?;
                value.set_sensitive(true);
                headers.insert(AUTHORIZATION, value);
            }
        }
        Ok(request)
    }

    /// Reads an object or a list.
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ApiError> {
        let body = self.read(path, TIMEOUT).await?;
        let unreadable = |error: serde_json::Error| ApiError::Unreadable(shown::text(&error.to_string()));
        serde_json::from_slice(&body).map_err(unreadable)
    }

    async fn read(&self, path: &str, limit: Duration) -> Result<Bytes, ApiError> {
        let reading = async {
            let body = Limited::new(self.open(path).await?, MAX_ANSWER).collect().await;
            body.map(http_body_util::Collected::to_bytes)
                .map_err(|error| ApiError::Unreadable(shown::text(&error.to_string())))
        };
        timeout(limit, reading).await.unwrap_or_else(|_| Err(no_answer(&Lost::Late, limit)))
    }

    /// The body of a good answer.
    async fn open(&self, path: &str) -> Result<Incoming, ApiError> {
        let lost = |lost: Lost| no_answer(&lost, TIMEOUT);
        let mut connection = self.connect().await.map_err(lost)?;
        let answer = connection.send_request(self.request(path)?).await.map_err(Lost::Http).map_err(lost)?;
        let (head, body) = answer.into_parts();
        if !head.status.is_success() {
            let body = Limited::new(body, 64 << 10).collect().await;
            let body = body.map(http_body_util::Collected::to_bytes).unwrap_or_default();
            let why = match ApiStatus::of(head.status, &body) {
                Some(status) => status.message,
                None => String::from_utf8_lossy(&body).trim().to_owned(),
            };
            return Err(ApiError::Refused(head.status, shown::text(&why)));
        }
        *self.marks.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(head.headers);
        Ok(body)
    }

    /// Opens a watch.
    pub(super) async fn watch(&self, path: &str) -> Result<Watch, ApiError> {
        let body = timeout(TIMEOUT, self.open(path)).await;
        let body = body.unwrap_or_else(|_| Err(no_answer(&Lost::Late, TIMEOUT)))?;
        Ok(Watch { body, read: Vec::new() })
    }

    /// Whether an answer has passed the API server. If not, `kubectl proxy`, or another server on the way, has written it.
    pub(super) fn has_passed(&self, headers: &HeaderMap) -> bool {
        let marks = self.marks.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let Some(marks) = marks.as_ref() else { return true };
        let is_marked = |name: &HeaderName| {
            let mut values = headers.get_all(name).iter();
            match marks.get(name) {
                // a pod may add a value of its own
                Some(mark) if *name == CACHE_CONTROL => values.any(|value| value == mark),
                mark => mark.is_some() && values.next().is_some(),
            }
        };
        let known = MARKS.iter().any(|name| marks.contains_key(name));
        !known || MARKS.iter().any(is_marked)
    }

    /// Whether the API server answers, by a question that was asked after `since`.
    pub(super) async fn answers(&self, since: Instant) -> Result<(), ApiError> {
        self.check(format!("{}?limit=1", self.pods), since).await
    }

    /// Why the API server itself answers requests to this pod with this status; `None` if it does not, so that the pod
    /// has. A pod can write the same answer, but it cannot answer this question, which was asked after `since`.
    pub(super) async fn refuses(&self, pod: &str, status: StatusCode, since: Instant) -> Option<ApiError> {
        let result = self.check(self.path_to("", pod, NO_PORT) + "/", since).await;
        result.err().filter(|error| match error {
            ApiError::Refused(same, _) => *same == status,
            ApiError::NoAnswer(_) => true,
            ApiError::Unreadable(_) => false,
        })
    }

    async fn check(&self, path: String, since: Instant) -> Result<(), ApiError> {
        let mut checked = self.checked.lock().await;
        let is_answer = |it: &&Checked| {
            it.began >= since && (it.path == path || matches!(it.result, Err(ApiError::NoAnswer(_))))
        };
        if let Some(known) = checked.as_ref().filter(is_answer) {
            return known.result.clone();
        }
        let began = Instant::now();
        let result = self.read(&path, CHECK_TIMEOUT).await.map(drop);
        *checked = Some(Checked { path, began, result: result.clone() });
        result
    }
}

fn no_answer(lost: &Lost, limit: Duration) -> ApiError {
    ApiError::NoAnswer(shown::text(&lost.detail(limit)))
}

/// The events of a watch.
pub(super) struct Watch {
    body: Incoming,
    /// What was read and is no whole line yet.
    read: Vec<u8>,
}

impl Watch {
    /// The next event; `None` at the end. Cancel-safe.
    pub(super) async fn next<T: DeserializeOwned>(&mut self) -> Option<T> {
        loop {
            if let Some(end) = self.read.iter().position(|byte| *byte == b'\n') {
                let line: Vec<_> = self.read.drain(..=end).collect();
                return serde_json::from_slice(&line).ok();
            }
            if self.read.len() > MAX_EVENT {
                return None;
            }
            let frame = self.body.frame().await?.ok()?;
            if let Ok(data) = frame.into_data() {
                self.read.extend_from_slice(&data);
            }
        }
    }
}
