//! A server that keeps watching one service. It serves the verdict on the service's canary to scripts, to the
//! page in a browser, and to the controllers of a rollout.
//!
//! One task follows the [`Source`], however many clients there are. Its outcomes go into the [`trials`], from
//! which requests are answered.
//!
//! - [`trials`]: the trials, and when one begins. `versions` distinguishes versions of the canary.
//! - [`state`]: the JSON of a trial. `history`: its course.
//! - `routes`: the routes. `access`: which requests are allowed. The port and the drain are [`appinfo::server`]'s.
//! - `events`: server-sent events for viewers. `engines`: the hooks of Flagger. `rehearsal`: the steps of a
//!   rehearsal.
//! - `metrics`: the metrics for Prometheus.

mod access;
mod engines;
mod events;
mod history;
mod metrics;
mod rehearsal;
mod routes;
pub mod state;
pub mod trials;
mod versions;

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use appinfo::server::{Phase, Server, Shutdown};
use tokio::{net::TcpListener, select, sync::watch, time::MissedTickBehavior};

pub use self::access::{Access, HostName};
pub(crate) use self::rehearsal::{Progress, Rehearsal};
use self::{events::Viewers, metrics::Metrics, state::Heading, trials::Trials};
use crate::{
    messages::message,
    source::{Seen, Source},
    trial::Trial,
};

/// The maximum number of open connections. Others wait.
const MOST_CONNECTIONS: u32 = 512;
/// How long a connection may be idle between two requests.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// The maximum length of a request head, in bytes. Browsers send cookies of other programs on the same host.
const HEAD_BYTES: usize = 16 << 10;
/// Files that the source may open: a connection for each request under way, and those for names and certificates.
const FILES_OF_SOURCE: u64 = 64;

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

    /// Serves on `listener` the verdict on the outcomes of `source`, until `end` is ready. Then it drains. Probes are
    /// answered on `admin`, too, where connections of clients cannot use up the places.
    pub(crate) async fn run(
        self: &Arc<Self>,
        source: impl Source,
        listener: TcpListener,
        admin: Option<TcpListener>,
        end: impl Future<Output = Shutdown>,
    ) {
        let public = (listener, routes::router(Arc::clone(self)));
        let admin = admin.map(|listener| (listener, routes::admin(Arc::clone(self))));
        let mut server = Server::of_routers(public, admin, self.phase.clone());
        server.max_connections = MOST_CONNECTIONS;
        server.own_files += FILES_OF_SOURCE;
        server.head_bytes = HEAD_BYTES;
        server.idle_timeout = IDLE_TIMEOUT;
        server.streams = true;
        let possible = server.possible_connections();
        if possible < MOST_CONNECTIONS {
            message(format_args!(
                "{possible} connections at most: the limit of open files is low (ulimit -n)"
            ));
        }
        select! {
            () = self.follow(source) => {}
            () = server.run(end) => {}
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
                    for (trial, verdict) in trials.new_decisions(now) {
                        message(format_args!("trial {}: {verdict}", trial.escape_debug())); // a caller's name
                    }
                }
            }
        }
    }
}

/// Serves on `listener` the verdict on the outcomes of `source`, until `end` is ready. Then it drains. Each
/// trial starts as a copy of `trial`. `title` names what is watched. `admin` is for probes.
///
/// # Errors
/// If the metrics library refuses a metric.
pub async fn run(
    title: String,
    source: impl Source,
    trial: Trial,
    access: Access,
    listener: TcpListener,
    admin: Option<TcpListener>,
    end: impl Future<Output = Shutdown>,
) -> io::Result<()> {
    Serve::new(title, None, trial, access)?.run(source, listener, admin, end).await;
    Ok(())
}
