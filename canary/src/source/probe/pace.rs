//! How often requests are sent, and how many may be under way at once.

use std::{sync::Arc, time::Duration};

use rustix::process::{Resource, getrlimit};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::{Instant, sleep_until},
};

/// Requests that may be under way at once, if the process may open as many files.
const MAX_IN_FLIGHT: u64 = 4096;
/// Open files that are not for requests: streams, the terminal, the runtime's own.
const RESERVED_FILES: u64 = 64;
/// Files that a request takes at most: in the rehearsal its connection has four ends in this process.
const FILES_A_REQUEST: u64 = 4;

/// How late a request may be sent. The rate is kept where a timer's grain is coarse or the machine is busy for a
/// moment; what is later than this is not sent at all, so that a process that was stopped does not burst.
const LATEST: Duration = Duration::from_millis(100);

/// How long an answer may take, from resolving the name to the last byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// A request that takes longer has no answer.
    pub timeout: Duration,
    /// An answer that takes longer counts as a failure.
    pub max_latency: Option<Duration>,
}

impl Limits {
    /// No limit but a time-out.
    pub fn timeout(timeout: Duration) -> Self {
        Self { timeout, max_latency: None }
    }
}

/// How often and how long to ask.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    /// Requests a second.
    pub rate: f64,
    /// How long an answer may take.
    pub limits: Limits,
    /// No request is sent after this time.
    pub time: Option<Duration>,
    /// No more requests than this are sent.
    pub count: Option<u64>,
}

/// When the time is over, from now on; none if no clock gets there.
fn end_of(time: Option<Duration>) -> Option<Instant> {
    Instant::now().checked_add(time?)
}

/// Whether requests are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Orders {
    Send,
    Pause,
    Stop,
}

/// When the next request may be sent.
pub(super) struct Turns {
    orders: watch::Receiver<Orders>,
    period: Duration,
    /// When the next request is due.
    due: Instant,
    /// No request is sent from then on.
    end: Option<Instant>,
    slots: Arc<Semaphore>,
}

impl Turns {
    pub(super) fn new(pace: Pace, orders: watch::Receiver<Orders>) -> Self {
        Self {
            orders,
            period: Duration::from_secs_f64(1.0 / pace.rate),
            due: Instant::now(),
            end: end_of(pace.time),
            slots: Arc::new(Semaphore::new(most_in_flight())),
        }
    }

    /// Returns when the time is over.
    pub(super) fn end(&self) -> impl Future<Output = ()> + use<> {
        let end = self.end;
        async move {
            match end {
                Some(end) => sleep_until(end).await,
                None => std::future::pending().await,
            }
        }
    }

    /// Waits until a request may be sent. It is under way for as long as it holds what this returns; none when
    /// the time is over, or there are no orders any more.
    pub(super) async fn next(&mut self) -> Option<OwnedSemaphorePermit> {
        sleep_until(self.due).await;
        self.orders.wait_for(|orders| *orders != Orders::Pause).await.ok()?;
        let slot = Arc::clone(&self.slots).acquire_owned().await.ok()?;
        let now = Instant::now();
        // what could not be sent in time is not made up for
        self.due = now.checked_sub(LATEST).map_or(self.due, |earliest| self.due.max(earliest)) + self.period;
        self.end.is_none_or(|end| now < end).then_some(slot)
    }
}

fn most_in_flight() -> usize {
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let possible = files.saturating_sub(RESERVED_FILES) / FILES_A_REQUEST;
    usize::try_from(possible.clamp(1, MAX_IN_FLIGHT)).unwrap_or(1)
}
