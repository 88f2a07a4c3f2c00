//! What a connection waits for, since when, and how long it may.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::{Mutex, MutexGuard, PoisonError},
    task::Poll,
    time::Duration,
};

use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

use crate::http::admin::Phase;

/// The time limit of a request head, from its first byte to its last. For a connection's first head, the time starts
/// when the connection is opened.
const HEAD_LIMIT: Duration = Duration::from_secs(10);
/// How long a client may receive none of the bytes that it is sent.
const WRITE_LIMIT: Duration = Duration::from_secs(20);
/// How long a connection that must close still waits for a request, since one may already be on its way.
const CLOSING_LIMIT: Duration = Duration::from_secs(1);
/// Replaces a limit that would overflow `Instant`: 30 years, longer than any process runs.
const FOREVER: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);

/// What a port tells its connections: conditions that decide how long they may stay open.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    pub(super) phase: Phase,
    /// All slots, or nearly all, are in use: other connections wait or have just waited.
    pub(super) full: bool,
    /// How long a connection may be idle between two requests.
    pub(super) idle_timeout: Duration,
}

impl Terms {
    /// Whether a connection is kept open for the next request. If not, the answer has `connection: close`.
    pub(super) fn keep_alive(self) -> bool {
        self.phase == Phase::Serving && !self.full
    }

    /// Whether a connection without a request may stay open.
    fn may_idle(self) -> bool {
        self.phase != Phase::Stopping && !self.full
    }
}

/// What a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wait {
    /// The first byte of its first request.
    Opening,
    /// The rest of a request head.
    Head,
    /// The server's own answer.
    Answer,
    /// The next request.
    Idle,
}

/// The progress of one connection.
#[derive(Debug)]
pub(super) struct Progress(Mutex<State>);

#[derive(Debug)]
struct State {
    wait: Wait,
    since: Instant,
    /// Since when the client has received no byte of those that it is sent.
    stalled: Option<Instant>,
    /// The last three bytes that were read.
    tail: [u8; 3],
    /// There are bytes after the last empty line: a head has begun.
    in_head: bool,
    /// The last request has a body.
    has_body: bool,
}

impl Progress {
    pub(super) fn new() -> Self {
        let (wait, since) = (Wait::Opening, Instant::now());
        Self(Mutex::new(State { wait, since, stalled: None, tail: [0; 3], in_head: false, has_body: false }))
    }

    /// Only one task uses the state, so this never waits.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes have been read. They belong to a head: no body is read after an answer.
    pub(super) fn read(&self, bytes: &[u8]) {
        let mut state = self.state();
        for &byte in &bytes[bytes.len().saturating_sub(3)..] {
            state.tail = [state.tail[1], state.tail[2], byte];
        }
        state.in_head = !(state.tail == *b"\n\r\n" || state.tail.ends_with(b"\n\n"));
        match state.wait {
            Wait::Opening => state.wait = Wait::Head,
            Wait::Idle if state.in_head => (state.wait, state.since) = (Wait::Head, Instant::now()),
            Wait::Idle | Wait::Head | Wait::Answer => {}
        }
    }

    /// A request head is complete, and its answer is next.
    pub(super) fn begin_answer(&self, has_body: bool) {
        let mut state = self.state();
        state.wait = Wait::Answer;
        state.has_body = has_body;
    }

    /// The answer is ready. The next head may have begun already.
    pub(super) fn end_answer(&self) {
        let mut state = self.state();
        state.wait = if state.in_head { Wait::Head } else { Wait::Idle };
        state.since = Instant::now();
    }

    /// The socket has accepted bytes for the client, or not.
    pub(super) fn written<T>(&self, written: &Poll<T>) {
        let stalled = &mut self.state().stalled;
        match written {
            Poll::Ready(_) => *stalled = None,
            Poll::Pending => *stalled = stalled.or_else(|| Some(Instant::now())),
        }
    }

    /// Whether the client may still be sending bytes that are not wanted: another head, or a body.
    pub(super) fn client_sends(&self) -> bool {
        let state = self.state();
        state.in_head || state.has_body
    }

    /// Runs `task` until it is done, or until the connection has waited too long for something: then returns none.
    pub(super) async fn limit<T>(
        &self,
        task: impl Future<Output = T>,
        mut terms: watch::Receiver<Terms>,
    ) -> Option<T> {
        let (mut task, mut timer) = (pin!(task), pin!(sleep(HEAD_LIMIT)));
        let mut changed = Instant::now();
        loop {
            let current = *terms.borrow_and_update();
            let done_or_overdue = poll_fn(|cx| {
                if let Poll::Ready(done) = task.as_mut().poll(cx) {
                    return Poll::Ready(Some(done));
                }
                let deadline = self.state().deadline(current, changed);
                // The timer may fire too early, and is set again then: setting it for each request would cost a
                // tenth of the request.
                if deadline < timer.deadline() {
                    timer.as_mut().reset(deadline);
                }
                while timer.as_mut().poll(cx).is_ready() {
                    if Instant::now() >= deadline {
                        return Poll::Ready(None);
                    }
                    timer.as_mut().reset(deadline);
                }
                Poll::Pending
            });
            tokio::select! {
                biased;
                ended = done_or_overdue => return ended,
                Ok(()) = terms.changed() => changed = Instant::now(),
            }
        }
    }
}

impl State {
    /// When the connection has waited too long, under terms that apply since `changed`.
    fn deadline(&self, terms: Terms, changed: Instant) -> Instant {
        let after = |since: Instant, limit| since.checked_add(limit).unwrap_or_else(|| since + FOREVER);
        if let Some(since) = self.stalled {
            return after(since, WRITE_LIMIT);
        }
        let limit = match self.wait {
            Wait::Opening | Wait::Head => HEAD_LIMIT,
            Wait::Answer => FOREVER,
            Wait::Idle => terms.idle_timeout,
        };
        // clients that are slow with a request make room first
        let must_close_since = match self.wait {
            Wait::Opening | Wait::Head if terms.full => Some(self.since),
            Wait::Opening | Wait::Idle if !terms.may_idle() => Some(self.since.max(changed)),
            _ => None,
        };
        let deadline = after(self.since, limit);
        must_close_since.map_or(deadline, |since| deadline.min(since + CLOSING_LIMIT))
    }
}
