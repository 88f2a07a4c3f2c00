//! `canary rehearse`: the walkthrough on this machine, in the terminal, in the browser, or unattended.

pub mod flags;

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use appinfo::{config::Listen, server};
use tokio::net::TcpListener;

use self::flags::RehearseFlags;
use super::cannot_listen;
use crate::{exit::Exit, rehearse, serve::Access, signals, view::terminal};

/// The Service's address without `--listen`, unless the port is taken.
const USUAL: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);

/// The greatest seed that is drawn. A person types it to play a mystery again.
const MOST_DRAWN: u32 = 9999;

/// Runs until a key or signal ends it, or after the last step with `--script`.
///
/// # Errors
/// If the terminal, the output, a port or a file fails.
pub async fn run(flags: &RehearseFlags) -> io::Result<Exit> {
    let signals = signals::listen()?;
    let listener = listen(flags.listen).await?;
    if flags.script {
        return rehearse::unattended(listener, signals, flags.faults()).await;
    }
    if let Some(page) = flags.page {
        let page = server::bind(page).map_err(cannot_listen("--page=", page))?;
        let phones =
            flags.vote.map(|vote| server::bind(vote).map_err(cannot_listen("--vote=", vote))).transpose()?;
        let access = Access { hosts: flags.allow_host.clone(), ..Access::default() };
        let mystery = flags.mystery.map(|seed| seed.unwrap_or_else(|| fastrand::u32(1..=MOST_DRAWN)));
        let (rate, faults) = (flags.rate, flags.faults());
        let page = rehearse::page(listener, (page, phones), access, signals, rate, faults, mystery);
        return Box::pin(page).await; // it is large
    }
    if let Some(why) = terminal::unfit() {
        return Err(io::Error::other(format!(
            "rehearse needs a terminal ({why}); with --page or --script it goes without"
        )));
    }
    rehearse::interactive(listener, signals, flags.rate, flags.faults()).await
}

async fn listen(wanted: Option<SocketAddr>) -> io::Result<TcpListener> {
    match wanted {
        Some(address) => {
            TcpListener::bind(address).await.map_err(cannot_listen("--listen ", Listen::At(address)))
        }
        None => match TcpListener::bind(USUAL).await {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                let free = SocketAddr::new(USUAL.ip(), 0);
                TcpListener::bind(free).await.map_err(cannot_listen("--listen ", Listen::At(free)))
            }
            other => other.map_err(cannot_listen("--listen ", Listen::At(USUAL))),
        },
    }
}
