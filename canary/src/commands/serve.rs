//! `canary serve`: keeps watching one service, and serves the verdict on its canary.

use std::{io, time::Instant};

use appinfo::{
    config::Listen,
    server::{self, Shutdown},
};
use tokio::{net::TcpListener, select, sync::oneshot};

use super::{cannot_listen, unusable};
use crate::{
    cli::ServeFlags,
    exit::Exit,
    messages::message,
    serve::{Access, LONGEST_RECORD, Record, Serve, Token},
    signals,
    source::{Source, probe::Probe},
    trial::Trial,
};

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
    let now = Instant::now();
    if flags.prometheus.is_used() {
        let title = flags.prometheus.title();
        return match flags.prometheus.start(&flags.probe.service.trust(), None) {
            Ok(source) => follow(flags, access, &title, &title, source, flags.trial.of_counters(now)).await,
            Err(error) => Ok(unusable(error)),
        };
    }
    let service = match flags.probe.service() {
        Ok(service) => service,
        Err(error) => return Ok(unusable(error)),
    };
    let trial = flags.trial.of_sample(flags.probe.rate, now)?;
    let probe = Probe::paused(service, flags.probe.pace(None, flags.trial.max_latency));
    let title = flags.probe.target.to_string();
    let how = format!("{title} {} times a second", flags.probe.rate);
    follow(flags, access, &title, &how, probe, trial).await
}

/// Serves the verdict on the outcomes of the source. `how` describes the source in messages.
async fn follow(
    flags: &ServeFlags,
    access: Access,
    title: &str,
    how: &str,
    source: impl Source,
    trial: Trial,
) -> io::Result<Exit> {
    let mut signals = signals::listen()?;
    let listener = listen("--listen ", flags.listen)?;
    let admin = flags.admin_listen.map(|on| listen("--admin-listen ", on)).transpose()?;
    let address = listener.local_addr()?;
    let record = flags.record.as_deref().map(|path| Record::new(path, LONGEST_RECORD, &trial));
    let record = record.transpose()?;
    source.pause(false);
    message(format_args!("serving on http://{address}, asking {how}"));
    if let Some(admin) = &admin {
        message(format_args!("probes on http://{}", admin.local_addr()?));
    }
    let (ask_to_end, asked_to_end) = oneshot::channel();
    let end = async { asked_to_end.await.unwrap_or(Shutdown::Now) };
    let serve = Serve::new(title.to_owned(), None, trial, access)?;
    let serving = serve.run(source, record, listener, admin, end);
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
