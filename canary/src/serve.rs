//! A server that keeps watching one service. It serves the verdict on the service's canary to scripts, to the
//! page in a browser, and to the controllers of a rollout.
//!
//! One task follows the [`Source`], however many clients there are. Its outcomes go into the [`trials`], from
//! which requests are answered.
//!
//! - [`trials`]: the trials, and when one begins. `versions` distinguishes versions of the canary.
//! - `routes`: the routes. `access`: which requests are allowed. `input`: what they say. `addresses`: how many
//!   requests of each address at the same time. The port and the drain are [`appinfo::server`]'s.
//! - `verdict`: the verdict as JSON. `reset`: begins a trial anew.
//! - `events`: server-sent events for viewers. `engines`: the hooks of Flagger. `rehearsal`: the steps of a
//!   rehearsal, `conditions`, what a person changes in them, `vote`, what a class says, and `pace`, how many requests of
//!   one address are answered. `record`: what was counted, in a file. `outage`: messages when answers stop and come back.
//! - `state`: the trials in a file, so that they survive a restart.
//! - `metrics`: the metrics for Prometheus.

mod access;
mod addresses;
mod conditions;
mod engines;
mod events;
#[doc(hidden)]
pub mod fuzzing;
mod input;
mod metrics;
mod outage;
mod pace;
mod rehearsal;
mod reset;
mod routes;
mod state;
pub mod trials;
mod verdict;
mod versions;
mod vote;

use std::{
    future::pending,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use appinfo::server::{Phase, Server, Shutdown};
use tokio::{net::TcpListener, select, sync::watch, time::MissedTickBehavior};

pub use self::{
    access::{Access, HostName, Token},
    state::{StateFile, Terms},
};
pub(crate) use self::{conditions::what_changed, rehearsal::Rehearsal};
use self::{
    events::Viewers,
    metrics::Metrics,
    outage::Outage,
    state::Saver,
    trials::{Full, MOST_TRIALS, NO_CANARY, Trials, Wanted},
};
use crate::{
    messages::message,
    source::{Asked, FailingAnswer, Seen, Source, lines::End, shortage::limit_of_files},
    trial::{Record, Trial},
    view::page::Heading,
};
use canary_judge::{Counts, Release, Traffic};

/// The maximum number of open connections. Others wait.
const MOST_CONNECTIONS: u32 = 512;
/// The same on the port for phones. A class holds 200 at most.
const MOST_OF_PHONES: u32 = 256;
/// How long a connection may be idle between two requests.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// The maximum length of a request head, in bytes. Browsers send cookies of other programs on the same host.
const HEAD_BYTES: usize = 16 << 10;
/// Files that the source may open: a connection for each request under way, and those for names and certificates.
const FILES_OF_SOURCE: u64 = 64;

/// The minimum time between two events for a viewer.
const TOLD_EVERY: Duration = Duration::from_millis(250);
/// The minimum time between two messages about the limit of trials.
const LIMIT_SAID_EVERY: Duration = Duration::from_secs(60);

/// The ports of a server.
#[derive(Debug)]
pub(crate) struct Ports {
    /// For clients and viewers.
    pub(crate) public: TcpListener,
    /// For probes, which connections of clients cannot block there.
    pub(crate) admin: Option<TcpListener>,
    /// For phones, which can only vote there.
    pub(crate) phones: Option<TcpListener>,
}

/// A moment on both clocks: the one that measures, and the one that people read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Start {
    instant: Instant,
    time: SystemTime,
}

impl Start {
    fn now() -> Self {
        Self { instant: Instant::now(), time: SystemTime::now() }
    }

    /// The time of a moment. A clock that is set meanwhile makes no difference.
    fn time_of(self, moment: Instant) -> SystemTime {
        match moment.checked_duration_since(self.instant) {
            Some(after) => self.time + after,
            None => self.time - self.instant.saturating_duration_since(moment),
        }
    }

    /// The same as text, in UTC.
    fn text_of(self, moment: Instant) -> String {
        text_of(self.time_of(moment))
    }

    /// The same in seconds since 1970.
    fn seconds_of(self, moment: Instant) -> f64 {
        seconds_of(self.time_of(moment))
    }
}

/// A time as text, in UTC.
fn text_of(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string()
}

/// A time in seconds since 1970.
fn seconds_of(time: SystemTime) -> f64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

/// What was said about the limit of trials.
#[derive(Debug, Default)]
struct Limit {
    said: Option<Instant>,
    full: Full,
}

impl Limit {
    /// A message, if the limit was reached since the last one, which was some time ago.
    fn reached(&mut self, full: Full, now: Instant) -> Option<String> {
        let soon = |said: Instant| now.saturating_duration_since(said) < LIMIT_SAID_EVERY;
        if full == self.full || self.said.is_some_and(soon) {
            return None;
        }
        let replaced = full.replaced - self.full.replaced;
        let refused = full.refused - self.full.refused;
        (self.said, self.full) = (Some(now), full);
        Some(format!(
            "there are {MOST_TRIALS} trials: {replaced} gave way to others, and {refused} names were refused"
        ))
    }
}

/// The state that all requests share.
pub(crate) struct Serve {
    /// The name of what is watched, for the page.
    title: String,
    /// The steps, if this is a rehearsal.
    rehearsal: Option<Arc<Rehearsal>>,
    access: Access,
    /// When this process began to count.
    started: Start,
    trials: Mutex<Trials>,
    viewers: Viewers,
    outage: Mutex<Outage>,
    last_failure: Mutex<Option<FailingAnswer>>,
    /// What the source has asked.
    asked: Mutex<Option<Asked>>,
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
            started: Start::now(),
            trials: Mutex::new(Trials::new(trial)),
            viewers: Viewers::default(),
            outage: Mutex::default(),
            last_failure: Mutex::default(),
            asked: Mutex::default(),
            metrics: Metrics::new().map_err(io::Error::other)?,
            phase: watch::Sender::new(Phase::Serving),
        }))
    }

    /// Serves on `ports` the verdict on the outcomes of `source`, until `end` is ready. Then it drains.
    pub(crate) async fn run(
        self: &Arc<Self>,
        source: impl Source,
        mut record: Option<Record>,
        state: Option<StateFile>,
        ports: Ports,
        end: impl Future<Output = Shutdown>,
    ) {
        let public = (ports.public, routes::router(Arc::clone(self)));
        let admin = ports.admin.map(|listener| (listener, routes::admin(Arc::clone(self))));
        let mut server = Server::of_routers(public, admin, self.phase.clone());
        let of_phones = ports.phones.as_ref().map_or(0, |_| MOST_OF_PHONES);
        server.max_connections = MOST_CONNECTIONS + of_phones;
        server.own_files += FILES_OF_SOURCE;
        server.head_bytes = HEAD_BYTES;
        server.idle_timeout = IDLE_TIMEOUT;
        server.streams = true;
        let possible = server.possible_connections();
        if possible < server.max_connections {
            let connections = if possible == 1 { "connection" } else { "connections" };
            message(format_args!("{possible} {connections} at most: {}", limit_of_files()));
        }
        let of_phones = of_phones.min(possible / 3);
        server.max_connections = MOST_CONNECTIONS.min(possible - of_phones);
        let phones = ports.phones.map(|listener| self.server_for_phones(listener, of_phones));
        let phones = async move {
            match phones {
                Some(server) => server.run(pending()).await,
                None => pending().await,
            }
        };
        let mut saver = state.map(|file| Saver::new(file, Instant::now()));
        select! {
            () = self.follow(source, record.as_mut(), saver.as_mut()) => {}
            () = server.run(end) => {}
            () = phones => {}
        }
        if let Some(record) = &mut record {
            record.end(End::Stopped, Instant::now()).into_iter().for_each(message);
        }
        if let Some(saver) = &mut saver {
            saver.end(self).await;
        }
    }

    fn server_for_phones(self: &Arc<Self>, listener: TcpListener, connections: u32) -> Server {
        let mut server = Server::of_routers(
            (listener, vote::router(Arc::clone(self))),
            None,
            watch::Sender::new(Phase::Serving),
        );
        server.max_connections = connections;
        server.own_files = 0; // the other port's server reserves them
        server.head_bytes = HEAD_BYTES;
        server.idle_timeout = IDLE_TIMEOUT;
        server
    }

    /// Goes on with the trials of the file, if there are any that can.
    ///
    /// # Errors
    /// If the file cannot be read, or not be set aside.
    pub(crate) fn restore(&self, state: &StateFile) -> io::Result<()> {
        let mut trials = self.trials();
        if let Some(kept) = state.read(trials.trial(), (self.started.instant, self.started.time))? {
            *trials = kept;
        }
        Ok(())
    }

    /// Since when requests are counted: by this process, or by the one before it.
    fn counting_since(&self, trials: &Trials) -> SystemTime {
        trials.counting_since().unwrap_or(self.started.time)
    }

    /// Resets the trial of that name, if there is one.
    pub(crate) fn reset(&self, id: &str) {
        self.trials().reset(&Wanted::Named(id.to_owned()), Instant::now());
    }

    /// Begins the trial of that name anew, or the current one, for a service that gets `traffic`. The canary, or what is
    /// done to it, is not the same as before.
    pub(crate) fn begin_anew(&self, id: Option<&str>, traffic: Traffic) {
        let now = Instant::now();
        let wanted = id.map_or(Wanted::Current, |id| Wanted::Named(id.to_owned()));
        let mut trials = self.trials();
        let id = trials.reset(&wanted, now).unwrap_or_default(); // it may not have answered yet
        trials.set_traffic(traffic, &id);
        // what every version has answered, whose price would have two rates
        trials.reset(&Wanted::Named(NO_CANARY.to_owned()), now);
    }

    /// The answers of stable and of the canary in the current trial.
    pub(crate) fn answers(&self) -> [Counts; 2] {
        let trials = self.trials();
        let tally = trials.current(Instant::now()).one.trial().tally();
        [Release::Stable, Release::Canary].map(|release| tally.of_release(release))
    }

    /// The greatest share of the traffic for the version with this hash at the moment, from 0 to 1.
    pub(crate) fn max_share(&self, hash: &str) -> f64 {
        let now = Instant::now();
        self.trials().find(&Wanted::Version(hash.to_owned()), now).one.trial().verdict(now).max_share
    }

    fn heading(&self, trials: &Trials) -> Heading<'_> {
        let rehearsal = self.rehearsal.as_ref().map(|rehearsal| rehearsal.progress().borrow().clone());
        let sends = rehearsal.as_ref().is_none_or(|progress| !progress.held && !progress.paused);
        let started = self.started.text_of(self.started.instant);
        Heading {
            title: &self.title,
            counting_since: text_of(self.counting_since(trials)),
            process_started: started,
            clocks: (self.started.instant, self.started.time),
            rehearsal,
            outage: self.outage().shown(self.started, Instant::now()).filter(|_| sends),
            last_failure: self.last_failure.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }

    fn outage(&self) -> MutexGuard<'_, Outage> {
        self.outage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn trials(&self) -> MutexGuard<'_, Trials> {
        self.trials.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Follows the source, without end.
    async fn follow(
        self: &Arc<Self>,
        mut source: impl Source,
        mut record: Option<&mut Record>,
        mut saver: Option<&mut Saver>,
    ) {
        let mut ticks = tokio::time::interval(TOLD_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut limit = Limit::default();
        loop {
            select! {
                Some(seen) = source.next() => {
                    if let Seen::Trouble(text) = &seen {
                        message(text);
                    }
                    let now = Instant::now();
                    let recorded = record.as_mut().and_then(|record| record.observe(&seen, now));
                    [recorded, self.outage().observe(&seen, now)].into_iter().flatten().for_each(message);
                    self.metrics.observe(&seen);
                    self.trials().observe(&seen, Instant::now());
                }
                _ = ticks.tick() => {
                    let now = Instant::now();
                    if let Some(record) = &mut record {
                        record.flush().into_iter().for_each(message);
                    }
                    if let Some(saver) = &mut saver {
                        saver.tick(self, now);
                    }
                    *self.last_failure.lock().unwrap_or_else(PoisonError::into_inner) = source.last_failure();
                    *self.asked.lock().unwrap_or_else(PoisonError::into_inner) = source.asked();
                    let mut trials = self.trials();
                    trials.remember(now);
                    let heading = self.heading(&trials);
                    self.viewers.tell(&mut trials, &heading, now);
                    if let Some(text) = limit.reached(trials.full(), now) {
                        message(text);
                    }
                    // while the judge is hidden, the terminal does not tell, either
                    if heading.rehearsal.is_none_or(|progress| !progress.curtain) {
                        for (trial, verdict) in trials.new_decisions(now) {
                            message(format_args!("trial {trial}: {verdict}"));
                        }
                    }
                }
            }
        }
    }
}
