//! A pod's process as a whole: its two ports, its drain, and its listening sockets.

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

/// A pod's process: what it serves, where, and how it ends.
pub struct Server {
    pod: Arc<Pod>,
    service: Box<dyn AppInfoService>,
    metrics: Arc<Metrics>,
    public: TcpListener,
    admin: TcpListener,
    /// How many public connections may be open at once. There are fewer where the process may not open so many
    /// files.
    pub max_connections: u32,
    /// How long a connection may rest between two requests.
    pub idle_timeout: Duration,
    /// After [`Shutdown::Drain`], how long to go on answering as before while endpoints forget the pod.
    pub drain_delay: Duration,
    /// After that, how long requests in flight may take to end.
    pub drain_timeout: Duration,
}

/// How a server is asked to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// Others still send requests here: go on answering for the drain delay.
    Drain,
    /// Nobody does: skip the delay.
    Now,
}

/// Open files that are neither connections nor read for a request: standard streams, listeners, the runtime's
/// own, the label file's watch, and on each port a connection that waits for its turn.
const OWN_FILES: u64 = 16;
/// Files that are read for requests at the same time: one by each worker, but hardly ever by more than these.
const READERS: usize = 8;
/// Not counted among public connections, so that probes are answered however many clients there are.
const ADMIN_CONNECTIONS: u32 = 16;
/// Connections that the kernel keeps until they are accepted.
const BACKLOG: i32 = 1024;

impl Server {
    /// A server that answers as `pod` with what `service` says of it: clients on the listener `public`,
    /// Kubernetes and Prometheus on `admin`. It has metrics of its own. Its limits are the flags' defaults.
    ///
    /// # Errors
    /// If the metrics library refuses a metric.
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

    /// Serves until `shutdown` is ready, then drains: `/readyz` turns 503 and every answer says
    /// `connection: close`, for the drain delay on old and new connections; then no new connection is accepted
    /// and those still open have the drain timeout to end. Returns when all have, or when that time is over.
    pub async fn run(self, shutdown: impl Future<Output = Shutdown>) {
        let draining = Arc::new(AtomicBool::new(false));
        let (limit, what_limits) = connection_limit(self.max_connections);
        let admin = admin::router(Arc::clone(&self.pod), Arc::clone(&draining), Arc::clone(&self.metrics));
        let admin = Port::new(admin, ADMIN_CONNECTIONS, "too many admin connections", self.idle_timeout);
        let admin = tokio::spawn(admin.accept(self.admin)); // it answers to the very end
        let public = http::router(self.pod, self.service, self.metrics);
        let public = Port::new(public, limit, what_limits, self.idle_timeout);
        let accepting = tokio::spawn(public.clone().accept(self.public));

        let shutdown = shutdown.await;
        draining.store(true, Ordering::Relaxed);
        public.turn(Phase::Draining);
        if shutdown == Shutdown::Drain {
            let (delay, connections) = (self.drain_delay, public.connections());
            info!(
                ?delay,
                connections, "draining: not ready, still answering while endpoints forget this pod"
            );
            sleep(delay).await;
        }
        stop(&public, accepting, self.drain_timeout).await;
        admin.abort();
    }
}

/// Ends the public port: no connection is accepted any more, and those there are have `time` to end.
async fn stop(public: &Port, accepting: JoinHandle<()>, time: Duration) {
    public.turn(Phase::Stopping);
    let connections = public.connections();
    info!(timeout = ?time, connections, "draining: no new connections, waiting for these to end");
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
        warn!(connections, "drain timeout: cutting off requests that have not ended");
    }
}

/// How many public connections may be open at once, and what says so.
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
/// If the address is not this machine's, is taken, or may not be used.
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
        socket.set_only_v6(false)?; // whatever the system's default is
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}
