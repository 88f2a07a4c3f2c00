//! The Service: one port in front of the ready pods. Each connection goes to a random pod and stays there, as
//! with kube-proxy. With a weight, it first chooses a release, as a gateway does.

use std::{
    io, mem,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::sleep,
};

use crate::{messages::usable, source::shortage};
use canary_judge::Release;

/// The pause after a failed accept: the next one would probably fail, too.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The last shortage of this machine that the balancer met, in words.
type Shortage = Arc<Mutex<Option<String>>>;

/// The ready pods, and how one of them is chosen.
#[derive(Debug, Default)]
struct Endpoints {
    pods: Vec<(SocketAddr, Release)>,
    /// The canary's share of new connections, from 0 to 1; `None` if each pod gets as many.
    canary_share: Option<f64>,
}

impl Endpoints {
    /// The pod for the next connection; `None` if the chosen release has none.
    fn choose(&self) -> Option<SocketAddr> {
        let release = |share| if fastrand::f64() < share { Release::Canary } else { Release::Stable };
        let release = self.canary_share.map(release);
        let is_chosen = |(_, of): &&(SocketAddr, Release)| release.is_none_or(|release| release == *of);
        let of_release: Vec<_> = self.pods.iter().filter(is_chosen).collect();
        fastrand::choice(of_release).map(|(pod, _)| *pod)
    }
}

/// A served port. Dropping it closes the port; open connections go on.
pub(super) struct Balancer {
    pub(super) address: SocketAddr,
    endpoints: Arc<Mutex<Endpoints>>,
    shortage: Shortage,
    accepting: JoinHandle<()>,
}

impl Balancer {
    pub(super) fn new(listener: TcpListener) -> io::Result<Self> {
        let (endpoints, shortage) = (Arc::default(), Shortage::default());
        let address = usable(listener.local_addr()?);
        let accepting = tokio::spawn(accept(listener, Arc::clone(&endpoints), Arc::clone(&shortage)));
        Ok(Self { address, endpoints, shortage, accepting })
    }

    /// Adds a pod: it gets new connections from now on.
    pub(super) fn add(&self, pod: SocketAddr, release: Release) {
        self.with(|endpoints| endpoints.pods.push((pod, release)));
    }

    /// Removes a pod: it gets no new connections from now on.
    pub(super) fn remove(&self, pod: SocketAddr) {
        self.with(|endpoints| endpoints.pods.retain(|endpoint| endpoint.0 != pod));
    }

    /// Sets the canary's share of new connections, from 0 to 1. Without one, each pod gets as many. Returns the share
    /// before.
    pub(super) fn set_canary_share(&self, share: Option<f64>) -> Option<f64> {
        self.with(|endpoints| mem::replace(&mut endpoints.canary_share, share))
    }

    /// The last shortage of this machine that it met. Connections may have been lost by it.
    pub(super) fn shortage(&self) -> Option<String> {
        self.shortage.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn with<T>(&self, change: impl FnOnce(&mut Endpoints) -> T) -> T {
        change(&mut self.endpoints.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, endpoints: Arc<Mutex<Endpoints>>, shortage: Shortage) {
    loop {
        match listener.accept().await {
            Ok((client, _)) => {
                let chosen = endpoints.lock().unwrap_or_else(PoisonError::into_inner).choose();
                // without a ready pod, the connection is closed
                if let Some(pod) = chosen {
                    tokio::spawn(forward(client, pod, Arc::clone(&shortage)));
                }
            }
            Err(error) => {
                note(&shortage, &error);
                sleep(ACCEPT_PAUSE).await; // the client sees it, and the picture tells
            }
        }
    }
}

/// Copies bytes in both directions until both sides have ended. If one side breaks off, the other is closed.
async fn forward(mut client: TcpStream, pod: SocketAddr, shortage: Shortage) {
    let mut pod = match TcpStream::connect(pod).await {
        Ok(pod) => pod,
        Err(error) => return note(&shortage, &error),
    };
    let _ = (client.set_nodelay(true), pod.set_nodelay(true)); // only speed is lost without
    let _ = copy_bidirectional(&mut client, &mut pod).await; // both streams end here, whatever came of it
}

/// Remembers the shortage, if it is the cause of the error.
fn note(noted: &Shortage, error: &io::Error) {
    if let Some(shortage) = shortage(error) {
        *noted.lock().unwrap_or_else(PoisonError::into_inner) = Some(shortage);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_is_chosen_by_its_weight_and_without_one_each_pod_gets_as_many() {
        const CONNECTIONS: u32 = 10_000;
        let pod = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let (canary, stable) = (pod(1), [pod(2), pod(3), pod(4)]);
        let pods = stable.map(|pod| (pod, Release::Stable)).into_iter().chain([(canary, Release::Canary)]);
        let mut endpoints = Endpoints { pods: pods.collect(), canary_share: None };
        for (share, expected) in
            [(None, 0.25), (Some(0.0), 0.0), (Some(0.01), 0.01), (Some(0.5), 0.5), (Some(1.0), 1.0)]
        {
            endpoints.canary_share = share;
            let chosen: Vec<_> = (0..CONNECTIONS).filter_map(|_| endpoints.choose()).collect();
            assert_eq!(chosen.len(), CONNECTIONS as usize, "{share:?}");
            for pod in stable.into_iter().chain([canary]) {
                let of_pod = chosen.iter().filter(|one| **one == pod).count() as f64;
                let expected = if pod == canary { expected } else { (1.0 - expected) / 3.0 };
                let mean = f64::from(CONNECTIONS) * expected;
                // six standard deviations
                let room = 6.0 * (mean * (1.0 - expected)).sqrt();
                assert!((of_pod - mean).abs() <= room, "{share:?}: {of_pod} connections to {pod}");
            }
        }
    }

    #[test]
    fn a_release_with_a_weight_and_without_a_ready_pod_gets_its_connections_and_answers_none() {
        let stable = SocketAddr::from(([127, 0, 0, 1], 2));
        let mut endpoints = Endpoints { pods: vec![(stable, Release::Stable)], canary_share: Some(1.0) };
        assert_eq!(endpoints.choose(), None);
        endpoints.canary_share = Some(0.0);
        assert_eq!(endpoints.choose(), Some(stable));
        assert_eq!(Endpoints::default().choose(), None);
    }
}
