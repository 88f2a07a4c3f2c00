//! One client: its connection, a request, what the answer tells.

use std::{io, sync::Arc, time::Duration};

use appinfo::app_info::AppInfo;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{
    Request,
    body::{Bytes, Incoming},
    client::conn::http1::{self, SendRequest},
    header::{CONNECTION, HeaderMap, HeaderName, HeaderValue},
};
use hyper_util::rt::TokioIo;
use rustix::io::Errno;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::{Instant, timeout_at},
};

use super::{
    Limits, Service,
    addresses::{Destination, NoAddress},
    service::Naming,
    tls,
};
use crate::{
    release::Outcome,
    source::{Answer, Cause, NoAnswer, Observation, Response},
};

/// The largest answer that is read to its end, in bytes. Kubernetes stores no pod whose labels need more.
const MAX_BODY: usize = 2 << 20;

/// A time that is as good as none, in place of one that no clock can tell.
const FAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Sends requests, one at a time.
pub(crate) struct Client {
    service: Arc<Service>,
    keeps_its_connection: bool,
    connection: Option<SendRequest<Empty<Bytes>>>,
    /// Where the connection goes, or went.
    destination: Option<Destination>,
    connections: u64,
}

impl Client {
    /// One that opens a connection for each request.
    pub(crate) fn new(service: Arc<Service>) -> Self {
        Self { service, keeps_its_connection: false, connection: None, destination: None, connections: 0 }
    }

    /// One that keeps its connection until an answer says that it closes.
    pub(crate) fn keeping(service: Arc<Service>) -> Self {
        Self { keeps_its_connection: true, ..Self::new(service) }
    }

    /// How many connections it has opened.
    pub(crate) fn connections(&self) -> u64 {
        self.connections
    }

    /// Sends the request of that number, and waits for what comes of it.
    pub(crate) async fn observe(&mut self, number: u64, limits: Limits) -> Observation {
        let sent = std::time::Instant::now();
        Observation { number, sent, response: self.response(limits).await }
    }

    /// Sends a request, and waits for what comes of it.
    pub(crate) async fn response(&mut self, limits: Limits) -> Response {
        let sent = Instant::now();
        let deadline = sent.checked_add(limits.timeout).unwrap_or_else(|| sent + FAR);
        let asked = timeout_at(deadline, self.ask(deadline)).await;
        let connection = self.connection.take();
        match asked {
            Ok(Ok(response)) => {
                let closes = response.headers().get(CONNECTION).is_some_and(|value| value == "close");
                let (mut answer, whole) = read(response, &self.service.naming, deadline).await;
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
            Ok(Err(lost)) => self.lost(lost, limits),
            Err(_) => self.lost(Lost::Late, limits),
        }
    }

    async fn ask(&mut self, deadline: Instant) -> Result<hyper::Response<Incoming>, Lost> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => {
                self.connections += 1;
                let destination = self.destination.insert(self.service.addresses.choose().await?);
                in_time(deadline)?;
                none.insert(connect(&self.service, *destination).await?)
            }
        };
        connection.ready().await.map_err(Lost::Http)?;
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = self.service.target.path.clone();
        request.headers_mut().clone_from(&self.service.headers);
        if !self.keeps_its_connection {
            // the server closes first, so that this machine's ports are free again at once
            request.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        in_time(deadline)?;
        connection.send_request(request).await.map_err(Lost::Http)
    }

    /// What a lost request comes to.
    fn lost(&self, lost: Lost, limits: Limits) -> Response {
        let (cause, detail) = match lost {
            Lost::Name(error) => (Cause::UnknownName, error.to_string()),
            Lost::Connect(error) => match Errno::from_io_error(&error) {
                Some(Errno::MFILE | Errno::NFILE | Errno::ADDRNOTAVAIL | Errno::NOBUFS) => {
                    return Response::Unsent(error.to_string());
                }
                Some(Errno::CONNREFUSED) => (Cause::Refused, error.to_string()),
                _ => (Cause::Unreachable, error.to_string()),
            },
            Lost::Tls(error) => (tls::cause_of(&error).unwrap_or(Cause::BrokeOff), format!("TLS: {error}")),
            Lost::Http(error) => (Cause::BrokeOff, with_causes(&error)),
            Lost::Late => {
                let limit = humantime::format_duration(limits.timeout);
                (Cause::TimedOut, format!("no answer within {limit}"))
            }
        };
        let attribution = self.service.addresses.attribution_of(self.destination);
        Response::NoAnswer(NoAnswer { attribution, cause, detail })
    }
}

/// A process that was stopped sends nothing when the time of a request is over.
fn in_time(deadline: Instant) -> Result<(), Lost> {
    if Instant::now() < deadline { Ok(()) } else { Err(Lost::Late) }
}

/// Why a request has no answer.
enum Lost {
    Name(io::Error),
    Connect(io::Error),
    Tls(io::Error),
    Http(hyper::Error),
    /// The time was over.
    Late,
}

impl From<NoAddress> for Lost {
    fn from(why: NoAddress) -> Self {
        match why {
            NoAddress::UnknownName(error) => Self::Name(error),
            NoAddress::Unreachable(error) => Self::Connect(error),
        }
    }
}

/// hyper keeps the cause of an error apart from its message.
fn with_causes(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |error| error.source())
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}

/// Reads what an answer tells, and whether it is whole. The release and the pod are those that the headers name, or
/// else, of appinfo, the body. An answer that does not end in time is told as broken off: its head may name the
/// release.
async fn read(response: hyper::Response<Incoming>, naming: &Naming, deadline: Instant) -> (Answer, bool) {
    let (head, body) = response.into_parts();
    let body = timeout_at(deadline, Limited::new(body, MAX_BODY).collect()).await;
    let body = body.ok().and_then(Result::ok);
    let whole = body.is_some();
    let info = body.and_then(|body| serde_json::from_slice::<AppInfo>(&body.to_bytes()).ok());
    let from_body = |may_be_there: bool, field: fn(&AppInfo) -> &String| {
        info.as_ref().filter(|_| may_be_there).map(field).filter(|it| !it.is_empty()).cloned()
    };
    let release = told(&head.headers, &naming.release_header)
        .or_else(|| from_body(naming.release_may_be_in_body(), |info| &info.release));
    let answer = Answer {
        attribution: naming.attribution(release.as_deref()),
        outcome: if whole && head.status.is_success() { Outcome::Success } else { Outcome::Failure },
        latency: None,
        pod: told(&head.headers, &naming.pod_header)
            .or_else(|| from_body(naming.pod_may_be_in_body(), |info| &info.pod_name)),
        info,
    };
    (answer, whole)
}

/// A new connection.
async fn connect(service: &Service, destination: Destination) -> Result<SendRequest<Empty<Bytes>>, Lost> {
    let stream = TcpStream::connect(destination.address).await.map_err(Lost::Connect)?;
    service.addresses.connected(destination);
    let _ = stream.set_nodelay(true); // only speed is lost without
    match &service.tls {
        Some((connector, name)) => {
            speak(connector.connect(name.clone(), stream).await.map_err(Lost::Tls)?).await
        }
        None => speak(stream).await,
    }
}

/// HTTP on a connection.
async fn speak<S>(stream: S) -> Result<SendRequest<Empty<Bytes>>, Lost>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(Lost::Http)?;
    tokio::spawn(connection); // what goes wrong with it, the request is told
    Ok(sender)
}

fn told(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let value = headers.get(name)?;
    Some(String::from_utf8_lossy(value.as_bytes()).into_owned()).filter(|value| !value.is_empty())
}
