//! A server: a public port and a port for probes, their limits, and the drain. `canary serve` uses it as well.
//!
//! `port` accepts connections, `connection` serves one, and `wait` has the time limits.

mod connection;
mod host;
mod port;
mod wait;

use std::{
    future::Future,
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    thread,
    time::Duration,
};

use axum::Router;
use rustix::{
    io::Errno,
    process::{Resource, getrlimit},
};
use socket2::{Domain, Socket, Type};
use tokio::{
    net::TcpListener,
    sync::watch,
    task::JoinHandle,
    time::{sleep, timeout},
};
use tracing::{error, info, warn};

pub use self::host::{HostError, host};
use self::port::{BACKLOG, Limits, Port};
pub use crate::http::admin::Phase;
use crate::{
    config::{self, Listen},
    http::{self, Metrics, admin},
    service::{AppInfoService, Pod},
};

/// A server with its public port and, if it has one, its port for probes.
pub struct Server {
    public: (TcpListener, Router),
    admin: Option<(TcpListener, Router)>,
    phase: watch::Sender<Phase>,
    /// The maximum number of open public connections. The process's limit of open files may lower it.
    pub max_connections: u32,
    /// The number of files that the program opens, without connections of the server.
    pub own_files: u64,
    /// The maximum length of a request head, in bytes. A longer one is answered with 431.
    pub head_bytes: usize,
    /// How long a connection may be idle between two requests.
    pub idle_timeout: Duration,
    /// Whether there are answers that go on for as long as the client listens. Then a connection ends as soon as its
    /// client closes it, and only few bytes wait for a slow client.
    pub streams: bool,
    /// After [`Shutdown::Drain`], how long to keep answering while the pod is removed from endpoints.
    pub drain_delay: Duration,
    /// After that, how long requests in flight may take to end.
    pub drain_timeout: Duration,
}

/// How a server shuts down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// With the drain delay: clients still send requests to this pod.
    Drain,
    /// Without the drain delay.
    Now,
}

/// Reserved file descriptors: standard streams, listeners, the runtime's own, the label file's watch, and on each
/// port one accepted connection that waits for a slot.
const OWN_FILES: u64 = 16;
/// File descriptors reserved for reading the label file. Each worker thread may read it; more than 8 at the same
/// time are very unlikely.
const READERS: usize = 8;
/// The admin port has a limit of its own, so that probes are answered however many public clients there are.
const ADMIN_CONNECTIONS: u32 = 16;
/// The maximum length of a request head.
const HEAD_BYTES: usize = 8 << 10;

impl Server {
    /// The server of a pod: it answers clients on the listener `public`, and Kubernetes and Prometheus on `admin`.
    /// `service` describes `pod`. The limits are the defaults of the flags.
    ///
    /// # Errors
    /// If the metrics library rejects a metric.
    pub fn new(
        pod: Pod,
        service: Box<dyn AppInfoService>,
        public: TcpListener,
        admin: TcpListener,
    ) -> io::Result<Self> {
        let (pod, phase) = (Arc::new(pod), watch::Sender::new(Phase::Serving));
        let metrics = Arc::new(Metrics::new(service.name()).map_err(io::Error::other)?);
        let admin_router = admin::router(Arc::clone(&pod), phase.subscribe(), Arc::clone(&metrics));
        let public = (public, http::router(pod, service, metrics));
        Ok(Self::of_routers(public, Some((admin, admin_router)), phase))
    }

    /// A server of any routers. It tells them by `phase` when it drains. The limits are those of a pod.
    pub fn of_routers(
        public: (TcpListener, Router),
        admin: Option<(TcpListener, Router)>,
        phase: watch::Sender<Phase>,
    ) -> Self {
        let workers = thread::available_parallelism().map_or(1, usize::from);
        Self {
            public,
            admin,
            phase,
            max_connections: config::MAX_CONNECTIONS,
            own_files: OWN_FILES + workers.min(READERS) as u64,
            head_bytes: HEAD_BYTES,
            idle_timeout: config::IDLE_TIMEOUT,
            streams: false,
            drain_delay: config::DRAIN_DELAY,
            drain_timeout: config::DRAIN_TIMEOUT,
        }
    }

    /// The maximum number of open public connections that the limit of open files allows, too.
    pub fn possible_connections(&self) -> u32 {
        let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let reserved = self.own_files + u64::from(ADMIN_CONNECTIONS);
        let possible = u32::try_from(files.saturating_sub(reserved).max(1)).unwrap_or(u32::MAX);
        possible.min(self.max_connections)
    }

    /// Serves until `shutdown` is ready, then drains: it says [`Phase::Draining`], and every answer has the header
    /// `connection: close`. During the drain delay, old and new connections are served. After it, no new connection
    /// is accepted, and open ones have the drain timeout to end. Returns when all have ended or the timeout is over.
    pub async fn run(self, shutdown: impl Future<Output = Shutdown>) {
        let connections = self.possible_connections();
        let reason = if connections < self.max_connections {
            "out of file descriptors (ulimit -n)"
        } else {
            "--max-connections reached"
        };
        let Self { head_bytes, idle_timeout, streams, .. } = self;
        let limits = Limits { connections, reason, head_bytes, idle_timeout, streams };
        let admin_limits =
            Limits { connections: ADMIN_CONNECTIONS, reason: "too many admin connections", ..limits };
        let start = |(listener, router), limits| {
            let port = Port::new(router, limits);
            (Arc::clone(&port), tokio::spawn(port.accept(listener)))
        };
        let admin = self.admin.map(|admin| start(admin, admin_limits)); // answers probes until the drain is over
        let (public, accepting) = start(self.public, limits);

        let shutdown = shutdown.await;
        self.phase.send_replace(Phase::Draining);
        public.set_phase(Phase::Draining);
        if shutdown == Shutdown::Drain {
            let (delay, connections) = (self.drain_delay, public.connections());
            info!(
                ?delay,
                connections,
                "draining: not ready, but still answering while this pod is removed from endpoints"
            );
            sleep(delay).await;
        }
        self.phase.send_replace(Phase::Stopping);
        stop(&public, accepting, self.drain_timeout).await;
        if let Some((admin, _)) = admin {
            admin.set_phase(Phase::Stopping);
        }
    }
}

/// Stops the public port: it accepts no more connections, and open ones have `time` to end.
async fn stop(public: &Port, accepting: JoinHandle<()>, time: Duration) {
    public.set_phase(Phase::Stopping);
    let connections = public.connections();
    info!(timeout = ?time, connections, "draining: no new connections, waiting for open ones to end");
    let ended = async {
        if let Err(error) = accepting.await {
            error!(%error, "accepting connections failed");
        }
        public.all_ended().await;
    };
    if timeout(time, ended).await.is_ok() {
        info!("drained");
    } else {
        let connections = public.connections();
        warn!(connections, "drain timeout: closing connections whose requests have not ended");
    }
}

/// Opens a listening socket.
///
/// # Errors
/// If the address does not belong to this machine, is in use, or is not permitted.
pub fn bind(listen: Listen) -> io::Result<TcpListener> {
    match listen {
        Listen::At(address) => bind_to(address),
        Listen::Everywhere { port } => bind_to((Ipv6Addr::UNSPECIFIED, port).into()).or_else(|error| {
            match Errno::from_io_error(&error) {
                Some(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL) => {
                    bind_to((Ipv4Addr::UNSPECIFIED, port).into())
                }
                _ => Err(error),
            }
        }),
    }
}

fn bind_to(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?; // the default differs between systems
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}
