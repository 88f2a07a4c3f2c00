//! The signals that end the walkthrough before its last section.

use std::{io, process, thread};

use appinfo::signals::Signals;
use tokio::{runtime::Builder, signal::unix::SignalKind};

/// Calls `end` at the first SIGINT, SIGTERM or SIGHUP, with the exit code by which a shell reports this signal. A
/// second signal ends the process at once.
pub(crate) fn on_signal(end: impl FnOnce(u8) + Send + 'static) -> io::Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let mut signals = {
        let _within = runtime.enter();
        Signals::new([
            (SignalKind::interrupt(), 130),
            (SignalKind::terminate(), 143),
            (SignalKind::hangup(), 129),
        ])?
    };
    thread::spawn(move || {
        end(runtime.block_on(signals.next()));
        process::exit(runtime.block_on(signals.next()).into());
    });
    Ok(())
}
