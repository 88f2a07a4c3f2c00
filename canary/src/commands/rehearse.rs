//! `canary rehearse`: the walkthrough on this machine, with a person at the keys or unattended.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use tokio::net::TcpListener;

use crate::{cli::RehearseFlags, exit::Exit, rehearse, signals, view::terminal};

/// Where the Service is served without `--listen`, unless the port is taken.
const USUAL: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);

/// Runs it until it is told to end, or all steps have been shown.
///
/// # Errors
/// If the terminal, the output, a port or a file fails.
pub async fn run(flags: &RehearseFlags) -> io::Result<Exit> {
    let signals = signals::listen()?;
    let listener = listen(flags.listen).await?;
    if flags.script {
        return rehearse::unattended(listener, signals, flags.faults()).await;
    }
    if let Some(why) = terminal::unfit() {
        return Err(io::Error::other(format!(
            "rehearse needs a terminal ({why}); with --script it goes without"
        )));
    }
    rehearse::interactive(listener, signals, flags.rate, flags.faults()).await
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
