//! The signals that end the program in good order.

use std::{future::poll_fn, io, task::Poll};

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::exit::Exit;

/// SIGINT, SIGTERM, SIGHUP and SIGQUIT. Once this exists, they do nothing else.
pub struct Signals(Vec<(u8, Signal)>);

/// The number of SIGINT: Ctrl-C.
const INTERRUPT: u8 = 2;

impl Signals {
    /// Begins to listen for them. To be called within a tokio runtime.
    ///
    /// # Errors
    /// If the system allows no handler.
    pub fn new() -> io::Result<Self> {
        let kinds = [
            (INTERRUPT, SignalKind::interrupt()),
            (15, SignalKind::terminate()),
            (1, SignalKind::hangup()),
            (3, SignalKind::quit()),
        ];
        kinds
            .into_iter()
            .map(|(number, kind)| Ok((number, signal(kind)?)))
            .collect::<io::Result<_>>()
            .map(Self)
    }

    /// Waits for the next one. Losing the future loses no signal.
    pub async fn next(&mut self) -> Exit {
        poll_fn(|cx| {
            for (number, signal) in &mut self.0 {
                if signal.poll_recv(cx).is_ready() {
                    return Poll::Ready(Exit::Signal(*number));
                }
            }
            Poll::Pending
        })
        .await
    }
}

/// How something ends that runs until it is told to: Ctrl-C is the way to tell it.
pub fn ended_by(signal: Exit) -> Exit {
    if signal == Exit::Signal(INTERRUPT) { Exit::Done } else { signal }
}
