//! The signals that end a program in good order.

use std::{future::poll_fn, io, task::Poll};

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Signals that the program wants to hear of, each with what it means there. While the program runs, they do
/// nothing else from then on: not even for PID 1, whom the kernel spares only signals without a handler.
#[derive(Debug)]
pub struct Signals<T>(Vec<(Signal, T)>);

impl<T: Copy> Signals<T> {
    /// Begins to listen for these. To be called within a tokio runtime.
    ///
    /// # Errors
    /// If the system allows no handler for one of them.
    pub fn new(wanted: impl IntoIterator<Item = (SignalKind, T)>) -> io::Result<Self> {
        wanted
            .into_iter()
            .map(|(kind, meaning)| Ok((signal(kind)?, meaning)))
            .collect::<io::Result<_>>()
            .map(Self)
    }

    /// Waits for the next one, and tells what it means. Cancel-safe: no signal is lost with the future.
    pub async fn next(&mut self) -> T {
        poll_fn(|cx| {
            for (signal, meaning) in &mut self.0 {
                if signal.poll_recv(cx).is_ready() {
                    return Poll::Ready(*meaning);
                }
            }
            Poll::Pending
        })
        .await
    }
}
