//! A queue of log lines and the thread that writes them, so that no request waits for the reader of the log.
//!
//! `tracing-appender` does the same, but it counts neither bytes nor lines that cannot be written, and it brings nine
//! more crates.

use std::{
    io::{self, Write},
    iter,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
        mpsc::{Receiver, Sender, channel},
    },
    thread,
    time::Duration,
};

use tracing::warn;
use tracing_subscriber::fmt::MakeWriter;

/// The maximum number of queued bytes, so that a stalled reader does not cost memory. Further lines are lost and
/// counted.
const CAPACITY: usize = 1 << 20;
/// The minimum time between two writes, so that one write takes many lines under load.
const WRITE_INTERVAL: Duration = Duration::from_millis(5);
/// How long the process waits at its end until the last lines are written.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);
/// A line that says that the process ends. All others are longer.
const END: Vec<u8> = Vec::new();

/// The sending side of the queue; each `write` is one line.
#[derive(Clone, Debug)]
pub(super) struct Lines {
    queue: Sender<Vec<u8>>,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    queued_bytes: AtomicUsize,
    lost_lines: AtomicU64,
}

/// Dropping it waits until all lines are written, for one second at most.
#[derive(Debug)]
pub struct Flush {
    lines: Lines,
    ended: Receiver<()>,
}

/// Starts the thread that writes to `out`.
pub(super) fn start(out: impl Write + Send + 'static) -> io::Result<(Lines, Flush)> {
    let ((queue, lines), (ends, ended), counts) = (channel(), channel(), Arc::<Counts>::default());
    let of_thread = Arc::clone(&counts);
    thread::Builder::new().name("log".to_owned()).spawn(move || {
        write_out(&lines, &of_thread, out);
        drop(ends);
    })?;
    let lines = Lines { queue, counts };
    Ok((lines.clone(), Flush { lines, ended }))
}

fn write_out(queue: &Receiver<Vec<u8>>, counts: &Counts, mut out: impl Write) {
    let (mut batch, mut ending) = (Vec::new(), false);
    while let Some(first) = if ending { queue.try_recv().ok() } else { queue.recv().ok() } {
        let mut lines = 0;
        for line in iter::once(first).chain(queue.try_iter()) {
            ending |= line == END;
            lines += u64::from(line != END);
            batch.extend_from_slice(&line);
        }
        let lost = counts.lost_lines.swap(0, Relaxed);
        if out.write_all(&batch).and_then(|()| out.flush()).is_err() {
            // an upper bound: some may have been written. It is logged once lines can be written again.
            counts.lost_lines.fetch_add(lost + lines, Relaxed);
        } else if lost > 0 {
            warn!(lost, "log lines lost: the queue was full, or they could not be written");
        }
        counts.queued_bytes.fetch_sub(batch.len(), Relaxed);
        batch.clear();
        if !ending {
            thread::sleep(WRITE_INTERVAL);
        }
    }
}

impl Write for &Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let Counts { queued_bytes, lost_lines } = &*self.counts;
        if queued_bytes.fetch_add(line.len(), Relaxed) + line.len() > CAPACITY {
            queued_bytes.fetch_sub(line.len(), Relaxed);
            lost_lines.fetch_add(1, Relaxed);
        } else {
            let _ = self.queue.send(line.to_vec()); // fails only after the end
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = &'a Lines;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

impl Drop for Flush {
    fn drop(&mut self) {
        let _ = self.lines.queue.send(END);
        let _ = self.ended.recv_timeout(FLUSH_TIMEOUT); // disconnected when all lines are written
    }
}
