//! Requests of our own. Each has a connection of its own, because a Service spreads connections, not requests.
//! What comes of them is a stream of [`Observation`]s, numbered in the order of sending.

mod addresses;
mod client;
mod pace;
mod service;
mod target;
mod tls;

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};

pub(crate) use self::client::Client;
use self::pace::{Orders, Turns};
pub use self::{
    addresses::Resolve,
    pace::{Limits, Pace},
    service::{Naming, Options, Service},
    target::Target,
    tls::Trust,
};
use super::{Observation, Seen, Source};

/// Requests under way. Dropping it ends them.
#[derive(Debug)]
pub struct Probe {
    observations: mpsc::Receiver<Observation>,
    orders: watch::Sender<Orders>,
}

impl Probe {
    /// Begins to ask. To be called within a tokio runtime.
    pub fn start(service: Service, pace: Pace) -> Self {
        let new = Self::paused(service, pace);
        new.pause(false);
        new
    }

    /// The same, but nothing is asked before [`Probe::pause`] says so.
    pub fn paused(service: Service, pace: Pace) -> Self {
        let (sender, observations) = mpsc::channel(1024);
        let orders = watch::Sender::new(Orders::Pause);
        tokio::spawn(send_requests(Arc::new(service), pace, sender, orders.subscribe()));
        Self { observations, orders }
    }

    /// What came of the next request to end; none once all have ended and the pace allows no more. Cancel-safe.
    pub async fn next(&mut self) -> Option<Observation> {
        self.observations.recv().await
    }

    /// Sends no request until told otherwise.
    pub fn pause(&self, paused: bool) {
        self.orders.send_replace(if paused { Orders::Pause } else { Orders::Send });
    }

    /// Sends no request any more; those under way are still seen to their end.
    pub(crate) fn stop(&self) {
        self.orders.send_replace(Orders::Stop);
    }
}

impl Source for Probe {
    async fn next(&mut self) -> Option<Seen> {
        self.observations.recv().await.map(Seen::Request)
    }
}

/// Sends requests until the pace, an order or the receiver ends it.
async fn send_requests(
    service: Arc<Service>,
    pace: Pace,
    observations: mpsc::Sender<Observation>,
    mut orders: watch::Receiver<Orders>,
) {
    let mut turns = Turns::new(pace, orders.clone());
    let end = turns.end();
    let requests = async {
        for number in 0..pace.count.unwrap_or(u64::MAX) {
            let Some(turn) = turns.next().await else { return };
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
