//! What stands for the Service: one port in front of the ready pods. Each connection goes to a random one of
//! them and stays there, as kube-proxy has it.

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

/// How long to wait after a failed accept, which would most likely fail again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A port that is served. Dropping it closes the port; connections live on.
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

    /// From now on new connections may go to that pod.
    pub(super) fn add(&self, pod: SocketAddr) {
        self.with(|endpoints| endpoints.push(pod));
    }

    /// From now on no new connection goes to that pod.
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

/// Copies bytes both ways until both sides have ended, or one breaks off: then the other does.
async fn forward(mut client: TcpStream, pod: SocketAddr) {
    let Ok(mut pod) = TcpStream::connect(pod).await else { return };
    let _ = (client.set_nodelay(true), pod.set_nodelay(true)); // only speed is lost without
    let _ = copy_bidirectional(&mut client, &mut pod).await; // both streams end here, whatever came of it
}
