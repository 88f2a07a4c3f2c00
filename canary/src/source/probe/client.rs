//! One client: its connection, a request, what the answer tells.

use std::{io, sync::Arc, time::Duration};

use appinfo::app_info::AppInfo;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{
    Request,
    body::{Bytes, Incoming},
    client::conn::http1::{self, SendRequest},
    header::{CONNECTION, HOST, HeaderMap, HeaderValue, USER_AGENT},
};
use hyper_util::rt::TokioIo;
use rustix::io::Errno;
use tokio::{
    net::TcpStream,
    time::{Instant, timeout_at},
};

use super::{Limits, Target};
use crate::{
    release::{Attribution, Outcome},
    source::{Answer, Cause, NoAnswer, Observation, Response},
};

/// The largest answer that is read to its end, in bytes. Kubernetes stores no pod whose labels need more.
const MAX_BODY: usize = 2 << 20;

/// A time that is as good as none, in place of one that no clock can tell.
const FAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Sends requests, one at a time.
pub(crate) struct Client {
    target: Arc<Target>,
    keeps_its_connection: bool,
    connection: Option<SendRequest<Empty<Bytes>>>,
    connections: u64,
}

impl Client {
    /// One that opens a connection for each request.
    pub(crate) fn new(target: Arc<Target>) -> Self {
        Self { target, keeps_its_connection: false, connection: None, connections: 0 }
    }

    /// One that keeps its connection until an answer says that it closes.
    pub(crate) fn keeping(target: Arc<Target>) -> Self {
        Self { keeps_its_connection: true, ..Self::new(target) }
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
        let asked = timeout_at(deadline, self.ask()).await;
        let connection = self.connection.take();
        match asked {
            Ok(Ok(response)) => {
                let closes = response.headers().get(CONNECTION).is_some_and(|value| value == "close");
                let (mut answer, whole) = read(response, deadline).await;
                let latency = sent.elapsed();
                if self.keeps_its_connection && !closes && whole {
                    self.connection = connection;
                }
                if answer.outcome == Outcome::Success && limits.max_latency.is_some_and(|max| latency > max) {
                    answer.outcome = Outcome::Slow;
                }
                Response::Answer(Answer { latency: Some(latency), ..answer })
            }
            Ok(Err(lost)) => lost.response(),
            Err(_) => Response::NoAnswer(NoAnswer {
                cause: Cause::TimedOut,
                detail: format!("no answer within {}", humantime::format_duration(limits.timeout)),
            }),
        }
    }

    async fn ask(&mut self) -> Result<hyper::Response<Incoming>, Lost> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => {
                self.connections += 1;
                none.insert(connect(&self.target).await?)
            }
        };
        connection.ready().await.map_err(Lost::Http)?;
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = self.target.path.clone();
        let headers = request.headers_mut();
        headers.insert(HOST, self.target.authority.clone());
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("canary/", env!("CARGO_PKG_VERSION"))));
        if !self.keeps_its_connection {
            // the server closes first, so that this machine's ports are free again at once
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        connection.send_request(request).await.map_err(Lost::Http)
    }
}

/// Why a request has no answer, as the libraries tell it.
enum Lost {
    Name(io::Error),
    Connect(io::Error),
    Http(hyper::Error),
}

impl Lost {
    fn response(self) -> Response {
        let (cause, detail) = match self {
            Self::Name(error) => (Cause::UnknownName, error.to_string()),
            Self::Connect(error) => match Errno::from_io_error(&error) {
                Some(Errno::MFILE | Errno::NFILE | Errno::ADDRNOTAVAIL | Errno::NOBUFS) => {
                    return Response::Unsent(error.to_string());
                }
                Some(Errno::CONNREFUSED) => (Cause::Refused, error.to_string()),
                _ => (Cause::Unreachable, error.to_string()),
            },
            Self::Http(error) => (Cause::BrokeOff, with_causes(&error)),
        };
        Response::NoAnswer(NoAnswer { cause, detail })
    }
}

/// hyper keeps the cause of an error apart from its message.
fn with_causes(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |error| error.source())
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}

/// Reads what an answer tells, and whether it is whole. The release that answered is that of the header
/// `x-release`, or else of the body's `Release`; the pod that of `x-served-by`, or else of `PodName`. An answer
/// that does not end in time is told as broken off: its head may name the release.
async fn read(response: hyper::Response<Incoming>, deadline: Instant) -> (Answer, bool) {
    let (head, body) = response.into_parts();
    let body = timeout_at(deadline, Limited::new(body, MAX_BODY).collect()).await;
    let body = body.ok().and_then(Result::ok);
    let whole = body.is_some();
    let info = body.and_then(|body| serde_json::from_slice::<AppInfo>(&body.to_bytes()).ok());
    let from_body =
        |field: fn(&AppInfo) -> &String| info.as_ref().map(field).filter(|it| !it.is_empty()).cloned();
    let release = told(&head.headers, "x-release").or_else(|| from_body(|info| &info.release));
    let answer = Answer {
        attribution: Attribution::of_answer(release.as_deref()),
        outcome: if whole && head.status.is_success() { Outcome::Success } else { Outcome::Failure },
        latency: None,
        pod: told(&head.headers, "x-served-by").or_else(|| from_body(|info| &info.pod_name)),
        info,
    };
    (answer, whole)
}

/// A new connection to an address freshly looked up.
async fn connect(target: &Target) -> Result<SendRequest<Empty<Bytes>>, Lost> {
    let mut last = None;
    let addresses = tokio::net::lookup_host((target.host.as_str(), target.port)).await.map_err(Lost::Name)?;
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                let _ = stream.set_nodelay(true); // only speed is lost without
                let (sender, connection) =
                    http1::handshake(TokioIo::new(stream)).await.map_err(Lost::Http)?;
                tokio::spawn(connection); // what goes wrong with it, the request is told
                return Ok(sender);
            }
            Err(error) => last = Some(Lost::Connect(error)),
        }
    }
    Err(last.unwrap_or_else(|| Lost::Name(io::Error::other("the name has no address"))))
}

fn told(headers: &HeaderMap, name: &str) -> Option<String> {
    let value = headers.get(name)?;
    Some(String::from_utf8_lossy(value.as_bytes()).into_owned()).filter(|value| !value.is_empty())
}
