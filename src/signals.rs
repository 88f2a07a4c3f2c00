//! The signals that end a program in good order.

use std::{fs, future::poll_fn, io, task::Poll};

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Signals that the program wants to hear of, each with what it means there. While the program runs, they do
/// nothing else from then on: not even for PID 1, whom the kernel spares only signals without a handler.
#[derive(Debug)]
pub struct Signals<T>(Vec<(Signal, T)>);

impl<T: Copy> Signals<T> {
    /// Begins to listen for these, but for those that are ignored: who starts a program so, as `nohup` does with SIGHUP,
    /// wants it to go on. Only Linux tells which they are; elsewhere all are listened for. To be called within a tokio
    /// runtime.
    ///
    /// # Errors
    /// If the system allows no handler for one of them.
    pub fn new(wanted: impl IntoIterator<Item = (SignalKind, T)>) -> io::Result<Self> {
        let ignored = ignored();
        wanted
            .into_iter()
            .filter(|(kind, _)| ignored >> (kind.as_raw_value() - 1) & 1 == 0)
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

/// The signals that this process ignores, a bit for each, that of signal 1 the lowest: `SigIgn` of proc(5).
fn ignored() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}
