//! Sockets, connection limit, drain. What happens on one connection is in `server/connection.rs`.

mod connection;

use std::{
    future::Future,
    io, mem,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use axum::Router;
use rustix::{
    io::Errno,
    process::{Resource, getrlimit},
};
use socket2::{Domain, Socket, Type};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::{self, sleep},
};
use tracing::{error, info, warn};

use crate::{
    config::Listen,
    http::{self, Metrics, admin},
    service::{AppInfoService, Pod},
};

/// A pod's process: what it serves, where, and how it ends.
pub struct Server {
    /// Who answers.
    pub pod: Arc<Pod>,
    /// With what.
    pub service: Box<dyn AppInfoService>,
    /// Where its requests are counted.
    pub metrics: Arc<Metrics>,
    /// Where clients come in.
    pub public: TcpListener,
    /// Where Kubernetes and Prometheus come in.
    pub admin: TcpListener,
    /// How many public connections may be open at once. Fewer are, where the process may not open so many
    /// files.
    pub max_connections: u32,
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

/// A condition that lasts is logged this often.
const LOG_AGAIN_AFTER: Duration = Duration::from_secs(10);
/// How long to wait after a failed accept, which would most likely fail again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// After the last moment for new connections: time to accept those that came before it.
const BACKLOG_SWEEP: Duration = Duration::from_millis(20);
/// Connections that the kernel keeps until they are accepted.
const BACKLOG: i32 = 1024;

impl Server {
    /// Serves until `shutdown` is ready, then drains: `/readyz` turns 503 and every answer says
    /// `connection: close`, for the drain delay on old and new connections; then no new connection is accepted
    /// and those still open have the drain timeout to end. Returns when all have, or when that time is over.
    pub async fn run(self, shutdown: impl Future<Output = Shutdown>) {
        let draining = Arc::new(AtomicBool::new(false));
        let (limit, what_limits) = connection_limit(self.max_connections);
        let admin = admin::router(Arc::clone(&self.pod), Arc::clone(&draining), Arc::clone(&self.metrics));
        let admin = Port::new(admin, ADMIN_CONNECTIONS, "too many admin connections");
        let admin = tokio::spawn(admin.accept(self.admin)); // it answers to the very end
        let public = http::router(self.pod, self.service, self.metrics);
        let public = Port::new(public, limit, what_limits);
        let accepting = tokio::spawn(public.clone().accept(self.public));

        let shutdown = shutdown.await;
        draining.store(true, Ordering::Relaxed);
        public.turn(Stage::Draining);
        if shutdown == Shutdown::Drain {
            let (delay, connections) = (self.drain_delay, public.connections());
            info!(
                ?delay,
                connections, "draining: not ready, still answering while endpoints forget this pod"
            );
            sleep(delay).await;
        }
        public.turn(Stage::Stopping);
        let (timeout, connections) = (self.drain_timeout, public.connections());
        info!(?timeout, connections, "draining: no new connections, waiting for these to end");
        let ended = async {
            if let Err(error) = accepting.await {
                error!(%error, "accepting connections failed");
            }
            public.all_ended().await;
        };
        if time::timeout(timeout, ended).await.is_ok() {
            info!("drained");
        } else {
            let connections = public.connections();
            warn!(connections, "drain timeout: cutting off requests that have not ended");
        }
        admin.abort();
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

/// Where a port is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Serving,
    Draining,
    Stopping,
}

/// What decides how long a port's connections may stay.
#[derive(Clone, Copy, Debug)]
struct Terms {
    stage: Stage,
    /// As many connections are open as may be, or nearly; others wait, or did just now.
    full: bool,
}

impl Terms {
    /// Whether a connection is kept for the next request; else the answer says `connection: close`.
    fn keep_alive(self) -> bool {
        self.stage == Stage::Serving && !self.full
    }

    /// Whether a connection without a request may stay open.
    fn rest(self) -> bool {
        self.stage != Stage::Stopping && !self.full
    }
}

/// A router on a port. Each open connection holds one of its slots.
#[derive(Clone)]
struct Port {
    router: Router,
    slots: Arc<Semaphore>,
    limit: u32,
    what_limits: &'static str,
    terms: watch::Sender<Terms>,
}

impl Port {
    fn new(router: Router, limit: u32, what_limits: &'static str) -> Self {
        let terms = watch::Sender::new(Terms { stage: Stage::Serving, full: false });
        Self { router, slots: Arc::new(Semaphore::new(limit as usize)), limit, what_limits, terms }
    }

    fn turn(&self, stage: Stage) {
        self.terms.send_modify(|terms| terms.stage = stage);
    }

    fn connections(&self) -> usize {
        self.limit as usize - self.slots.available_permits()
    }

    async fn all_ended(&self) {
        let _all = self.slots.acquire_many(self.limit).await;
    }

    /// Accepts connections until the stage is [`Stage::Stopping`], each served by a task of its own.
    async fn accept(self, listener: TcpListener) {
        let mut terms = self.terms.subscribe();
        tokio::select! {
            () = self.accept_all(&listener) => {}
            _ = terms.wait_for(|terms| terms.stage == Stage::Stopping) => {}
        }
        let _ = time::timeout(BACKLOG_SWEEP, self.accept_all(&listener)).await;
    }

    async fn accept_all(&self, listener: &TcpListener) {
        let (mut full, mut failed) = (Occasionally::default(), Occasionally::default());
        loop {
            match listener.accept().await {
                Ok((stream, remote)) => {
                    let Some(slot) = self.slot(&mut full).await else { return };
                    self.serve(stream, remote, slot);
                }
                Err(error) => {
                    if let Some(times) = failed.due() {
                        error!(%error, times, "cannot accept connections");
                    }
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Waits for a free slot; there always is one in the end.
    async fn slot(&self, full: &mut Occasionally) -> Option<OwnedSemaphorePermit> {
        if let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() {
            return Some(slot);
        }
        self.terms.send_if_modified(|terms| !mem::replace(&mut terms.full, true));
        if let Some(times) = full.due() {
            warn!(connections = self.limit, times, "{}: new connections wait", self.what_limits);
        }
        Arc::clone(&self.slots).acquire_owned().await.ok()
    }

    /// A tenth of the slots must be free again before connections may rest as before, lest that changes, and
    /// all connections with it, whenever one comes or goes.
    fn slot_is_free(&self) {
        let enough = self.slots.available_permits() >= (self.limit as usize / 10).max(1);
        if enough && self.terms.borrow().full {
            self.terms.send_if_modified(|terms| mem::replace(&mut terms.full, false));
        }
    }

    fn serve(&self, stream: TcpStream, remote: SocketAddr, slot: OwnedSemaphorePermit) {
        let _ = stream.set_nodelay(true); // only speed is lost without
        let remote = SocketAddr::new(remote.ip().to_canonical(), remote.port());
        let port = self.clone();
        tokio::spawn(async move {
            connection::serve(stream, remote, &port.router, port.terms.subscribe()).await;
            drop(slot);
            port.slot_is_free();
        });
    }
}

/// Keeps a condition that lasts from filling the log.
#[derive(Default)]
struct Occasionally {
    last: Option<Instant>,
    times: u64,
}

impl Occasionally {
    /// Counts one more time; if it is time to tell again, how many there were since it last was.
    fn due(&mut self) -> Option<u64> {
        self.times += 1;
        let now = Instant::now();
        let due = self.last.is_none_or(|last| now - last >= LOG_AGAIN_AFTER);
        due.then(|| {
            self.last = Some(now);
            mem::take(&mut self.times)
        })
    }
}
