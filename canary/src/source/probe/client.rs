//! The HTTP client: opens a connection, sends a request, and reads the answer.

use std::{sync::Arc, time::Duration};

use appinfo::app_info::AppInfo;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{
    Request, Uri,
    body::Incoming,
    header::{CONNECTION, HeaderValue},
    http::response::Parts,
};
use tokio::{
    net::TcpStream,
    time::{Instant, timeout_at},
};

use super::{
    Body, Limits, ReleaseFrom, Service,
    addresses::Destination,
    naming::{Content, NoName},
};
use crate::{
    foreign,
    source::{
        Answer, Attribution, NoAnswer, Observation, Response,
        http::{self, Connection, Lost},
        strata::Path,
    },
};
use canary_judge::Outcome;

/// The maximum size of an answer's body, in bytes. A longer answer counts as incomplete.
const MAX_BODY: usize = 2 << 20;
/// The size up to which a body is kept, so that names, and appinfo's description of the pod, can be read. The labels of
/// a pod usually fit a hundred times.
pub(super) const MAX_KEPT: usize = 64 << 10;

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
        let Path { path, stratum } = self.service.paths.draw().clone();
        Observation { number, sent, stratum, response: self.response_of(&path, limits).await }
    }

    /// Sends a request, and waits for its result.
    pub(crate) async fn response(&mut self, limits: Limits) -> Response {
        let path = self.service.paths.draw().path.clone();
        self.response_of(&path, limits).await
    }

    async fn response_of(&mut self, path: &Uri, limits: Limits) -> Response {
        let sent = Instant::now();
        let deadline = sent.checked_add(limits.timeout).unwrap_or_else(|| sent + FAR);
        let asked = timeout_at(deadline, self.ask(path, deadline)).await;
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

    async fn ask(&mut self, path: &Uri, deadline: Instant) -> Result<hyper::Response<Incoming>, Lost> {
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
        *request.uri_mut() = path.clone();
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
    let kept = timeout_at(deadline, read_body(body)).await.ok().flatten();
    let body = match &kept {
        Some(Kept::Whole(bytes)) => Body::Whole(bytes),
        Some(Kept::TooLong) => Body::TooLong,
        None => Body::Incomplete,
    };
    (answer(&head, body, service), kept.is_some())
}

/// What an answer says. The release and the pod come from where [`Naming`](super::Naming) says. If appinfo's headers are
/// missing, they come from appinfo's body.
pub fn answer(head: &Parts, body: Body<'_>, service: &Service) -> Answer {
    let naming = &service.naming;
    let content = Content::new(&head.headers, body);
    let info = if let Body::Whole(body) = body { serde_json::from_slice::<AppInfo>(body).ok() } else { None };
    let info = info.map(|info| foreign::bounded_info(&info));
    let from_body = |allowed: bool, field: fn(&AppInfo) -> &String| {
        info.as_ref().filter(|_| allowed).map(field).filter(|it| !it.is_empty()).cloned()
    };
    let pod = naming.pod.read(&content).ok();
    let pod = pod.or_else(|| from_body(naming.pod_may_be_in_body(), |info| &info.pod_name));
    let release = match &naming.release {
        ReleaseFrom::Pod => pod.clone().ok_or(NoName::Pod),
        ReleaseFrom::Answer(from) => from
            .read(&content)
            .or_else(|why| from_body(naming.release_may_be_in_body(), |info| &info.release).ok_or(why)),
    };
    let attribution = match release {
        Ok(name) => match naming.attribution(&name) {
            Attribution::Other(name) => Attribution::Other(service.other_releases.name(&name)),
            attribution => attribution,
        },
        Err(why) => {
            service.unnamed.see(head.status, &content, &why);
            Attribution::Unnamed
        }
    };
    let is_good = body != Body::Incomplete && head.status.is_success();
    Answer {
        attribution,
        outcome: if is_good { Outcome::Success } else { Outcome::Failure },
        status: Some(head.status.as_u16()),
        latency: None,
        pod: pod.map(|pod| foreign::bounded(&pod, foreign::NAME)),
        info,
    }
}

/// What was kept of a complete body.
pub(in crate::source) enum Kept {
    Whole(Vec<u8>),
    TooLong,
}

/// Reads a body to its end, and keeps what is not too long to be read. `None` if it is incomplete.
pub(in crate::source) async fn read_body(body: Incoming) -> Option<Kept> {
    let (mut body, mut kept) = (Limited::new(body, MAX_BODY), Kept::Whole(Vec::new()));
    while let Some(frame) = body.frame().await {
        if let (Ok(data), Kept::Whole(bytes)) = (frame.ok()?.into_data(), &mut kept) {
            if bytes.len() + data.len() <= MAX_KEPT {
                bytes.extend_from_slice(&data);
            } else {
                kept = Kept::TooLong;
            }
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
