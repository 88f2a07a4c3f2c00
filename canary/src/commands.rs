//! The commands: from flags to an exit code.

pub mod judge;
pub mod rehearse;
pub mod serve;
pub mod watch;

use std::{io, net::SocketAddr};

use appinfo::config::Listen;

use crate::{
    exit::Exit,
    messages::message,
    source::shortage::shortage_in,
    trial::{RecordError, tally::Tally},
};

/// Reports a mistake in the command line, or a shortage of this machine that has the same effect.
fn unusable(error: String) -> Exit {
    if let Some(shortage) = shortage_in(&error) {
        message(shortage);
        return Exit::Failed;
    }
    message(error);
    Exit::Usage
}

/// The exit code without an answer: maybe this machine could not send a request.
fn without_answer(tally: &Tally) -> Exit {
    if tally.none_sent().and_then(shortage_in).is_some() { Exit::Failed } else { Exit::NoAnswer }
}

/// Reports why there is no record.
fn no_record(error: &RecordError) -> Exit {
    let text = error.to_string();
    message(shortage_in(&text).unwrap_or(text));
    match error {
        RecordError::NotARecord(_) | RecordError::InUse(_) => Exit::Usage,
        RecordError::Unwritable { .. } => Exit::Failed,
    }
}

/// Adds the address to an error of listening. If the port is in use, names the flag that sets another.
fn cannot_listen(flag: &str, on: Listen) -> impl FnOnce(io::Error) -> io::Error {
    move |error| {
        let other = match on {
            Listen::Everywhere { .. } => ":PORT".to_owned(),
            Listen::At(SocketAddr::V4(address)) => format!("{}:PORT", address.ip()),
            Listen::At(SocketAddr::V6(address)) => format!("[{}]:PORT", address.ip()),
        };
        let in_use = error.kind() == io::ErrorKind::AddrInUse;
        let hint = if in_use { format!("; {flag}{other} sets another port") } else { String::new() };
        io::Error::new(error.kind(), format!("cannot listen on {on}: {error}{hint}"))
    }
}
