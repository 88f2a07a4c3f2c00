//! A queue of log lines and the thread that writes them, so that no request waits for the reader of the log.
//!
//! With it, an answer costs 1.6 times as much as one of bare hyper. A write for each line, which it replaced, cost
//! 2.6 times as much. (`tracing-appender` is equally fast, but it limits the number of queued lines instead of their
//! bytes, and it does not report lost lines.)

use std::{
    io::{self, Write},
    mem,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        mpsc::{Receiver, channel},
    },
    thread,
    time::Duration,
};

use tracing::warn;
use tracing_subscriber::fmt::MakeWriter;

/// The maximum number of queued bytes, so that a stalled reader does not cost memory. Further lines are lost and
/// counted.
const CAPACITY: usize = 1 << 20;
/// The minimum time between two writes, so that one write takes many lines under load. After a longer pause, a line
/// is written at once.
const WRITE_INTERVAL: Duration = Duration::from_millis(5);
/// How long the process waits at its end until the last lines are written.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// The sending side of the queue; each `write` is one line.
#[derive(Clone, Debug)]
pub(super) struct Lines(Arc<Shared>);

/// Dropping it waits until all lines are written, for one second at most.
#[derive(Debug)]
pub struct Flush {
    lines: Lines,
    ended: Receiver<()>,
}

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    /// Notified when there are lines, or when the queue is closed.
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    lines: Vec<u8>,
    lost: u64,
    closed: bool,
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts the thread that writes to `out`.
pub(super) fn start(out: impl Write + Send + 'static) -> io::Result<(Lines, Flush)> {
    let lines = Lines(Arc::default());
    let (ends, ended) = channel();
    let shared = Arc::clone(&lines.0);
    thread::Builder::new().name("log".to_owned()).spawn(move || {
        write_out(&shared, out);
        drop(ends);
    })?;
    Ok((lines.clone(), Flush { lines, ended }))
}

fn write_out(shared: &Shared, mut out: impl Write) {
    let mut batch = Vec::new();
    loop {
        let mut queue = shared.queue();
        while queue.lines.is_empty() && !queue.closed {
            queue = shared.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        if queue.lines.is_empty() {
            return;
        }
        mem::swap(&mut batch, &mut queue.lines);
        let mut lost = mem::take(&mut queue.lost);
        drop(queue);
        if out.write_all(&batch).and_then(|()| out.flush()).is_err() {
            lost += lines_in(&batch); // an upper bound: some may have been written
            shared.queue().lost += lost; // logged once lines can be written again
        } else if lost > 0 {
            warn!(lost, "log lines lost: the queue was full, or they could not be written");
        }
        batch.clear();
        let _waited =
            shared.changed.wait_timeout_while(shared.queue(), WRITE_INTERVAL, |queue| !queue.closed);
    }
}

fn lines_in(batch: &[u8]) -> u64 {
    batch.iter().map(|&byte| u64::from(byte == b'\n')).sum()
}

impl Write for &Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut queue = self.0.queue();
        if queue.lines.len() + line.len() > CAPACITY {
            queue.lost += 1;
            return Ok(line.len());
        }
        let was_empty = queue.lines.is_empty();
        queue.lines.extend_from_slice(line);
        drop(queue);
        if was_empty {
            self.0.changed.notify_one();
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
        self.lines.0.queue().closed = true;
        self.lines.0.changed.notify_one();
        let _ = self.ended.recv_timeout(FLUSH_TIMEOUT); // disconnected when all lines are written
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc::SyncSender, time::Instant};

    use super::*;

    /// An output whose every write waits until the test receives it.
    struct Pipe(SyncSender<Vec<u8>>);

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.send(bytes.to_vec()).map_err(|_| io::ErrorKind::BrokenPipe)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn every_line_is_written_before_the_end() {
        let (sender, receiver) = std::sync::mpsc::sync_channel(100_000);
        let (lines, flush) = start(Pipe(sender)).expect("a thread");
        let mut expected = Vec::new();
        for number in 0..10_000 {
            let line = format!("line {number}\n");
            (&lines).write_all(line.as_bytes()).expect("queued");
            expected.extend_from_slice(line.as_bytes());
        }
        drop(flush);
        assert_eq!(receiver.try_iter().flatten().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn while_the_reader_stalls_the_queue_stays_bounded_and_lost_lines_are_counted() {
        let (sender, receiver) = std::sync::mpsc::sync_channel(0);
        let (lines, flush) = start(Pipe(sender)).expect("a thread");
        let line = [b'x'; 1000];
        for _ in 0..3 * CAPACITY / line.len() {
            (&lines).write_all(&line).expect("queued or lost");
        }
        let (waiting, lost) = {
            let queue = lines.0.queue();
            (queue.lines.len(), queue.lost)
        };
        assert!(waiting <= CAPACITY && lost > 0, "{waiting} bytes wait, {lost} lines are lost");
        let start = Instant::now();
        drop(flush);
        assert!(start.elapsed() >= FLUSH_TIMEOUT, "it waits for the reader");
        drop(receiver);
    }

    #[test]
    fn the_end_does_not_wait_for_a_reader_that_has_gone() {
        let (sender, receiver) = std::sync::mpsc::sync_channel(0);
        let (lines, flush) = start(Pipe(sender)).expect("a thread");
        drop(receiver);
        (&lines).write_all(b"line\n").expect("queued");
        let start = Instant::now();
        drop(flush);
        assert!(start.elapsed() < FLUSH_TIMEOUT);
    }

    struct FullDisk;

    impl Write for FullDisk {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_that_cannot_be_written_are_counted_as_lost() {
        let (lines, flush) = start(FullDisk).expect("a thread");
        for _ in 0..3 {
            (&lines).write_all(b"line\n").expect("queued");
        }
        drop(flush); // waits until all writes have failed
        assert_eq!(lines.0.queue().lost, 3);
    }
}
