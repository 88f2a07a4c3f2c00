//! A server that keeps watching one service. It serves the verdict on the service's canary to scripts, to the
//! page in a browser, and to the controllers of a rollout.
//!
//! One task follows the [`Source`], however many clients there are. Its outcomes go into the [`trials`], from
//! which requests are answered.
//!
//! - [`trials`]: the trials, and when one begins. `versions` distinguishes versions of the canary.
//! - `server`: the routes. `access`: which requests are allowed. `input`: what they say. `connections`: the port,
//!   and the drain.
//! - `verdict`: the verdict as JSON. `reset`: begins a trial anew.
//! - `events`: server-sent events for viewers. `engines`: the hooks of Flagger. `rehearsal`: the steps of a
//!   rehearsal.
//! - `metrics`: the metrics for Prometheus.

mod access;
mod connections;
mod engines;
mod events;
mod input;
mod metrics;
mod rehearsal;
mod reset;
mod server;
pub mod trials;
mod verdict;
mod versions;

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use appinfo::server::Phase;
use tokio::{net::TcpListener, select, sync::watch, time::MissedTickBehavior};

pub(crate) use self::rehearsal::Rehearsal;
pub use self::{
    access::{Access, HostName},
    connections::Drain,
};
use self::{events::Viewers, metrics::Metrics, trials::Trials};
use crate::{
    messages::message,
    source::{Seen, Source},
    trial::Trial,
    view::page::Heading,
};

/// The minimum time between two events for a viewer.
const TOLD_EVERY: Duration = Duration::from_millis(250);

/// The state that all requests share.
pub(crate) struct Serve {
    /// The name of what is watched, for the page.
    title: String,
    /// The steps, if this is a rehearsal.
    rehearsal: Option<Arc<Rehearsal>>,
    access: Access,
    trials: Mutex<Trials>,
    viewers: Viewers,
    metrics: Metrics,
    phase: watch::Sender<Phase>,
}

impl Serve {
    /// A server for the service that `title` names. Each trial starts as a copy of `trial`.
    ///
    /// # Errors
    /// If the metrics library refuses a metric.
    pub(crate) fn new(
        title: String,
        rehearsal: Option<Arc<Rehearsal>>,
        trial: Trial,
        access: Access,
    ) -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            title,
            rehearsal,
            access,
            trials: Mutex::new(Trials::new(trial)),
            viewers: Viewers::default(),
            metrics: Metrics::new().map_err(io::Error::other)?,
            phase: watch::Sender::new(Phase::Serving),
        }))
    }

    /// Serves on `listener` the verdict on the outcomes of `source`, until `end` is ready. Then it drains.
    pub(crate) async fn run(
        self: &Arc<Self>,
        source: impl Source,
        listener: TcpListener,
        end: impl Future<Output = Drain>,
    ) {
        select! {
            () = self.follow(source) => {}
            () = connections::serve(listener, server::router(Arc::clone(self)), &self.phase, end) => {}
        }
    }

    /// Resets the trial of that name, if there is one.
    pub(crate) fn reset(&self, id: &str) {
        self.trials().reset(Some(id), Instant::now());
    }

    fn heading(&self) -> Heading<'_> {
        let progress = |rehearsal: &Arc<Rehearsal>| rehearsal.progress().borrow().clone();
        Heading { title: &self.title, rehearsal: self.rehearsal.as_ref().map(progress) }
    }

    fn trials(&self) -> MutexGuard<'_, Trials> {
        self.trials.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Follows the source, without end.
    async fn follow(&self, mut source: impl Source) {
        let mut ticks = tokio::time::interval(TOLD_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut over = false;
        loop {
            select! {
                seen = source.next(), if !over => {
                    if let Some(Seen::Trouble(text)) = &seen {
                        message(text);
                    }
                    let mut trials = self.trials();
                    if let Some(seen) = seen {
                        self.metrics.observe(&seen);
                        trials.observe(&seen, Instant::now());
                    } else {
                        over = true;
                        trials.end();
                    }
                }
                _ = ticks.tick() => {
                    let now = Instant::now();
                    let mut trials = self.trials();
                    trials.remember(now);
                    self.viewers.tell(&mut trials, &self.heading(), now);
                    for (trial, verdict) in trials.new_decisions() {
                        message(format_args!("trial {}: {verdict}", trial.escape_debug())); // a caller's name
                    }
                }
            }
        }
    }
}
