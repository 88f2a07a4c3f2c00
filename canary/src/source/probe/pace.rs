//! How often requests are sent, and how many may be under way at once.

use std::{sync::Arc, time::Duration};

use rustix::process::{Resource, getrlimit};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::{Instant, Interval, MissedTickBehavior, interval, sleep_until},
};

/// Requests that may be under way at once, if the process may open as many files.
const MAX_IN_FLIGHT: u64 = 4096;
/// Open files that are not for requests: streams, the terminal, the runtime's own.
const RESERVED_FILES: u64 = 64;
/// Files that a request takes at most: in the rehearsal its connection has four ends in this process.
const FILES_A_REQUEST: u64 = 4;

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

impl Pace {
    /// Returns when no request is to be sent any more.
    pub(super) async fn time_is_over(self) {
        match self.time {
            Some(time) => sleep_until(Instant::now() + time).await,
            None => std::future::pending().await,
        }
    }
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
    ticks: Interval,
    slots: Arc<Semaphore>,
}

impl Turns {
    pub(super) fn new(rate: f64, orders: watch::Receiver<Orders>) -> Self {
        let mut ticks = interval(Duration::from_secs_f64(1.0 / rate));
        // keeps the rate where a timer's grain is too coarse
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        Self { orders, ticks, slots: Arc::new(Semaphore::new(most_in_flight())) }
    }

    /// Waits until a request may be sent. It is under way for as long as it holds what this returns; none when
    /// there are no orders any more.
    pub(super) async fn next(&mut self) -> Option<OwnedSemaphorePermit> {
        self.ticks.tick().await;
        if *self.orders.borrow() == Orders::Pause {
            self.orders.wait_for(|orders| *orders != Orders::Pause).await.ok()?;
            self.ticks.reset();
        }
        if let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() {
            return Some(slot);
        }
        let slot = Arc::clone(&self.slots).acquire_owned().await.ok()?;
        self.ticks.reset(); // what could not be sent in time is not made up for
        Some(slot)
    }
}

fn most_in_flight() -> usize {
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let possible = files.saturating_sub(RESERVED_FILES) / FILES_A_REQUEST;
    usize::try_from(possible.clamp(1, MAX_IN_FLIGHT)).unwrap_or(1)
}
