//! Clients that must not lose a request while pods start and end. One opens a connection for each request. The
//! others keep theirs until an answer closes it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::{MissedTickBehavior, interval_at},
};

use crate::{
    source::Attribution,
    source::probe::{Client, Limits, Pace, Probe, Service, Target},
    trial::tally::Tally,
};
use canary_judge::Release;

/// Requests a second on new connections, and as many on kept ones.
const RATE: u32 = 60;
/// The number of kept connections, each with one request a second (a pod drains for longer). The probability
/// that none of them is at the ending pod, one of four, is (3/4)^60 = 3 in 10^8.
const KEPT: u32 = 60;
const TIMEOUT: Duration = Duration::from_secs(10);
/// The minimum share of the planned requests: with fewer, the load was too small. A busy machine sends much fewer than
/// planned, and what it has sent is still a load.
const LEAST: f64 = 0.1;

/// The result of a step is not what it should be.
#[derive(Debug)]
pub(super) enum Wrong {
    /// It differs from the README.
    Differs(String),
    /// This machine could not send all requests.
    Shortage(String),
}

impl From<String> for Wrong {
    fn from(text: String) -> Self {
        Self::Differs(text)
    }
}

/// Running clients.
pub(super) struct Load {
    target: Target,
    began: Instant,
    done: watch::Sender<bool>,
    clients: JoinSet<ClientTally>,
}

/// The results of one client.
enum ClientTally {
    OnNewConnections(Tally),
    OnAKeptOne {
        tally: Tally,
        /// The number of its connections.
        connections: u64,
    },
}

impl Load {
    /// Returns when each client has had its first answer.
    pub(super) async fn start(target: &Target) -> Self {
        let done = watch::Sender::new(false);
        let (until_answered, mut all_answered) = mpsc::channel(1);
        let mut clients = JoinSet::new();
        clients.spawn(on_new_connections(target.clone(), done.subscribe(), Some(until_answered.clone())));
        for number in 0..KEPT {
            let later = Duration::from_secs(1) * number / KEPT;
            clients.spawn(on_a_kept_one(
                target.clone(),
                later,
                done.subscribe(),
                Some(until_answered.clone()),
            ));
        }
        drop(until_answered);
        all_answered.recv().await; // it ends when all have dropped their end
        Self { target: target.clone(), began: Instant::now(), done, clients }
    }

    /// Ends the load, and returns the results of all clients. It is an error if a request was lost, if one
    /// failed (except by a canary where `canary_fails`), or if the load was too small.
    pub(super) async fn end(mut self, canary_fails: bool) -> Result<String, Wrong> {
        let time = self.began.elapsed();
        self.done.send_replace(true);
        let (mut new, mut kept, mut moved) = (Vec::new(), Vec::new(), 0);
        while let Some(seen) = self.clients.join_next().await {
            match seen.map_err(|error| format!("a client failed: {error}"))? {
                ClientTally::OnNewConnections(tally) => new.push(tally),
                ClientTally::OnAKeptOne { tally, connections } => {
                    kept.push(tally);
                    moved += connections.saturating_sub(1);
                }
            }
        }
        let mut told = Vec::new();
        for (tallies, kind) in [(new, "on new connections"), (kept, "on kept connections")] {
            let total: u64 = tallies.iter().map(|tally| tally.total().requests).sum();
            let least = LEAST * f64::from(RATE) * time.as_secs_f64();
            if (total as f64) < least {
                return Err(format!("no load {kind}: {total} requests to {} in {time:?}", self.target).into());
            }
            for tally in &tallies {
                if tally.unsent() > 0 {
                    return Err(Wrong::Shortage(summary(tally)));
                }
                let excused = if canary_fails { tally.of_release(Release::Canary).failures } else { 0 };
                if tally.total().failures > excused {
                    return Err(format!("requests were lost {kind}: {}", summary(tally)).into());
                }
            }
            told.push(format!("{total} {kind}"));
        }
        if moved == 0 {
            return Err("no kept connection was on a pod that ended".to_owned().into());
        }
        Ok(format!("{}, {moved} times to another pod; not one was lost", told.join(" and ")))
    }
}

async fn on_new_connections(
    target: Target,
    mut done: watch::Receiver<bool>,
    mut until_answered: Option<mpsc::Sender<()>>,
) -> ClientTally {
    let mut tally = Tally::new(Instant::now());
    let pace = Pace { rate: f64::from(RATE), limits: Limits::timeout(TIMEOUT), time: None, count: None };
    let mut probe = Probe::start(Service::plain(target), pace);
    loop {
        tokio::select! {
            Some(observation) = probe.next() => {
                tally.observe(&observation);
                until_answered.take();
            }
            _ = done.wait_for(|done| *done) => break,
        }
    }
    // open requests still run to their end
    probe.stop();
    while let Some(observation) = probe.next().await {
        tally.observe(&observation);
    }
    ClientTally::OnNewConnections(tally)
}

async fn on_a_kept_one(
    target: Target,
    later: Duration,
    done: watch::Receiver<bool>,
    mut until_answered: Option<mpsc::Sender<()>>,
) -> ClientTally {
    let mut tally = Tally::new(Instant::now());
    let mut client = Client::keeping(Arc::new(Service::plain(target)));
    let mut ticks = interval_at(tokio::time::Instant::now() + later, Duration::from_secs(1) * KEPT / RATE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !*done.borrow() {
        ticks.tick().await;
        tally.observe(&client.observe(0, Limits::timeout(TIMEOUT)).await);
        until_answered.take();
    }
    ClientTally::OnAKeptOne { tally, connections: client.connections() }
}

/// The results in words.
pub(super) fn summary(tally: &Tally) -> String {
    let mut parts = Vec::new();
    for (attribution, counts) in tally.counts() {
        for (count, what) in [(counts.successes(), "good"), (counts.failures, "failed")] {
            if count > 0 && *attribution != Attribution::NoAnswer {
                parts.push(format!("{count} {what} from {attribution}"));
            }
        }
    }
    parts.push(format!("{} without an answer", tally.unanswered()));
    if let Some(shortage) = tally.last_shortage() {
        parts.push(format!("{} more could not be sent ({shortage})", tally.unsent()));
    }
    if let Some(trouble) = tally.last_trouble() {
        parts.push(format!("the last because: {trouble}"));
    }
    format!("{} requests: {}", tally.total().requests, parts.join(", "))
}
