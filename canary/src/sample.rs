//! Requests, each on a connection of its own, for a Service spreads connections: what comes of them is a
//! stream of [`Observation`]s.

use std::{fmt, io, net::SocketAddr, str::FromStr, sync::Arc, time::Duration};

use appinfo::app_info::AppInfo;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{
    Request, Response, Uri,
    body::{Bytes, Incoming},
    client::conn::http1::{self, SendRequest},
    header::{CONNECTION, HOST, HeaderMap, HeaderValue, USER_AGENT},
};
use hyper_util::rt::TokioIo;
use rustix::{
    io::Errno,
    process::{Resource, getrlimit},
};
use serde::Serialize;
use tokio::{
    net::TcpStream,
    sync::{Semaphore, mpsc, watch},
    time::{Instant, MissedTickBehavior, interval, sleep_until, timeout_at},
};

/// The largest answer that is read to its end, in bytes. Kubernetes stores no pod whose labels need more.
const MAX_BODY: usize = 2 << 20;
/// Requests that may be under way at once, if the process may open as many files.
const MAX_IN_FLIGHT: u64 = 4096;
/// Open files that are not for requests: streams, the terminal, the runtime's own.
const RESERVED_FILES: u64 = 64;
/// Files that a request takes at most: in the rehearsal its connection has four ends in this process.
const FILES_A_REQUEST: u64 = 4;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    host: String,
    port: u16,
    authority: HeaderValue,
    path: Uri,
}

impl FromStr for Target {
    type Err = &'static str;

    /// Reads `http://HOST[:PORT][/PATH]`. `http://` may be left out; without a path, `/v1/appinfo` is asked.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WANTED: &str = "want http://HOST:PORT, as in http://127.0.0.1:8080";
        let text = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let uri: Uri = text.parse().map_err(|_| WANTED)?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => return Err("appinfo speaks plain HTTP: want http://, not https://"),
            _ => return Err(WANTED),
        }
        let authority = uri.authority().filter(|it| !it.host().is_empty()).ok_or(WANTED)?;
        if authority.as_str().contains('@') {
            return Err("a name and password in the address are not sent: leave them out");
        }
        let port = match authority.as_str().strip_prefix(authority.host()) {
            Some("") => 80,
            _ => authority
                .port_u16()
                .filter(|port| *port != 0)
                .ok_or("the port is no number from 1 to 65535")?,
        };
        let path = match uri.path_and_query() {
            Some(path) if path != "/" => Uri::from(path.clone()),
            _ => Uri::from_static("/v1/appinfo"),
        };
        Ok(Self {
            host: authority.host().trim_matches(['[', ']']).to_owned(),
            port,
            authority: HeaderValue::from_str(authority.as_str()).map_err(|_| WANTED)?,
            path,
        })
    }
}

impl Target {
    /// A path of a server at an address.
    pub(crate) fn at(address: SocketAddr, path: &'static str) -> Self {
        let authority = HeaderValue::from_str(&address.to_string());
        Self {
            host: address.ip().to_string(),
            port: address.port(),
            authority: authority.unwrap_or(HeaderValue::from_static("")), // an address is a legal header
            path: Uri::from_static(path),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", String::from_utf8_lossy(self.authority.as_bytes()), self.path)
    }
}

/// How often and how long to ask.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    /// Requests a second.
    pub rate: f64,
    /// How long an answer may take, from resolving the name to the last byte.
    pub timeout: Duration,
    /// No request is sent after this time.
    pub time: Option<Duration>,
    /// No more requests than this are sent.
    pub count: Option<u64>,
}

/// What came of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    /// When it ended.
    pub at: std::time::Instant,
    /// How long it took, up to the last byte of its answer or the moment it was given up.
    pub latency: Duration,
    /// What the client got.
    pub outcome: Outcome,
}

/// What a client got for its request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// An answer, good or bad.
    Answer(Answer),
    /// None.
    NoAnswer(NoAnswer),
    /// The request never left: this machine lacks the means (open files, ports), which says nothing about the
    /// other side.
    Unsent(String),
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The release that answered: the header `x-release`, or else the body's `Release`.
    pub release: Option<String>,
    /// The pod that answered: the header `x-served-by`, or else the body's `PodName`.
    pub served_by: Option<String>,
    /// What the pod says of itself, where it does.
    pub info: Option<AppInfo>,
    /// Why the answer ended before its end, if it did.
    pub broke_off: Option<String>,
}

impl Answer {
    /// Whether it is a whole one with a status of 2xx.
    pub fn succeeded(&self) -> bool {
        (200..300).contains(&self.status) && self.broke_off.is_none()
    }
}

/// Why there was no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoAnswer {
    /// What kind of reason.
    pub cause: Cause,
    /// The whole of it.
    pub detail: String,
}

/// A kind of reason for there being no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// The name does not resolve.
    UnknownName,
    /// Nobody listens there.
    Refused,
    /// The connection cannot be made for another reason.
    Unreachable,
    /// It took too long.
    TimedOut,
    /// The connection ended before there was an answer, or what came was not HTTP.
    BrokeOff,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UnknownName => "name does not resolve",
            Self::Refused => "connection refused",
            Self::Unreachable => "cannot connect",
            Self::TimedOut => "timed out",
            Self::BrokeOff => "connection broke off",
        })
    }
}

/// Requests under way. Dropping it ends them.
#[derive(Debug)]
pub struct Sampling {
    observations: mpsc::Receiver<Observation>,
    orders: watch::Sender<Orders>,
}

/// Whether requests are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Orders {
    Send,
    Pause,
    Stop,
}

impl Sampling {
    /// Begins to ask. To be called within a tokio runtime.
    pub fn start(target: Target, pace: Pace) -> Self {
        let new = Self::paused(target, pace);
        new.pause(false);
        new
    }

    /// The same, but nothing is asked before [`Sampling::pause`] says so.
    pub fn paused(target: Target, pace: Pace) -> Self {
        let (sender, observations) = mpsc::channel(1024);
        let orders = watch::Sender::new(Orders::Pause);
        tokio::spawn(send_requests(Arc::new(target), pace, sender, orders.subscribe()));
        Self { observations, orders }
    }

    /// What came of the next request to end; none once all have ended and the pace allows no more. Losing the
    /// future loses no observation.
    pub async fn next(&mut self) -> Option<Observation> {
        self.observations.recv().await
    }

    /// Sends no request until told otherwise.
    pub fn pause(&self, paused: bool) {
        self.orders.send_replace(if paused { Orders::Pause } else { Orders::Send });
    }

    /// Sends no request any more; those under way are still seen to their end.
    pub(crate) fn stop(&self) {
        self.orders.send_replace(Orders::Stop);
    }
}

async fn send_requests(
    target: Arc<Target>,
    pace: Pace,
    observations: mpsc::Sender<Observation>,
    mut orders: watch::Receiver<Orders>,
) {
    let slots = Arc::new(Semaphore::new(most_in_flight()));
    let mut ticks = interval(Duration::from_secs_f64(1.0 / pace.rate));
    // keeps the rate where a timer's grain is too coarse
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let time_is_over = async {
        match pace.time {
            Some(time) => sleep_until(Instant::now() + time).await,
            None => std::future::pending().await,
        }
    };
    let mut also_orders = orders.clone();
    let requests = async {
        for _ in 0..pace.count.unwrap_or(u64::MAX) {
            ticks.tick().await;
            if *orders.borrow() == Orders::Pause {
                if orders.wait_for(|orders| *orders != Orders::Pause).await.is_err() {
                    return;
                }
                ticks.reset();
            }
            let slot = if let Ok(slot) = Arc::clone(&slots).try_acquire_owned() {
                slot
            } else {
                let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
                ticks.reset(); // what could not be sent in time is not made up for
                slot
            };
            let (mut client, observations) = (Client::new(Arc::clone(&target)), observations.clone());
            tokio::spawn(async move {
                tokio::select! {
                    observation = client.observe(pace.timeout) => {
                        let _ = observations.send(observation).await; // nobody may be left to hear it
                    }
                    () = observations.closed() => {}
                }
                drop(slot);
            });
        }
    };
    tokio::select! {
        () = requests => {}
        () = time_is_over => {}
        _ = also_orders.wait_for(|orders| *orders == Orders::Stop) => {}
        () = observations.closed() => {}
    }
}

fn most_in_flight() -> usize {
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let possible = files.saturating_sub(RESERVED_FILES) / FILES_A_REQUEST;
    usize::try_from(possible.clamp(1, MAX_IN_FLIGHT)).unwrap_or(1)
}

/// Somebody who asks.
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

    /// Asks once. An answer may take `limit`.
    pub(crate) async fn observe(&mut self, limit: Duration) -> Observation {
        let start = Instant::now();
        let deadline = start + limit;
        let asked = timeout_at(deadline, self.ask()).await;
        let mut connection = self.connection.take();
        let outcome = match asked {
            Ok(Ok(response)) => {
                let closes = response.headers().get(CONNECTION).is_some_and(|value| value == "close");
                let answer = read(response, deadline).await;
                if self.keeps_its_connection && !closes && answer.broke_off.is_none() {
                    self.connection = connection.take();
                }
                Outcome::Answer(answer)
            }
            Ok(Err(lost)) => lost.outcome(),
            Err(_) => Outcome::NoAnswer(NoAnswer {
                cause: Cause::TimedOut,
                detail: format!("no answer within {}", humantime::format_duration(limit)),
            }),
        };
        Observation { at: std::time::Instant::now(), latency: start.elapsed(), outcome }
    }

    async fn ask(&mut self) -> Result<Response<Incoming>, Lost> {
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
    fn outcome(self) -> Outcome {
        let (cause, detail) = match self {
            Self::Name(error) => (Cause::UnknownName, error.to_string()),
            Self::Connect(error) => match Errno::from_io_error(&error) {
                Some(Errno::MFILE | Errno::NFILE | Errno::ADDRNOTAVAIL | Errno::NOBUFS) => {
                    return Outcome::Unsent(error.to_string());
                }
                Some(Errno::CONNREFUSED) => (Cause::Refused, error.to_string()),
                _ => (Cause::Unreachable, error.to_string()),
            },
            Self::Http(error) => (Cause::BrokeOff, with_causes(&error)),
        };
        Outcome::NoAnswer(NoAnswer { cause, detail })
    }
}

/// hyper keeps the cause of an error apart from its message.
fn with_causes(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |error| error.source())
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}

/// Reads what an answer tells. One that does not end in time is told as broken off: its head may name the
/// release.
async fn read(response: Response<Incoming>, deadline: Instant) -> Answer {
    let (head, body) = response.into_parts();
    let (release, served_by) = (told(&head.headers, "x-release"), told(&head.headers, "x-served-by"));
    let (info, broke_off) = match timeout_at(deadline, Limited::new(body, MAX_BODY).collect()).await {
        Ok(Ok(body)) => (serde_json::from_slice::<AppInfo>(&body.to_bytes()).ok(), None),
        Ok(Err(error)) => (None, Some(with_causes(error.as_ref()))),
        Err(_) => (None, Some("its end did not come in time".to_owned())),
    };
    let from_body =
        |field: fn(&AppInfo) -> &String| info.as_ref().map(field).filter(|it| !it.is_empty()).cloned();
    Answer {
        status: head.status.as_u16(),
        release: release.or_else(|| from_body(|info| &info.release)),
        served_by: served_by.or_else(|| from_body(|info| &info.pod_name)),
        info,
        broke_off,
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn target(text: &str) -> Target {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn an_address_may_leave_out_scheme_port_and_path() {
        for (text, shown, host, port) in [
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080/v1/appinfo", "127.0.0.1", 8080),
            ("10.0.0.7:30753", "http://10.0.0.7:30753/v1/appinfo", "10.0.0.7", 30753),
            ("http://appinfo.example/", "http://appinfo.example/v1/appinfo", "appinfo.example", 80),
            (
                "http://[::1]:8080/prefix/v1/appinfo?a=b",
                "http://[::1]:8080/prefix/v1/appinfo?a=b",
                "::1",
                8080,
            ),
        ] {
            let target = target(text);
            assert_eq!((target.to_string().as_str(), target.host.as_str(), target.port), (shown, host, port));
        }
    }

    #[test]
    fn an_address_that_cannot_be_asked_is_refused() {
        for text in [
            "",
            "http://",
            "https://a",
            "ftp://a",
            "http://a:0",
            "http://a:99999",
            "http://u:p@a",
            "http://a b",
        ] {
            assert!(text.parse::<Target>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_servers_address_is_a_target() {
        assert_eq!(
            Target::at(SocketAddr::from(([127, 0, 0, 1], 81)), "/readyz"),
            target("http://127.0.0.1:81/readyz")
        );
        let loopback = SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], 81));
        assert_eq!(Target::at(loopback, "/readyz"), target("http://[::1]:81/readyz"));
    }
}
