//! One request to a pod, and whose answer it was: the pod's, or that of a server on the way to it.

use std::sync::Arc;

use canary_judge::Outcome;
use http_body_util::Empty;
use hyper::{
    Request, StatusCode, Uri,
    body::Bytes,
    header::{HOST, HeaderMap, HeaderValue, USER_AGENT},
    http::response::Parts,
};
use rustls::pki_types::ServerName;
use tokio::{
    net::TcpStream,
    time::{Instant, timeout_at},
};
use tokio_rustls::TlsConnector;

use super::{
    api::{Api, ApiStatus, Way, forbidden},
    roster::Candidate,
};
use crate::{
    foreign,
    source::{
        Answer, Attribution, Cause, NoAnswer, Response,
        http::{self, Connection, Lost},
        probe::{FAR, Kept, Limits, read_body},
        shown,
    },
};

/// How the message of the API server begins if it has not reached a pod. Older ones write it with a capital letter, and
/// as plain text.
const NOT_REACHED: &str = "error trying to reach service:";

/// What all requests have in common.
pub(super) struct Asking {
    pub(super) api: Arc<Api>,
    pub(super) namespace: String,
    /// What a role must allow, in words.
    pub(super) rule: String,
    pub(super) headers: HeaderMap,
    /// For pods that are asked by HTTPS without the API server.
    pub(super) tls: TlsConnector,
    pub(super) limits: Limits,
}

impl Asking {
    /// Asks a pod for this path.
    pub(super) async fn ask(&self, pod: &Candidate, path: &str) -> Response {
        let sent = Instant::now();
        let deadline = sent.checked_add(self.limits.timeout).unwrap_or_else(|| sent + FAR);
        match timeout_at(deadline, self.send(pod, path)).await {
            Ok(Ok((head, body))) => {
                let body =
                    timeout_at(deadline, read_body(body)).await.ok().flatten().map(|kept| match kept {
                        Kept::Whole(bytes) => bytes,
                        Kept::TooLong => Vec::new(),
                    });
                self.judged(pod, sent, &head, body.as_deref()).await
            }
            Ok(Err(lost)) => self.lost(pod, sent, &lost).await,
            Err(_) => self.lost(pod, sent, &Lost::Late).await,
        }
    }

    async fn send(&self, pod: &Candidate, path: &str) -> Result<(Parts, hyper::body::Incoming), Lost> {
        let (mut connection, request) = match &self.api.way {
            Way::Proxy(_) => (self.api.connect().await?, self.through_api(pod, path)),
            Way::Cluster { .. } => (self.connect(pod).await?, self.direct(pod, path)),
        };
        let answer = connection.send_request(request).await.map_err(Lost::Http)?;
        Ok(answer.into_parts())
    }

    async fn connect(&self, pod: &Candidate) -> Result<Connection, Lost> {
        let Some(address) = pod.address else {
            return Err(Lost::Connect(std::io::Error::other("the pod has no address")));
        };
        let stream = TcpStream::connect((address, pod.endpoint.port)).await.map_err(Lost::Connect)?;
        let tls = pod.endpoint.tls.then(|| (self.tls.clone(), ServerName::IpAddress(address.into())));
        http::start(stream, tls.as_ref()).await
    }

    fn through_api(&self, pod: &Candidate, path: &str) -> Request<Empty<Bytes>> {
        let Candidate { name, endpoint, .. } = pod;
        let scheme = if endpoint.tls { "https:" } else { "" };
        let (namespace, port) = (&self.namespace, endpoint.port);
        let path = format!("/api/v1/namespaces/{namespace}/pods/{scheme}{name}:{port}/proxy{path}");
        self.request(&path, HeaderValue::from_static("localhost"))
    }

    fn direct(&self, pod: &Candidate, path: &str) -> Request<Empty<Bytes>> {
        let address = pod.address.map(|address| (address, pod.endpoint.port));
        let host = address.map(|(address, port)| std::net::SocketAddr::new(address, port).to_string());
        let host = host.and_then(|host| HeaderValue::from_str(&host).ok());
        self.request(path, host.unwrap_or(HeaderValue::from_static("localhost")))
    }

    fn request(&self, path: &str, host: HeaderValue) -> Request<Empty<Bytes>> {
        let mut request = Request::new(Empty::new());
        // the parts were checked when they were read
        *request.uri_mut() = path.parse().unwrap_or(Uri::from_static("/"));
        let headers = request.headers_mut();
        headers.clone_from(&self.headers);
        headers.entry(USER_AGENT).or_insert(http::AGENT);
        headers.entry(HOST).or_insert(host);
        headers.insert(hyper::header::CONNECTION, HeaderValue::from_static("close"));
        request
    }

    /// What an answer means.
    async fn judged(&self, pod: &Candidate, sent: Instant, head: &Parts, body: Option<&[u8]>) -> Response {
        let latency = sent.elapsed();
        if matches!(self.api.way, Way::Proxy(_))
            && let Some(response) = self.of_the_way(pod, sent, head, body.unwrap_or_default()).await
        {
            return response;
        }
        let outcome = match body {
            Some(_) if !head.status.is_success() => Outcome::Failure,
            None => Outcome::Failure,
            Some(_) if self.limits.max_latency.is_some_and(|max| latency > max) => Outcome::Slow,
            Some(_) => Outcome::Success,
        };
        Response::Answer(Answer {
            attribution: Attribution::Release(pod.release),
            outcome,
            status: Some(head.status.as_u16()),
            latency: Some(latency),
            pod: Some(foreign::bounded(&pod.name, foreign::NAME)),
            info: Some(pod.info.clone()),
        })
    }

    /// What an answer means that a server on the way has written; `None` if the pod has.
    ///
    /// A failure counts against the pod unless it is certain that another server has written it: otherwise a canary could
    /// hide its failures.
    async fn of_the_way(
        &self,
        pod: &Candidate,
        sent: Instant,
        head: &Parts,
        body: &[u8],
    ) -> Option<Response> {
        if head.status.is_success() {
            return None;
        }
        let text = || shown::text(String::from_utf8_lossy(body).trim());
        if !self.api.has_passed(&head.headers) {
            let why = format!("the way to the pods answers {}: {}", head.status.as_u16(), text());
            return Some(Response::Unsent(why));
        }
        let status = ApiStatus::of(head.status, body);
        let message = status.as_ref().map_or_else(text, |status| shown::text(&status.message));
        let begins = |text: &str| {
            text.get(..NOT_REACHED.len()).is_some_and(|start| start.eq_ignore_ascii_case(NOT_REACHED))
        };
        if head.status.is_server_error() && begins(&message) {
            return Some(Self::not_reached(pod, &message));
        }
        let about_pod = status.as_ref().and_then(|status| status.details.as_ref()).is_some_and(|details| {
            details.kind == "pods" && details.name.split(':').any(|part| part == pod.name)
        });
        match head.status {
            StatusCode::FORBIDDEN if about_pod && message.contains("pods/proxy") => {
                Some(Response::Unsent(forbidden(&message, &self.rule)))
            }
            StatusCode::NOT_FOUND if about_pod && message.contains("not found") => {
                Some(Response::Unsent(format!("the pod is gone: {message}")))
            }
            // a pod may answer the same, so the API server is asked itself
            StatusCode::UNAUTHORIZED | StatusCode::TOO_MANY_REQUESTS => self.refused_by_api(sent).await,
            _ if status.is_some() && head.status.is_server_error() => self.refused_by_api(sent).await,
            _ => None,
        }
    }

    async fn refused_by_api(&self, sent: Instant) -> Option<Response> {
        let error = self.api.answers(sent).await.err()?;
        Some(Response::Unsent(error.text(&self.rule)))
    }

    /// The API server has not reached the pod.
    fn not_reached(pod: &Candidate, message: &str) -> Response {
        let cause = if message.contains("refused") {
            Cause::Refused
        } else if message.contains("timeout") || message.contains("deadline") {
            Cause::TimedOut
        } else if message.contains("EOF") || message.contains("reset") || message.contains("malformed") {
            Cause::BrokeOff
        } else {
            Cause::Unreachable
        };
        no_answer(pod, cause, message)
    }

    /// There was no answer. Through the API server, that counts only if the API server itself answers.
    async fn lost(&self, pod: &Candidate, sent: Instant, lost: &Lost) -> Response {
        if let Some(shortage) = lost.shortage() {
            return Response::Unsent(shortage);
        }
        let detail = lost.detail(self.limits.timeout);
        if let Way::Proxy(_) = self.api.way {
            if matches!(lost, Lost::Connect(_)) {
                return Response::Unsent(format!("kubectl proxy does not answer: {}", shown::text(&detail)));
            }
            if let Err(error) = self.api.answers(sent).await {
                return Response::Unsent(error.text(&self.rule));
            }
        }
        no_answer(pod, lost.cause(), &detail)
    }
}

fn no_answer(pod: &Candidate, cause: Cause, detail: &str) -> Response {
    Response::NoAnswer(NoAnswer {
        attribution: Attribution::Release(pod.release),
        cause,
        detail: format!("{}: {}", foreign::bounded(&pod.name, foreign::NAME), shown::text(detail)),
        pod: Some(foreign::bounded(&pod.name, foreign::NAME)),
    })
}
