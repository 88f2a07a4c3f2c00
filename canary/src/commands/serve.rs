//! `canary serve`: keeps watching one service, and serves the verdict on its canary.

pub mod flags;

use std::{io, time::Instant};

use appinfo::{
    config::Listen,
    server::{self, Shutdown},
};
use tokio::{net::TcpListener, select, sync::oneshot};

use self::flags::ServeFlags;
use super::{cannot_listen, no_record, unusable};
use crate::{
    exit::Exit,
    messages::{elsewhere, message, usable},
    serve::{Access, Ports, Serve, StateFile, Terms, Token},
    signals,
    source::{Source, opened::Opened},
    trial::Record,
};

/// The maximum size of a record: a million requests or so.
const LONGEST_RECORD: u64 = 256 << 20;

/// Runs until a signal ends it.
///
/// # Errors
/// If the port cannot be used.
pub async fn run(flags: &ServeFlags) -> io::Result<Exit> {
    let token = match flags.token_file.as_deref().map(Token::read).transpose() {
        Ok(token) => token,
        Err(error) => return Ok(unusable(error)),
    };
    let access = Access { hosts: flags.allow_host.clone(), reset: flags.allow_reset, token };
    let Opened { source, title, place, how, rate, share, .. } = match flags.source.open(flags.bounds()).await
    {
        Ok(opened) => opened,
        Err(error) => return Ok(unusable(error)),
    };
    let trial = flags.trial.of(rate, Instant::now())?.with_given_share(share);
    let mut signals = signals::listen()?;
    let listener = listen("--listen ", flags.listen)?;
    let admin = flags.admin_listen.map(|on| listen("--admin-listen ", on)).transpose()?;
    let address = listener.local_addr()?;
    let record = flags.record.as_deref().map(|path| Record::new(path, LONGEST_RECORD, &trial));
    let record = match record.transpose() {
        Ok(record) => record,
        Err(error) => return Ok(no_record(&error)),
    };
    let of = Terms {
        exact: format!("{title}; {place}{}; {}", flags.source.terms(), trial.terms()),
        shown: [("the service", format!("{title}{}{place}", if place.is_empty() { "" } else { " " }))]
            .into_iter()
            .chain(flags.source.shown_terms())
            .chain(trial.shown_terms())
            .map(|(name, value)| (name.into(), value))
            .collect(),
    };
    let state = match flags.state.as_deref().map(|path| StateFile::new(path, of)).transpose() {
        Ok(state) => state,
        Err(error) => return Ok(unusable(error.to_string())),
    };
    let serve = Serve::new(title, None, trial.clone(), access)?;
    if let Some(state) = &state
        && let Err(error) = serve.restore(state)
    {
        return Ok(unusable(error.to_string()));
    }
    source.pause(false);
    message(format_args!("serving on http://{}, asking {how}{}", usable(address), elsewhere(address)));
    if let Some(rate) = rate {
        message(trial.outlook(rate, None));
    }
    if let Some(admin) = &admin {
        message(format_args!("probes on http://{}", usable(admin.local_addr()?)));
    }
    let (ask_to_end, asked_to_end) = oneshot::channel();
    let end = async { asked_to_end.await.unwrap_or(Shutdown::Now) };
    let ports = Ports { public: listener, admin, phones: None };
    let serving = serve.run(source, record, state, ports, end);
    tokio::pin!(serving);
    select! {
        () = &mut serving => return Ok(Exit::Done),
        signal = signals.next() => {
            let _ = ask_to_end.send(shutdown_after(signal));
        }
    }
    select! {
        () = serving => Ok(Exit::Done),
        signal = signals.next() => Ok(signal),
    }
}

fn listen(flag: &str, on: Listen) -> io::Result<TcpListener> {
    server::bind(on).map_err(cannot_listen(flag, on))
}

/// As in appinfo: after SIGTERM, clients in the cluster still send requests for a while.
fn shutdown_after(signal: Exit) -> Shutdown {
    if signal == signals::TERMINATED { Shutdown::Drain } else { Shutdown::Now }
}
