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

/// From the first byte of a request head to its last; for a connection's first, from its opening.
const HEAD_LIMIT: Duration = Duration::from_secs(10);
/// How long a connection that has just been used keeps its buffers.
const PAUSE: Duration = Duration::from_millis(50);
/// How long our own answer may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(150);
/// Longer than any process runs, and yet a time that there is: 30 years.
const FOREVER: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);
/// How long a connection may still wait for a request where [`Terms`] want it to go: one may be on its way.
const GOING_LIMIT: Duration = Duration::from_secs(1);
/// How long a client may take to accept what is written to it.
const WRITE_LIMIT: Duration = Duration::from_secs(20);
/// How long a client that still sends is listened to after its last answer, so that no reset destroys that
/// answer.
pub(super) const LINGER_LIMIT: Duration = Duration::from_secs(2);

/// Ends waits that take too long.
pub(super) struct Watchdog<'a> {
    terms: watch::Receiver<Terms>,
    waiting: Waiting<'a>,
}

/// What a connection waits for, and since when.
struct Waiting<'a> {
    progress: &'a Mutex<Progress>,
    wait: Wait,
    since: Instant,
    /// When that has taken too long.
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

    /// Runs `task` until it is done, or until what the connection waits for has taken too long.
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
    /// Ready when what the connection waits for has taken too long. To be polled after the connection.
    fn poll(&mut self, cx: &mut Context<'_>, terms: Terms) -> Poll<Wait> {
        let wait = lock(self.progress).wait();
        if wait != self.wait {
            if !matches!(wait, Wait::Opening | Wait::Head { after: 0 }) {
                self.since = Instant::now(); // the first head's time began with the connection's
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

    /// Has the timer wake this task in time. One that wakes it early is left as it is until then: setting a timer for
    /// each request costs a tenth of the request.
    fn set_timer(&mut self, terms: Terms) {
        self.deadline = deadline(self.wait, self.since, terms);
        if self.deadline < self.timer.deadline() {
            self.timer.as_mut().reset(self.deadline);
        }
    }
}

/// When to give up a wait that began then.
fn deadline(wait: Wait, since: Instant, terms: Terms) -> Instant {
    let (limit, must_go) = match wait {
        Wait::Opening => (HEAD_LIMIT, !terms.rest()),
        Wait::Head { .. } => (HEAD_LIMIT, terms.full),
        Wait::Pause { .. } => (PAUSE, false),
        Wait::Answer => (ANSWER_LIMIT, false),
        Wait::Rest => (terms.idle_timeout, !terms.rest()),
        Wait::Write => (WRITE_LIMIT, false),
        Wait::Linger => (LINGER_LIMIT, false),
    };
    let deadline = since.checked_add(limit).unwrap_or_else(|| since + FOREVER);
    if must_go { deadline.min(Instant::now() + GOING_LIMIT) } else { deadline }
}
