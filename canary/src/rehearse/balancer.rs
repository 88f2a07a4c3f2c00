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

/// The pause after a failed accept: the next one would probably fail, too.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A served port. Dropping it closes the port; open connections go on.
pub(super) struct Balancer {
    pub(super) address: SocketAddr,
    endpoints: Arc<Mutex<Vec<SocketAddr>>>,
    accepting: JoinHandle<()>,
}

impl Balancer {
    pub(super) fn new(listener: TcpListener) -> io::Result<Self> {
        let endpoints = Arc::default();
        let address = listener.local_addr()?;
        let accepting = tokio::spawn(accept(listener, Arc::clone(&endpoints)));
        Ok(Self { address, endpoints, accepting })
    }

    /// Adds a pod: it gets new connections from now on.
    pub(super) fn add(&self, pod: SocketAddr) {
        self.with(|endpoints| endpoints.push(pod));
    }

    /// Removes a pod: it gets no new connections from now on.
    pub(super) fn remove(&self, pod: SocketAddr) {
        self.with(|endpoints| endpoints.retain(|endpoint| *endpoint != pod));
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

async fn accept(listener: TcpListener, endpoints: Arc<Mutex<Vec<SocketAddr>>>) {
    loop {
        match listener.accept().await {
            Ok((client, _)) => {
                let chosen = {
                    let endpoints = endpoints.lock().unwrap_or_else(PoisonError::into_inner);
                    fastrand::choice(endpoints.iter()).copied()
                };
                // without a ready pod, the connection is closed
                if let Some(pod) = chosen {
                    tokio::spawn(forward(client, pod));
                }
            }
            Err(_) => sleep(ACCEPT_PAUSE).await, // the client sees it, and the picture tells
        }
    }
}

/// Copies bytes in both directions until both sides have ended. If one side breaks off, the other is closed.
async fn forward(mut client: TcpStream, pod: SocketAddr) {
    let Ok(mut pod) = TcpStream::connect(pod).await else { return };
    let _ = (client.set_nodelay(true), pod.set_nodelay(true)); // only speed is lost without
    let _ = copy_bidirectional(&mut client, &mut pod).await; // both streams end here, whatever came of it
}
