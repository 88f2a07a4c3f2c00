//! The signals that end the program in good order.

use std::io;

use tokio::signal::unix::SignalKind;

use crate::exit::Exit;

/// The signals that end the program, each as the [`Exit`] it leads to.
pub type Signals = appinfo::signals::Signals<Exit>;

/// The number of SIGINT: Ctrl-C.
const INTERRUPT: u8 = 2;

/// Begins to listen for SIGINT, SIGTERM, SIGHUP and SIGQUIT. To be called within a tokio runtime.
///
/// # Errors
/// If the system allows no handler.
pub fn listen() -> io::Result<Signals> {
    Signals::new([
        (SignalKind::interrupt(), Exit::Signal(INTERRUPT)),
        (SignalKind::terminate(), Exit::Signal(15)),
        (SignalKind::hangup(), Exit::Signal(1)),
        (SignalKind::quit(), Exit::Signal(3)),
    ])
}

/// How something ends that runs until it is told to: Ctrl-C is the way to tell it.
pub fn ended_by(signal: Exit) -> Exit {
    if signal == Exit::Signal(INTERRUPT) { Exit::Done } else { signal }
}
