//! A router on a port: how many connections may be open, and how new ones are accepted.

use std::{
    mem,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::Router;
use hyper::server::conn::http1;
use socket2::SockRef;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::{sleep, timeout},
};
use tracing::{error, warn};

use super::{connection, wait::Terms};
use crate::http::admin::Phase;

/// The maximum number of connections that wait in the kernel until they are accepted.
pub(super) const BACKLOG: i32 = 1024;
/// The minimum time between two log lines about the same condition.
const LOG_INTERVAL: Duration = Duration::from_secs(10);
/// How long to wait after a failed accept: the next one would probably fail, too.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// When stopping, how long to wait for the next connection: its handshake may be under way.
const LAST_ACCEPT: Duration = Duration::from_millis(20);
/// The send buffer of a connection with a stream, in bytes (Linux doubles it). The default is megabytes, and a slow
/// reader would have to read all of it before the newest bytes.
const STREAM_BUFFER: usize = 64 << 10;

/// How a port serves its connections.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// The maximum number of open connections.
    pub(super) connections: u32,
    /// What sets this maximum, for the log.
    pub(super) reason: &'static str,
    pub(super) head_bytes: usize,
    pub(super) idle_timeout: Duration,
    pub(super) streams: bool,
}

/// A router on a port. Each open connection occupies one slot.
pub(super) struct Port {
    router: Router,
    http: http1::Builder,
    limits: Limits,
    slots: Arc<Semaphore>,
    terms: watch::Sender<Terms>,
}

impl Port {
    pub(super) fn new(router: Router, limits: Limits) -> Arc<Self> {
        let mut http = http1::Builder::new();
        http.max_buf_size(limits.head_bytes);
        // Answer a client that has closed its sending side. With this, hyper also reads nothing until the answer is
        // ready. A stream's client, however, shows by its end that it has gone.
        http.half_close(!limits.streams);
        // answers are short: copying the body behind the head costs less than sending both with writev
        http.writev(false);
        let idle_timeout = limits.idle_timeout;
        let terms = watch::Sender::new(Terms { phase: Phase::Serving, full: false, idle_timeout });
        let slots = Arc::new(Semaphore::new(limits.connections as usize));
        Arc::new(Self { router, http, limits, slots, terms })
    }

    pub(super) fn set_phase(&self, phase: Phase) {
        self.terms.send_modify(|terms| terms.phase = phase);
    }

    pub(super) fn connections(&self) -> usize {
        self.limits.connections as usize - self.slots.available_permits()
    }

    pub(super) async fn all_ended(&self) {
        let _all = self.slots.acquire_many(self.limits.connections).await;
    }

    /// Accepts connections until [`Phase::Stopping`], and serves each in its own task. Connections that wait in the
    /// kernel's queue at that time are served, too: closing the listener would reset them.
    pub(super) async fn accept(self: Arc<Self>, listener: TcpListener) {
        let (mut full, mut failed) = (LogThrottle::default(), LogThrottle::default());
        let mut terms = self.terms.subscribe();
        let mut waiting_at_most = BACKLOG;
        loop {
            let accepted = if terms.borrow().phase == Phase::Stopping {
                waiting_at_most -= 1;
                match timeout(LAST_ACCEPT, listener.accept()).await {
                    Ok(accepted) if waiting_at_most >= 0 => accepted,
                    _ => return,
                }
            } else {
                tokio::select! {
                    accepted = listener.accept() => accepted,
                    _ = terms.wait_for(|terms| terms.phase == Phase::Stopping) => continue,
                }
            };
            match accepted {
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

    /// Waits for a free slot. Idle connections are closed in the meantime, so a slot becomes free.
    async fn slot(&self, full: &mut LogThrottle) -> Option<OwnedSemaphorePermit> {
        if let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() {
            return Some(slot);
        }
        self.terms.send_if_modified(|terms| !mem::replace(&mut terms.full, true));
        if let Some(times) = full.due() {
            warn!(
                connections = self.limits.connections,
                times, "{}: new connections wait", self.limits.reason
            );
        }
        Arc::clone(&self.slots).acquire_owned().await.ok()
    }

    /// Lets connections be idle again once a tenth of the slots is free. The threshold is not one slot, because the
    /// terms would then change with every connection, and each change wakes all connections.
    fn on_slot_freed(&self) {
        let enough = self.slots.available_permits() >= (self.limits.connections as usize / 10).max(1);
        if enough && self.terms.borrow().full {
            self.terms.send_if_modified(|terms| mem::replace(&mut terms.full, false));
        }
    }

    fn serve(self: &Arc<Self>, stream: TcpStream, remote: SocketAddr, slot: OwnedSemaphorePermit) {
        // the connection works without these options, too
        let _ = stream.set_nodelay(true);
        if self.limits.streams {
            let _ = SockRef::from(&stream).set_send_buffer_size(STREAM_BUFFER);
        }
        let remote = SocketAddr::new(remote.ip().to_canonical(), remote.port());
        let port = Arc::clone(self);
        tokio::spawn(async move {
            connection::serve(stream, remote, &port.router, &port.http, port.terms.subscribe()).await;
            drop(slot);
            port.on_slot_freed();
        });
    }
}

/// Limits how often a repeated condition is logged.
#[derive(Default)]
struct LogThrottle {
    last: Option<Instant>,
    times: u64,
}

impl LogThrottle {
    /// Counts an occurrence. If a log line is due, returns the number of occurrences since the last one.
    fn due(&mut self) -> Option<u64> {
        self.times += 1;
        let now = Instant::now();
        let due = self.last.is_none_or(|last| now - last >= LOG_INTERVAL);
        due.then(|| {
            self.last = Some(now);
            mem::take(&mut self.times)
        })
    }
}
