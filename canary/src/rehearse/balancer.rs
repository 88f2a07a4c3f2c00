//! The Service: one port in front of the ready pods. Each connection goes to a random pod and stays there, as
//! with kube-proxy.

use std::{
    io,
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

/// The pause after a failed accept: the next one would probably fail, too.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The last shortage of this machine that the balancer met, in words.
type Shortage = Arc<Mutex<Option<String>>>;

/// A served port. Dropping it closes the port; open connections go on.
pub(super) struct Balancer {
    pub(super) address: SocketAddr,
    endpoints: Arc<Mutex<Vec<SocketAddr>>>,
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
    pub(super) fn add(&self, pod: SocketAddr) {
        self.with(|endpoints| endpoints.push(pod));
    }

    /// Removes a pod: it gets no new connections from now on.
    pub(super) fn remove(&self, pod: SocketAddr) {
        self.with(|endpoints| endpoints.retain(|endpoint| *endpoint != pod));
    }

    /// The last shortage of this machine that it met. Connections may have been lost by it.
    pub(super) fn shortage(&self) -> Option<String> {
        self.shortage.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn with(&self, change: impl FnOnce(&mut Vec<SocketAddr>)) {
        change(&mut self.endpoints.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, endpoints: Arc<Mutex<Vec<SocketAddr>>>, shortage: Shortage) {
    loop {
        match listener.accept().await {
            Ok((client, _)) => {
                let chosen = {
                    let endpoints = endpoints.lock().unwrap_or_else(PoisonError::into_inner);
                    fastrand::choice(endpoints.iter()).copied()
                };
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
