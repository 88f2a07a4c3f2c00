//! Sends requests, each on its own connection: a Kubernetes Service balances connections, not requests. The
//! results are a stream of [`Observation`]s, numbered in the order of sending.

pub(super) mod addresses;
mod client;
mod first_answers;
mod flags;
mod naming;
mod pace;
mod sample;
mod service;
mod target;
pub(super) mod tls;

use std::{mem, sync::Arc};

use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};

#[doc(hidden)]
pub use self::client::answer;
use self::first_answers::FirstAnswers;
pub use self::{
    addresses::Resolve,
    flags::{ProbeFlags, ServiceFlags},
    naming::{Body, BodyPattern, NameFrom, NamePattern, Naming, ReleaseFrom},
    pace::{Limits, Pace},
    service::{Options, Service},
    target::Target,
    tls::Trust,
};
pub(crate) use self::{client::Client, flags::rate};
pub(super) use self::{
    client::{FAR, Kept, read_body},
    first_answers::{EXAMINED, all_have},
    flags::PATIENCE,
    pace::{Orders, Turns},
};
use super::{FailingAnswer, Observation, Seen, Source};

/// A sender of requests. Dropping it cancels all open requests.
#[derive(Debug)]
pub struct Probe {
    observations: mpsc::Receiver<Observation>,
    orders: watch::Sender<Orders>,
    /// Requests a second.
    rate: watch::Sender<f64>,
    first_answers: FirstAnswers,
    service: Arc<Service>,
    /// The mistake in the flags that the first answers show, until it is told.
    mistake: Option<String>,
}

impl Probe {
    /// Starts to send requests. Call this within a tokio runtime.
    pub fn start(service: Service, pace: Pace) -> Self {
        let new = Self::paused(service, pace);
        new.pause(false);
        new
    }

    /// The same, but sends no request before [`Source::pause`] resumes it.
    pub fn paused(service: Service, pace: Pace) -> Self {
        let (sender, observations) = mpsc::channel(1024);
        let orders = watch::Sender::new(Orders::Pause);
        let rate = watch::Sender::new(pace.rate);
        let service = Arc::new(service);
        let first_answers = FirstAnswers::of(&service);
        let told = (orders.subscribe(), rate.subscribe());
        tokio::spawn(send_requests(Arc::clone(&service), pace, sender, told));
        Self { observations, orders, rate, first_answers, service, mistake: None }
    }

    /// The result of the next request to end; `None` after all requests have ended and the pace allows no more.
    /// Cancel-safe.
    pub async fn next(&mut self) -> Option<Observation> {
        self.observations.recv().await
    }

    /// Sends this many requests a second from now on.
    pub(crate) fn set_rate(&self, rate: f64) {
        self.rate.send_if_modified(|now| mem::replace(now, rate).total_cmp(&rate).is_ne());
    }

    /// Stops sending. Open requests still run to their end.
    pub(crate) fn stop(&self) {
        self.orders.send_replace(Orders::Stop);
    }
}

impl Source for Probe {
    async fn next(&mut self) -> Option<Seen> {
        if let Some(mistake) = self.mistake.take() {
            return Some(Seen::Trouble(mistake));
        }
        let observation = self.observations.recv().await?;
        self.mistake = self.first_answers.examine(&observation);
        Some(Seen::Request(observation))
    }

    fn pause(&self, paused: bool) {
        self.orders.send_replace(if paused { Orders::Pause } else { Orders::Send });
    }

    fn last_failure(&self) -> Option<FailingAnswer> {
        self.service.failures.get()
    }

    fn hint(&self) -> Option<String> {
        self.first_answers.hint()
    }
}

/// Sends requests until the pace is used up, an order stops it, or the receiver is gone.
async fn send_requests(
    service: Arc<Service>,
    pace: Pace,
    observations: mpsc::Sender<Observation>,
    (mut orders, mut rate): (watch::Receiver<Orders>, watch::Receiver<f64>),
) {
    let mut turns = Turns::new(pace, orders.clone());
    let end = turns.end();
    let requests = async {
        for number in 0..pace.count.unwrap_or(u64::MAX) {
            let turn = loop {
                tokio::select! {
                    turn = turns.next() => break turn,
                    Ok(()) = rate.changed() => turns.set_rate(*rate.borrow_and_update()),
                }
            };
            let Some(turn) = turn else { return };
            let client = Client::new(Arc::clone(&service));
            let observations = observations.clone();
            tokio::spawn(send_request(client, number, pace.limits, observations, turn));
        }
    };
    tokio::select! {
        () = requests => {}
        () = end => {}
        _ = orders.wait_for(|orders| *orders == Orders::Stop) => {}
        () = observations.closed() => {}
    }
}

async fn send_request(
    mut client: Client,
    number: u64,
    limits: Limits,
    observations: mpsc::Sender<Observation>,
    _under_way: OwnedSemaphorePermit,
) {
    tokio::select! {
        observation = client.observe(number, limits) => {
            let _ = observations.send(observation).await; // the receiver may be gone
        }
        () = observations.closed() => {}
    }
}
