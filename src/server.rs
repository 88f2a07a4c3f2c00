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
    time::{sleep, timeout},
};
use tracing::{error, info, warn};

use crate::{
    config::Listen,
    http::{self, admin},
    service::{AppInfoService, Pod},
};

/// A pod's process: what it serves, where, and how it ends.
pub struct Server {
    /// Who answers.
    pub pod: Arc<Pod>,
    /// With what.
    pub service: Box<dyn AppInfoService>,
    /// Where clients come in.
    pub public: TcpListener,
    /// Where Kubernetes comes in.
    pub admin: TcpListener,
    /// How many public connections may be open at once. Fewer are, where the process may not open so many files.
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

/// Open files that are not for public connections: standard streams, listeners, the runtime's own, label files
/// being read, and the admin connections, so that probes are answered however many clients there are.
const RESERVED_FILES: u64 = 16 + ADMIN_CONNECTIONS as u64;
const ADMIN_CONNECTIONS: u32 = 16;

/// A condition that lasts is logged this often.
const LOG_AGAIN_AFTER: Duration = Duration::from_secs(10);
/// How long to wait after a failed accept, which would most likely fail again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Connections that wait to be accepted when the server stops are served yet. Once none has turned up for this
/// long, none is left: on their way is at most the end of a handshake.
const BACKLOG_SWEEP: Duration = Duration::from_millis(20);
const BACKLOG: i32 = 1024;

impl Server {
    /// Serves until `shutdown` is ready, then drains: `/readyz` turns 503 and every answer says
    /// `connection: close`, for the drain delay on old and new connections; then no new connection is accepted
    /// and those still open have the drain timeout to end. Returns when all have, or when that time is over.
    pub async fn run(self, shutdown: impl Future<Output = Shutdown>) {
        let draining = Arc::new(AtomicBool::new(false));
        let (limit, what_limits) = connection_limit(self.max_connections);
        let admin = Port::new(
            admin::router(Arc::clone(&self.pod), Arc::clone(&draining)),
            ADMIN_CONNECTIONS,
            "admin",
        );
        let admin = tokio::spawn(admin.accept(self.admin)); // it answers to the very end
        let public = Port::new(http::router(self.pod, self.service), limit, what_limits);
        let accepting = tokio::spawn(public.clone().accept(self.public));

        let shutdown = shutdown.await;
        draining.store(true, Ordering::Relaxed);
        public.turn(Stage::Draining);
        if shutdown == Shutdown::Drain {
            let connections = public.connections();
            info!(delay = ?self.drain_delay, connections, "draining: not ready, still answering while endpoints forget this pod");
            sleep(self.drain_delay).await;
        }
        public.turn(Stage::Stopping);
        if let Err(error) = accepting.await {
            error!(%error, "accepting connections failed");
        }
        let connections = public.connections();
        info!(timeout = ?self.drain_timeout, connections, "draining: no new connections, waiting for these to end");
        match timeout(self.drain_timeout, public.all_ended()).await {
            Ok(()) => info!("drained"),
            Err(_) => {
                warn!(
                    connections = public.connections(),
                    "drain timeout: cutting off requests that have not ended"
                );
            }
        }
        admin.abort();
    }
}

/// How many public connections may be open at once, and what says so.
fn connection_limit(wanted: u32) -> (u32, &'static str) {
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    match u32::try_from(files.saturating_sub(RESERVED_FILES).max(1)) {
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

/// Has the kernel drop the first packet (SYN) of new connections, so that the queue of those it has already
/// established can be emptied before the socket is closed: closing resets what is in it, requests and all. A
/// dropped SYN is sent again after a second, and then refused.
#[cfg(target_os = "linux")]
fn ignore_newcomers(listener: &TcpListener) {
    use socket2::{SockFilter, SockRef};
    const FLAGS_OFFSET: u32 = 13; // in the TCP header, where a filter's view begins
    const SYN: u32 = 0x02;
    let drop_syn = [
        SockFilter::new(0x30, 0, 0, FLAGS_OFFSET), // BPF_LD | BPF_B | BPF_ABS
        SockFilter::new(0x45, 0, 1, SYN),          // BPF_JMP | BPF_JSET | BPF_K
        SockFilter::new(0x06, 0, 0, 0),            // BPF_RET: drop
        SockFilter::new(0x06, 0, 0, u32::MAX),     // BPF_RET: pass
    ];
    if let Err(error) = SockRef::from(listener).attach_filter(&drop_syn) {
        warn!(%error, "connections that come in this very moment may be reset");
    }
}

#[cfg(not(target_os = "linux"))]
fn ignore_newcomers(_: &TcpListener) {}

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
    /// As many connections are open as may be; others wait.
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
        let stopping = terms.wait_for(|terms| terms.stage == Stage::Stopping);
        tokio::pin!(stopping);
        let (mut full, mut failed) = (Occasionally::default(), Occasionally::default());
        loop {
            let slot = tokio::select! {
                Some(slot) = self.slot(&mut full) => slot,
                _ = &mut stopping => break,
            };
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = &mut stopping => break,
            };
            match accepted {
                Ok((stream, remote)) => self.serve(stream, remote, slot),
                Err(error) => {
                    if let Some(times) = failed.due() {
                        error!(%error, times, "cannot accept connections");
                    }
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        ignore_newcomers(&listener);
        while let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned()
            && let Ok(Ok((stream, remote))) = timeout(BACKLOG_SWEEP, listener.accept()).await
        {
            self.serve(stream, remote, slot);
        }
    }

    /// Waits for a free slot; there always is one in the end. While none is, connections may not rest: others want their turn.
    async fn slot(&self, full: &mut Occasionally) -> Option<OwnedSemaphorePermit> {
        let free = Arc::clone(&self.slots).try_acquire_owned();
        self.terms.send_if_modified(|terms| mem::replace(&mut terms.full, free.is_err()) != free.is_err());
        if free.is_ok() {
            return free.ok();
        }
        if let Some(times) = full.due() {
            warn!(connections = self.limit, times, "{}: new connections wait", self.what_limits);
        }
        Arc::clone(&self.slots).acquire_owned().await.ok()
    }

    fn serve(&self, stream: TcpStream, remote: SocketAddr, slot: OwnedSemaphorePermit) {
        let _ = stream.set_nodelay(true); // only speed is lost without
        let remote = SocketAddr::new(remote.ip().to_canonical(), remote.port());
        let (router, terms) = (self.router.clone(), self.terms.subscribe());
        tokio::spawn(async move {
            connection::serve(stream, remote, router, terms).await;
            drop(slot);
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
