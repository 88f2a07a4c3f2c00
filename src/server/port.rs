//! A router on a port: how many connections may be open, and how long each may stay open.

use std::{
    mem,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::Router;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::{self, sleep},
};
use tracing::{error, warn};

use super::connection;

/// The minimum time between two log lines about the same condition.
const LOG_INTERVAL: Duration = Duration::from_secs(10);
/// How long to wait after a failed accept: the next one would probably fail, too.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long to accept connections from the listener's queue after the drain delay.
const BACKLOG_SWEEP: Duration = Duration::from_millis(20);

/// The lifecycle of a server's ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It answers, and keeps connections for the next request.
    Serving,
    /// It still answers, and every answer says `connection: close`.
    Draining,
    /// It accepts no new connection.
    Stopping,
}

/// Conditions that decide how long a port's connections may stay open.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    pub(super) phase: Phase,
    /// All slots, or nearly all, are in use: other connections wait or have just waited.
    pub(super) full: bool,
    /// How long a connection may be idle between two requests.
    pub(super) idle_timeout: Duration,
}

impl Terms {
    /// Whether a connection is kept open for the next request. If not, the answer has `connection: close`.
    pub(super) fn keep_alive(self) -> bool {
        self.phase == Phase::Serving && !self.full
    }

    /// Whether a connection without a request may stay open.
    pub(super) fn may_idle(self) -> bool {
        self.phase != Phase::Stopping && !self.full
    }
}

/// A router on a port. Each open connection occupies one slot.
#[derive(Clone)]
pub(super) struct Port {
    router: Router,
    slots: Arc<Semaphore>,
    limit: u32,
    limit_reason: &'static str,
    terms: watch::Sender<Terms>,
}

impl Port {
    pub(super) fn new(
        router: Router,
        limit: u32,
        limit_reason: &'static str,
        idle_timeout: Duration,
    ) -> Self {
        let terms = watch::Sender::new(Terms { phase: Phase::Serving, full: false, idle_timeout });
        Self { router, slots: Arc::new(Semaphore::new(limit as usize)), limit, limit_reason, terms }
    }

    pub(super) fn set_phase(&self, phase: Phase) {
        self.terms.send_modify(|terms| terms.phase = phase);
    }

    pub(super) fn connections(&self) -> usize {
        self.limit as usize - self.slots.available_permits()
    }

    pub(super) async fn all_ended(&self) {
        let _all = self.slots.acquire_many(self.limit).await;
    }

    /// Accepts connections until [`Phase::Stopping`], and serves each in its own task. Connections that wait in the
    /// kernel's queue at that time are accepted, too: closing the listener would reset them.
    pub(super) async fn accept(self, listener: TcpListener) {
        let mut terms = self.terms.subscribe();
        tokio::select! {
            () = self.accept_all(&listener) => {}
            _ = terms.wait_for(|terms| terms.phase == Phase::Stopping) => {}
        }
        let _ = time::timeout(BACKLOG_SWEEP, self.accept_all(&listener)).await;
    }

    async fn accept_all(&self, listener: &TcpListener) {
        let (mut full, mut failed) = (LogThrottle::default(), LogThrottle::default());
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

    /// Waits for a free slot. Idle connections are closed in the meantime, so a slot becomes free.
    async fn slot(&self, full: &mut LogThrottle) -> Option<OwnedSemaphorePermit> {
        if let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() {
            return Some(slot);
        }
        self.terms.send_if_modified(|terms| !mem::replace(&mut terms.full, true));
        if let Some(times) = full.due() {
            warn!(connections = self.limit, times, "{}: new connections wait", self.limit_reason);
        }
        Arc::clone(&self.slots).acquire_owned().await.ok()
    }

    /// Lets connections be idle again once a tenth of the slots is free. The threshold is not one slot, because the
    /// terms would then change with every connection, and each change wakes all connections.
    fn on_slot_freed(&self) {
        let enough = self.slots.available_permits() >= (self.limit as usize / 10).max(1);
        if enough && self.terms.borrow().full {
            self.terms.send_if_modified(|terms| mem::replace(&mut terms.full, false));
        }
    }

    fn serve(&self, stream: TcpStream, remote: SocketAddr, slot: OwnedSemaphorePermit) {
        let _ = stream.set_nodelay(true); // a failure only makes the connection slower
        let remote = SocketAddr::new(remote.ip().to_canonical(), remote.port());
        let port = self.clone();
        tokio::spawn(async move {
            connection::serve(stream, remote, &port.router, port.terms.subscribe()).await;
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
