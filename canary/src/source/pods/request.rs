//! One request to a pod, and whose answer it was: the pod's, or that of a server on the way to it.

use std::{path::PathBuf, sync::Arc, time::Duration};

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
    api::{Api, ApiError, ApiStatus, Way, is_not_reached},
    asked::Places,
    roster::Candidate,
};
use crate::{
    foreign,
    source::{
        Answer, Attribution, Cause, LastFailure, NoAnswer, Response,
        http::{self, Connection, Lost},
        probe::{FAR, Kept, Limits, read_body},
        shown,
    },
};

/// What all requests have in common.
pub(super) struct Asking {
    pub(super) api: Arc<Api>,
    /// What a role must allow, in words.
    pub(super) rule: String,
    pub(super) headers: HeaderMap,
    /// For pods that are asked by HTTPS without the API server.
    pub(super) tls: TlsConnector,
    pub(super) limits: Limits,
    pub(super) failures: LastFailure,
    pub(super) places: Places,
}

impl Asking {
    /// Asks a pod for this path.
    pub(super) async fn ask(&self, pod: &Candidate, path: &str) -> Response {
        let sent = Instant::now();
        let deadline = sent.checked_add(self.limits.timeout).unwrap_or_else(|| sent + FAR);
        let way = self.api.way.now();
        match timeout_at(deadline, self.send(pod, path)).await {
            Ok(Ok((head, body))) => {
                let body = timeout_at(deadline, read_body(body)).await.ok().flatten();
                let body = body.map(|kept| match kept {
                    Kept::Whole(bytes) => bytes,
                    Kept::TooLong => Vec::new(),
                });
                let latency = sent.elapsed();
                if body.is_none()
                    && let Some(trouble) = self.trouble_on_the_way(way).await
                {
                    return trouble;
                }
                self.judged(pod, latency, &head, body.as_deref()).await
            }
            Ok(Err(lost)) => self.lost(pod, way, &lost).await,
            Err(_) => self.lost(pod, way, &Lost::Late).await,
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
        let path = self.api.path_to(scheme, name, endpoint.port.into()) + path;
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

    /// What an answer means. Without a body, it has broken off.
    async fn judged(
        &self,
        pod: &Candidate,
        latency: Duration,
        head: &Parts,
        body: Option<&[u8]>,
    ) -> Response {
        if matches!(self.api.way, Way::Proxy(_))
            && let Some(response) = self.of_the_way(pod, head, body.unwrap_or_default()).await
        {
            return response;
        }
        let outcome = match body {
            Some(_) if !head.status.is_success() => Outcome::Failure,
            None => Outcome::Failure,
            Some(_) if self.limits.max_latency.is_some_and(|max| latency > max) => Outcome::Slow,
            Some(_) => Outcome::Success,
        };
        let answer = Answer {
            attribution: Attribution::Release(pod.release),
            outcome,
            status: Some(head.status.as_u16()),
            latency: Some(latency),
            pod: Some(foreign::bounded(&pod.name, foreign::NAME)),
            info: Some(pod.info.clone()),
        };
        self.failures.see(&answer, body);
        Response::Answer(answer)
    }

    /// What an answer means that a server on the way has written; `None` if the pod has.
    ///
    /// A failure counts against the pod unless it is certain that another server has written it: otherwise a canary could
    /// hide its failures. A pod can write all that the API server writes. So the API server is asked itself, by a question
    /// that no pod can answer.
    async fn of_the_way(&self, pod: &Candidate, head: &Parts, body: &[u8]) -> Option<Response> {
        if head.status.is_success() {
            return None;
        }
        let now = Instant::now();
        let text = || shown::text(String::from_utf8_lossy(body).trim());
        if !self.api.has_passed(&head.headers) {
            let why = format!("the way to the pods answers {}: {}", head.status.as_u16(), text());
            return Some(Response::Unsent(why));
        }
        let status = ApiStatus::of(head.status, body);
        let message = status.as_ref().map_or_else(text, |status| shown::text(&status.message));
        if head.status.is_server_error() && is_not_reached(&message) {
            return Some(Self::not_reached(pod, &message));
        }
        let about_pod = status.as_ref().and_then(|status| status.details.as_ref()).is_some_and(|details| {
            details.kind == "pods" && details.name.split(':').any(|part| part == pod.name)
        });
        let error = match head.status {
            StatusCode::UNAUTHORIZED | StatusCode::TOO_MANY_REQUESTS => {
                self.api.refuses(&pod.name, head.status, now).await
            }
            StatusCode::FORBIDDEN | StatusCode::NOT_FOUND if about_pod => {
                self.api.refuses(&pod.name, head.status, now).await
            }
            _ if status.is_some() && head.status.is_server_error() => self.api.answers(now).await.err(),
            _ => None,
        };
        Some(Response::Unsent(match error? {
            ApiError::Refused(StatusCode::NOT_FOUND, why) => format!("the pod is gone: {why}"),
            error => error.text(&self.rule),
        }))
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

    /// There was no answer. Through the API server, that counts only if the way to the pod works.
    async fn lost(&self, pod: &Candidate, way: Option<PathBuf>, lost: &Lost) -> Response {
        if let Some(shortage) = lost.shortage() {
            return Response::Unsent(shortage);
        }
        let detail = lost.detail(self.limits.timeout);
        if way.is_some() && matches!(lost, Lost::Connect(_)) {
            return Response::Unsent(format!("kubectl proxy does not answer: {}", shown::text(&detail)));
        }
        match self.trouble_on_the_way(way).await {
            Some(trouble) => trouble,
            None => no_answer(pod, lost.cause(), &detail),
        }
    }

    /// What is wrong on the way through the API server to the pods, if something is. `way` is the socket to which a
    /// request was sent that has no whole answer.
    async fn trouble_on_the_way(&self, way: Option<PathBuf>) -> Option<Response> {
        let way = way?;
        let answers = self.api.answers(Instant::now()).await;
        // asked last, because it may have been started again meanwhile
        if self.api.way.now().as_ref() != Some(&way) {
            return Some(Response::Unsent("kubectl proxy has ended before the answer".to_owned()));
        }
        Some(Response::Unsent(answers.err()?.text(&self.rule)))
    }
}

fn no_answer(pod: &Candidate, cause: Cause, detail: &str) -> Response {
    Response::NoAnswer(NoAnswer {
        attribution: Attribution::Release(pod.release),
        cause,
        detail: format!("{}: {}", foreign::bounded(&pod.name, foreign::NAME), shown::text(detail)),
        pod: Some(foreign::bounded(&pod.name, foreign::NAME)),
        info: Some(pod.info.clone()),
    })
}
