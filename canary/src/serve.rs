//! A server that keeps watching one service, and tells what may be said of its canary: to scripts, to a room that
//! looks at a page, and to the controllers that roll it out.
//!
//! One task follows the [`Source`] however many look. What it sees goes into the [`trials`], which requests read.
//!
//! - [`trials`]: which trials there are, and when one begins. `versions` tells canaries apart.
//! - [`state`]: what one look says. `history`: how it came about.
//! - `server`: the routes. `access`: who may ask. `connections`: the port, and its end.
//! - `events`: the newest state for each viewer. `engines`: the hooks of Flagger. `rehearsal`: its steps.
//! - `metrics`: what Prometheus reads.

mod access;
mod connections;
mod engines;
mod events;
mod history;
mod metrics;
mod rehearsal;
mod server;
pub mod state;
pub mod trials;
mod versions;

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use appinfo::server::Phase;
use tokio::{net::TcpListener, select, sync::watch, time::MissedTickBehavior};

pub(crate) use self::rehearsal::{Progress, Rehearsal};
pub use self::{
    access::{Access, HostName},
    connections::Drain,
};
use self::{events::Viewers, metrics::Metrics, state::Heading, trials::Trials};
use crate::{
    messages::message,
    source::{Seen, Source},
    trial::Trial,
};

/// How often viewers are told what has changed.
const TOLD_EVERY: Duration = Duration::from_millis(250);

/// What every request is answered from.
pub(crate) struct Serve {
    /// What is watched, as the page shows it.
    title: String,
    /// The steps that viewers may take, if this is a rehearsal.
    rehearsal: Option<Arc<Rehearsal>>,
    access: Access,
    trials: Mutex<Trials>,
    viewers: Viewers,
    metrics: Metrics,
    phase: watch::Sender<Phase>,
}

impl Serve {
    /// To serve what is seen of the service that `title` names, each trial beginning as `trial`.
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

    /// Serves on `listener` what comes from `source` until `end` is ready; then drains as that says.
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

    /// Forgets what was seen in the trial of that name, if there is one.
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

    /// Takes in what comes from the source, for ever.
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

/// Serves on `listener` what comes from `source`, each trial beginning as `trial`, until `end` is ready; then
/// drains as that says. `title` says what is watched.
///
/// # Errors
/// If the metrics library refuses a metric.
pub async fn run(
    title: String,
    source: impl Source,
    trial: Trial,
    access: Access,
    listener: TcpListener,
    end: impl Future<Output = Drain>,
) -> io::Result<()> {
    Serve::new(title, None, trial, access)?.run(source, listener, end).await;
    Ok(())
}
