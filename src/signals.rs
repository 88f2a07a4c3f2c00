//! Signals that shut a program down.

use std::{fs, future::poll_fn, io, task::Poll};

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Signals that the program handles instead of the kernel's default action, each with its meaning for the program.
/// This also works for PID 1, to which the kernel does not deliver signals without a handler.
#[derive(Debug)]
pub struct Signals<T>(Vec<(Signal, T)>);

impl<T: Copy> Signals<T> {
    /// Installs handlers for these signals, except for those that the process was started to ignore: `nohup`, for
    /// example, makes a program ignore SIGHUP so that it keeps running. Ignored signals are known on Linux only;
    /// other systems get a handler for every signal. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// If the system does not allow a handler for one of them.
    pub fn new(wanted: impl IntoIterator<Item = (SignalKind, T)>) -> io::Result<Self> {
        let ignored = ignored();
        wanted
            .into_iter()
            .filter(|(kind, _)| ignored >> (kind.as_raw_value() - 1) & 1 == 0)
            .map(|(kind, meaning)| Ok((signal(kind)?, meaning)))
            .collect::<io::Result<_>>()
            .map(Self)
    }

    /// Waits for the next signal and returns its meaning. Cancel-safe: dropping the future loses no signal.
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

/// The signals that this process ignores, as a bit mask: bit 0 is signal 1 (`SigIgn` of `proc(5)`).
fn ignored() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}
