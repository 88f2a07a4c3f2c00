//! The time limits of a connection.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::Mutex,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    sync::watch,
    time::{Instant, Sleep, sleep_until},
};

use super::{
    super::port::Terms,
    progress::{Progress, Wait, lock},
};

/// The time limit of a request head, from its first byte to its last. For a connection's first head, the time starts
/// when the connection is opened.
const HEAD_LIMIT: Duration = Duration::from_secs(10);
/// How long a connection that has just been used keeps its buffers.
const PAUSE: Duration = Duration::from_millis(50);
/// How long the server's own answer may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(150);
/// Replaces a limit that would overflow `Instant`: 30 years, longer than any process runs.
const FOREVER: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);
/// How long a connection that must close still waits for a request, since one may already be on its way.
const CLOSING_LIMIT: Duration = Duration::from_secs(1);
/// How long a client may take to receive written bytes.
const WRITE_LIMIT: Duration = Duration::from_secs(20);
/// How long to read from a client that still sends after its last answer. Closing earlier would reset the
/// connection, and the client might lose that answer.
pub(super) const LINGER_LIMIT: Duration = Duration::from_secs(2);

/// Ends a task when its connection waits for too long.
pub(super) struct Watchdog<'a> {
    terms: watch::Receiver<Terms>,
    waiting: Waiting<'a>,
}

/// What a connection waits for, and since when.
struct Waiting<'a> {
    progress: &'a Mutex<Progress>,
    wait: Wait,
    since: Instant,
    deadline: Instant,
    timer: Pin<Box<Sleep>>,
}

impl<'a> Watchdog<'a> {
    pub(super) fn new(progress: &'a Mutex<Progress>, mut terms: watch::Receiver<Terms>) -> Self {
        let (wait, since) = (Wait::Opening, Instant::now());
        let deadline = deadline(wait, since, *terms.borrow_and_update());
        let timer = Box::pin(sleep_until(deadline));
        Self { terms, waiting: Waiting { progress, wait, since, deadline, timer } }
    }

    /// Runs `task` until it is done, or returns the wait that took too long.
    pub(super) async fn guard<T>(&mut self, task: impl Future<Output = T>) -> Result<T, Wait> {
        let mut task = pin!(task);
        let Self { terms, waiting } = self;
        loop {
            let current = *terms.borrow_and_update();
            waiting.set_timer(current);
            tokio::select! {
                biased;
                done = &mut task => return Ok(done),
                waited_for = poll_fn(|cx| waiting.poll(cx, current)) => return Err(waited_for),
                Ok(()) = terms.changed() => {}
            }
        }
    }
}

impl Waiting<'_> {
    /// Is ready when the current wait has taken too long. Must be polled after the connection, which may change
    /// the wait.
    fn poll(&mut self, cx: &mut Context<'_>, terms: Terms) -> Poll<Wait> {
        let wait = lock(self.progress).wait();
        if wait != self.wait {
            // the time of the first head starts when the connection is opened
            if !matches!(wait, Wait::Opening | Wait::Head { after: 0 }) {
                self.since = Instant::now();
            }
            self.wait = wait;
            self.set_timer(terms);
        }
        loop {
            ready!(self.timer.as_mut().poll(cx));
            if Instant::now() >= self.deadline {
                return Poll::Ready(wait);
            }
            self.timer.as_mut().reset(self.deadline);
        }
    }

    /// Sets the timer only if it would fire too late. If it fires too early, it is set again then. Setting it for each
    /// request would cost a tenth of the request.
    fn set_timer(&mut self, terms: Terms) {
        self.deadline = deadline(self.wait, self.since, terms);
        if self.deadline < self.timer.deadline() {
            self.timer.as_mut().reset(self.deadline);
        }
    }
}

/// The time at which a wait that began at `since` has taken too long.
fn deadline(wait: Wait, since: Instant, terms: Terms) -> Instant {
    let (limit, must_close) = match wait {
        Wait::Opening => (HEAD_LIMIT, !terms.may_idle()),
        Wait::Head { .. } => (HEAD_LIMIT, terms.full),
        Wait::Pause { .. } => (PAUSE, false),
        Wait::Answer => (ANSWER_LIMIT, false),
        Wait::Idle => (terms.idle_timeout, !terms.may_idle()),
        Wait::Write => (WRITE_LIMIT, false),
        Wait::Linger => (LINGER_LIMIT, false),
    };
    let deadline = since.checked_add(limit).unwrap_or_else(|| since + FOREVER);
    if must_close { deadline.min(Instant::now() + CLOSING_LIMIT) } else { deadline }
}
