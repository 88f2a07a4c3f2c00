//! The server of a pod: its two ports, its drain, and its listening sockets.

mod connection;
mod port;

use std::{
    future::Future,
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use rustix::{
    io::Errno,
    process::{Resource, getrlimit},
};
use socket2::{Domain, Socket, Type};
use tokio::{
    net::TcpListener,
    task::JoinHandle,
    time::{sleep, timeout},
};
use tracing::{error, info, warn};

pub use self::port::Phase;
use self::port::Port;
use crate::{
    config::{self, Listen},
    http::{self, Metrics, admin},
    service::{AppInfoService, Pod},
};

/// The server of a pod, with its public port and its admin port.
pub struct Server {
    pod: Arc<Pod>,
    service: Box<dyn AppInfoService>,
    metrics: Arc<Metrics>,
    public: TcpListener,
    admin: TcpListener,
    /// The maximum number of open public connections. The process's limit of open files may lower it.
    pub max_connections: u32,
    /// How long a connection may be idle between two requests.
    pub idle_timeout: Duration,
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
/// The maximum number of connections that wait in the kernel until they are accepted.
const BACKLOG: i32 = 1024;

impl Server {
    /// A server that answers clients on the listener `public`, and Kubernetes and Prometheus on `admin`. `service`
    /// describes `pod`. The limits are the defaults of the flags.
    ///
    /// # Errors
    /// If the metrics library rejects a metric.
    pub fn new(
        pod: Pod,
        service: Box<dyn AppInfoService>,
        public: TcpListener,
        admin: TcpListener,
    ) -> io::Result<Self> {
        let metrics = Metrics::new(service.name()).map_err(io::Error::other)?;
        Ok(Self {
            pod: Arc::new(pod),
            service,
            metrics: Arc::new(metrics),
            public,
            admin,
            max_connections: config::MAX_CONNECTIONS,
            idle_timeout: config::IDLE_TIMEOUT,
            drain_delay: config::DRAIN_DELAY,
            drain_timeout: config::DRAIN_TIMEOUT,
        })
    }

    /// Serves until `shutdown` is ready, then drains. `/readyz` answers 503, and every answer has the header
    /// `connection: close`. During the drain delay, old and new connections are served. After it, no new connection
    /// is accepted, and open ones have the drain timeout to end. Returns when all have ended or the timeout is over.
    pub async fn run(self, shutdown: impl Future<Output = Shutdown>) {
        let draining = Arc::new(AtomicBool::new(false));
        let (limit, limit_reason) = connection_limit(self.max_connections);
        let admin = admin::router(Arc::clone(&self.pod), Arc::clone(&draining), Arc::clone(&self.metrics));
        let admin = Port::new(admin, ADMIN_CONNECTIONS, "too many admin connections", self.idle_timeout);
        let admin = tokio::spawn(admin.accept(self.admin)); // probes are answered until the drain is over
        let public = http::router(self.pod, self.service, self.metrics);
        let public = Port::new(public, limit, limit_reason, self.idle_timeout);
        let accepting = tokio::spawn(public.clone().accept(self.public));

        let shutdown = shutdown.await;
        draining.store(true, Ordering::Relaxed);
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
        stop(&public, accepting, self.drain_timeout).await;
        admin.abort();
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

/// The maximum number of open public connections, and the message for when it is reached.
fn connection_limit(wanted: u32) -> (u32, &'static str) {
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let workers = thread::available_parallelism().map_or(1, usize::from);
    let being_read = workers.min(READERS) as u64;
    let reserved = OWN_FILES + u64::from(ADMIN_CONNECTIONS) + being_read;
    match u32::try_from(files.saturating_sub(reserved).max(1)) {
        Ok(possible) if possible < wanted => (possible, "out of file descriptors (ulimit -n)"),
        _ => (wanted, "--max-connections reached"),
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
