//! The rate of requests, and the limit on requests in flight.

use std::{sync::Arc, time::Duration};

use rustix::process::{Resource, getrlimit};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::{Instant, sleep_until},
};

/// The maximum number of requests in flight, if the process may open enough files.
const MAX_IN_FLIGHT: u64 = 4096;
/// Open files for other purposes: standard streams, the terminal, the runtime.
const RESERVED_FILES: u64 = 64;
/// The maximum number of files per request. In the rehearsal, a request has four ends of connections in this
/// process.
const FILES_PER_REQUEST: u64 = 4;

/// The maximum delay of a request after its due time. Short delays, by coarse timers or a busy machine, are
/// made up for, so the rate stays exact. Requests that are later than this are dropped, so there is no burst
/// after a process was stopped.
const MAX_DELAY: Duration = Duration::from_millis(100);

/// The limits on the time of a request, from name resolution to the last byte of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// A request that takes longer counts as not answered.
    pub timeout: Duration,
    /// An answer that takes longer counts as a failure.
    pub max_latency: Option<Duration>,
}

impl Limits {
    /// Limits with only a time-out.
    pub fn timeout(timeout: Duration) -> Self {
        Self { timeout, max_latency: None }
    }
}

/// The rate, the duration and the number of requests.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    /// Requests per second.
    pub rate: f64,
    /// The limits on the time of each request.
    pub limits: Limits,
    /// No request is sent after this time.
    pub time: Option<Duration>,
    /// The maximum number of requests.
    pub count: Option<u64>,
}

/// The end of a time that starts now; `None` if there is no end, or if the clock cannot represent it.
fn end_of(time: Option<Duration>) -> Option<Instant> {
    Instant::now().checked_add(time?)
}

/// Orders to the task that sends requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::source) enum Orders {
    Send,
    Pause,
    Stop,
}

/// Decides when the next request may be sent.
pub(in crate::source) struct Turns {
    orders: watch::Receiver<Orders>,
    period: Duration,
    /// The due time of the next request.
    due: Instant,
    /// No request is sent from this time on.
    end: Option<Instant>,
    slots: Arc<Semaphore>,
}

impl Turns {
    pub(in crate::source) fn new(pace: Pace, orders: watch::Receiver<Orders>) -> Self {
        Self {
            orders,
            period: Duration::from_secs_f64(1.0 / pace.rate),
            due: Instant::now(),
            end: end_of(pace.time),
            slots: Arc::new(Semaphore::new(most_in_flight())),
        }
    }

    /// Sends this many requests a second from now on.
    pub(in crate::source) fn set_rate(&mut self, rate: f64) {
        (self.period, self.due) = (Duration::from_secs_f64(1.0 / rate), Instant::now());
    }

    /// Returns when the time is over.
    pub(in crate::source) fn end(&self) -> impl Future<Output = ()> + use<> {
        let end = self.end;
        async move {
            match end {
                Some(end) => sleep_until(end).await,
                None => std::future::pending().await,
            }
        }
    }

    /// Waits until a request may be sent. The request is in flight until it drops the permit. `None` after the
    /// end, or if the sender of orders is gone. Cancel-safe.
    pub(in crate::source) async fn next(&mut self) -> Option<OwnedSemaphorePermit> {
        sleep_until(self.due).await;
        self.orders.wait_for(|orders| *orders != Orders::Pause).await.ok()?;
        let slot = Arc::clone(&self.slots).acquire_owned().await.ok()?;
        let now = Instant::now();
        self.due =
            now.checked_sub(MAX_DELAY).map_or(self.due, |earliest| self.due.max(earliest)) + self.period;
        self.end.is_none_or(|end| now < end).then_some(slot)
    }
}

fn most_in_flight() -> usize {
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let possible = files.saturating_sub(RESERVED_FILES) / FILES_PER_REQUEST;
    usize::try_from(possible.clamp(1, MAX_IN_FLIGHT)).unwrap_or(1)
}
