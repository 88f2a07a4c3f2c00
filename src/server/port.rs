//! A router on a port: how many connections may be open at once, and how long they may stay.

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

/// How often a condition that lasts is logged.
const LOG_AGAIN_AFTER: Duration = Duration::from_secs(10);
/// How long to wait after a failed accept, which would most likely fail again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long after the drain delay to accept what is still in the listener's queue.
const BACKLOG_SWEEP: Duration = Duration::from_millis(20);

/// Where a server is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It answers, and keeps connections for the next request.
    Serving,
    /// It still answers, and every answer says `connection: close`.
    Draining,
    /// It accepts no new connection.
    Stopping,
}

/// What decides how long a port's connections may stay.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    pub(super) phase: Phase,
    /// As many connections are open as may be, or nearly; others wait, or did just now.
    pub(super) full: bool,
    /// How long a connection may rest between two requests.
    pub(super) idle_timeout: Duration,
}

impl Terms {
    /// Whether a connection is kept for the next request; else the answer says `connection: close`.
    pub(super) fn keep_alive(self) -> bool {
        self.phase == Phase::Serving && !self.full
    }

    /// Whether a connection without a request may stay open.
    pub(super) fn rest(self) -> bool {
        self.phase != Phase::Stopping && !self.full
    }
}

/// A router on a port. Each open connection holds one of its slots.
#[derive(Clone)]
pub(super) struct Port {
    router: Router,
    slots: Arc<Semaphore>,
    limit: u32,
    what_limits: &'static str,
    terms: watch::Sender<Terms>,
}

impl Port {
    pub(super) fn new(router: Router, limit: u32, what_limits: &'static str, idle_timeout: Duration) -> Self {
        let terms = watch::Sender::new(Terms { phase: Phase::Serving, full: false, idle_timeout });
        Self { router, slots: Arc::new(Semaphore::new(limit as usize)), limit, what_limits, terms }
    }

    pub(super) fn turn(&self, phase: Phase) {
        self.terms.send_modify(|terms| terms.phase = phase);
    }

    pub(super) fn connections(&self) -> usize {
        self.limit as usize - self.slots.available_permits()
    }

    pub(super) async fn all_ended(&self) {
        let _all = self.slots.acquire_many(self.limit).await;
    }

    /// Accepts connections until the phase is [`Phase::Stopping`], each served by a task of its own. Those that
    /// the kernel has established by then are accepted too: they would be reset when the listener is closed.
    pub(super) async fn accept(self, listener: TcpListener) {
        let mut terms = self.terms.subscribe();
        tokio::select! {
            () = self.accept_all(&listener) => {}
            _ = terms.wait_for(|terms| terms.phase == Phase::Stopping) => {}
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

    /// Waits for a free slot. Connections that rest are closed meanwhile, so there will be one.
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

    /// Lets connections rest again once a tenth of the slots are free. With one free slot as the mark, the
    /// terms would change, and wake every connection, whenever one comes or goes.
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
