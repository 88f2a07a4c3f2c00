//! The HTTP client: opens a connection, sends a request, and reads the answer.

use std::{sync::Arc, time::Duration};

use appinfo::app_info::AppInfo;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{
    Request,
    body::Incoming,
    header::{CONNECTION, HeaderMap, HeaderName, HeaderValue},
    http::response::Parts,
};
use tokio::{
    net::TcpStream,
    time::{Instant, timeout_at},
};

use super::{Limits, Service, addresses::Destination};
use crate::{
    foreign,
    source::{
        Answer, Attribution, NoAnswer, Observation, Response,
        http::{self, Connection, Lost},
    },
};
use canary_judge::Outcome;

/// The maximum size of an answer's body, in bytes. A longer answer counts as incomplete.
const MAX_BODY: usize = 2 << 20;
/// The size up to which a body is kept, so that appinfo's description of the pod can be read. The labels of a pod
/// usually fit a hundred times.
const MAX_KEPT: usize = 64 << 10;

/// Replaces a time-out that the clock cannot represent. It is longer than any run.
pub(in crate::source) const FAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Sends requests, one at a time.
pub(crate) struct Client {
    service: Arc<Service>,
    keeps_its_connection: bool,
    connection: Option<Connection>,
    /// The address of the current or last connection.
    destination: Option<Destination>,
    connections: u64,
}

impl Client {
    /// A client that opens a connection for each request.
    pub(crate) fn new(service: Arc<Service>) -> Self {
        Self { service, keeps_its_connection: false, connection: None, destination: None, connections: 0 }
    }

    /// A client that keeps its connection until an answer has `Connection: close`.
    pub(crate) fn keeping(service: Arc<Service>) -> Self {
        Self { keeps_its_connection: true, ..Self::new(service) }
    }

    /// The number of connections that it has opened.
    pub(crate) fn connections(&self) -> u64 {
        self.connections
    }

    /// Sends the request with this number, and waits for its result.
    pub(crate) async fn observe(&mut self, number: u64, limits: Limits) -> Observation {
        let sent = std::time::Instant::now();
        Observation { number, sent, response: self.response(limits).await }
    }

    /// Sends a request, and waits for its result.
    pub(crate) async fn response(&mut self, limits: Limits) -> Response {
        let sent = Instant::now();
        let deadline = sent.checked_add(limits.timeout).unwrap_or_else(|| sent + FAR);
        let asked = timeout_at(deadline, self.ask(deadline)).await;
        let connection = self.connection.take();
        match asked {
            Ok(Ok(response)) => {
                let closes = response.headers().get(CONNECTION).is_some_and(|value| value == "close");
                let (mut answer, whole) = read(response, &self.service, deadline).await;
                let latency = sent.elapsed();
                if let Some(destination) = self.destination {
                    self.service.addresses.answered(destination, &answer.attribution);
                }
                if self.keeps_its_connection && !closes && whole {
                    self.connection = connection;
                }
                if answer.outcome == Outcome::Success && limits.max_latency.is_some_and(|max| latency > max) {
                    answer.outcome = Outcome::Slow;
                }
                Response::Answer(Answer { latency: Some(latency), ..answer })
            }
            Ok(Err(lost)) => self.no_answer(&lost, limits),
            Err(_) => self.no_answer(&Lost::Late, limits),
        }
    }

    async fn ask(&mut self, deadline: Instant) -> Result<hyper::Response<Incoming>, Lost> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => {
                self.connections += 1;
                let destination = self.destination.insert(self.service.addresses.choose().await?);
                check_deadline(deadline)?;
                none.insert(connect(&self.service, *destination).await?)
            }
        };
        connection.ready().await.map_err(Lost::Http)?;
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = self.service.target.path.clone();
        request.headers_mut().clone_from(&self.service.headers);
        if !self.keeps_its_connection {
            // the side that closes first keeps the port in TIME_WAIT; this makes the server close first
            request.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        check_deadline(deadline)?;
        connection.send_request(request).await.map_err(Lost::Http)
    }

    /// The response for a request without an answer.
    fn no_answer(&self, lost: &Lost, limits: Limits) -> Response {
        if let Some(shortage) = lost.shortage() {
            return Response::Unsent(shortage);
        }
        let detail = lost.detail(limits.timeout);
        let attribution = self.service.addresses.attribution_of(self.destination);
        // a certificate or a server may be part of the message
        let detail = foreign::bounded(&detail, foreign::ERROR);
        Response::NoAnswer(NoAnswer { attribution, cause: lost.cause(), detail, pod: None })
    }
}

/// Fails after the deadline. So a process that was stopped meanwhile does not send a request too late.
fn check_deadline(deadline: Instant) -> Result<(), Lost> {
    if Instant::now() < deadline { Ok(()) } else { Err(Lost::Late) }
}

/// Reads an answer, and whether it is complete. An answer that does not end in time counts as incomplete, not as
/// missing, because its headers may name the release.
async fn read(response: hyper::Response<Incoming>, service: &Service, deadline: Instant) -> (Answer, bool) {
    let (head, body) = response.into_parts();
    let body = timeout_at(deadline, read_body(body)).await.ok().flatten();
    (answer(&head, body.as_deref(), service), body.is_some())
}

/// What an answer says; its body is `None` if it is incomplete. The release and the pod come from the headers. If a
/// header is missing, they come from appinfo's body.
pub fn answer(head: &Parts, body: Option<&[u8]>, service: &Service) -> Answer {
    let naming = &service.naming;
    let info = body.and_then(|body| serde_json::from_slice::<AppInfo>(body).ok());
    let info = info.map(|info| foreign::bounded_info(&info));
    let from_body = |allowed: bool, field: fn(&AppInfo) -> &String| {
        info.as_ref().filter(|_| allowed).map(field).filter(|it| !it.is_empty()).cloned()
    };
    let release = header_text(&head.headers, &naming.release_header)
        .or_else(|| from_body(naming.release_may_be_in_body(), |info| &info.release));
    let pod = header_text(&head.headers, &naming.pod_header)
        .or_else(|| from_body(naming.pod_may_be_in_body(), |info| &info.pod_name));
    let attribution = match naming.attribution(release.as_deref(), pod.as_deref()) {
        Attribution::Other(name) => Attribution::Other(service.other_releases.name(&name)),
        attribution => attribution,
    };
    Answer {
        attribution,
        outcome: if body.is_some() && head.status.is_success() { Outcome::Success } else { Outcome::Failure },
        status: Some(head.status.as_u16()),
        latency: None,
        pod: pod.map(|pod| foreign::bounded(&pod, foreign::NAME)),
        info,
    }
}

/// Reads a body to its end, and keeps what is not too long to be read. `None` if it is incomplete.
pub(in crate::source) async fn read_body(body: Incoming) -> Option<Vec<u8>> {
    let (mut body, mut kept, mut fits) = (Limited::new(body, MAX_BODY), Vec::new(), true);
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.ok()?.into_data() else { continue };
        fits &= kept.len() + data.len() <= MAX_KEPT;
        if fits {
            kept.extend_from_slice(&data);
        } else {
            kept = Vec::new();
        }
    }
    Some(kept)
}

/// Opens a connection.
async fn connect(service: &Service, destination: Destination) -> Result<Connection, Lost> {
    let stream = TcpStream::connect(destination.address).await.map_err(Lost::Connect)?;
    service.addresses.connected(destination);
    http::start(stream, service.tls.as_ref()).await
}

fn header_text(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let value = headers.get(name)?;
    Some(String::from_utf8_lossy(value.as_bytes()).into_owned()).filter(|value| !value.is_empty())
}
