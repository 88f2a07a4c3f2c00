//! `canary rehearse`: the whole story on one machine. Pods are real appinfo servers in this process, behind
//! one port that spreads connections as the Service would.

mod clients;
mod cluster;
mod measure;
mod pod;
mod script;
mod service;
mod stage;
mod story;
mod volume;

use std::{io, net::SocketAddr};

use tokio::{net::TcpListener, sync::mpsc};

use self::cluster::Cluster;
use crate::{config::Rehearse, exit::Exit, signals::Signals};

/// Where the Service is served if nobody says where, and nothing else is there.
const USUAL: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8080);

/// What is not here and is on a cluster.
const LEFT_OUT: &str = "\
    No cluster: real appinfo servers in this process, behind one port that gives each connection to a random \
    ready pod, as kube-proxy does. Left out: the kubelet (labels arrive at once, a container starts in a \
    second), the scheduler, endpoint propagation (a pod that ends gets no new connection from that moment on, \
    and drains for 2 s, not 5).";

/// Runs it until it is told to end, or the script is over.
///
/// # Errors
/// If the terminal, the output, a port or a file fails.
pub async fn run(rehearse: &Rehearse) -> io::Result<Exit> {
    let mut signals = Signals::new()?;
    let (notes, heard) = mpsc::unbounded_channel();
    let cluster = Cluster::new(listen(rehearse.listen).await?, notes)?;
    if rehearse.script {
        script::run(cluster, heard, &mut signals).await
    } else {
        stage::run(cluster, heard, &mut signals, rehearse.rate).await
    }
}

async fn listen(wanted: Option<SocketAddr>) -> io::Result<TcpListener> {
    let named = |address: SocketAddr| {
        move |error: io::Error| io::Error::new(error.kind(), format!("cannot listen on {address}: {error}"))
    };
    match wanted {
        Some(address) => TcpListener::bind(address).await.map_err(named(address)),
        None => match TcpListener::bind(USUAL).await {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                let free = SocketAddr::new(USUAL.ip(), 0);
                TcpListener::bind(free).await.map_err(named(free))
            }
            other => other.map_err(named(USUAL)),
        },
    }
}
