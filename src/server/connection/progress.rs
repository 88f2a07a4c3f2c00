//! The state of a connection, which decides what it waits for.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// What a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// The first byte of its first request.
    Opening,
    /// The rest of a request head, after this number of requests.
    Head { after: u64 },
    /// The server's own answer. Labels of the pod can delay it for a minute.
    Answer,
    /// The next request, after this number of requests; hyper's buffers are kept, since it often comes soon.
    Pause { after: u64 },
    /// The next request, without hyper's buffers.
    Idle,
    /// The client to receive written bytes.
    Write,
    /// The client to stop sending, after its last answer.
    Linger,
}

#[derive(Debug, Default)]
pub(super) struct Progress {
    /// The number of requests so far.
    requests: u64,
    /// The last three bytes that were read.
    tail: [u8; 3],
    /// A request head has begun: there are bytes after the last empty line.
    in_head: bool,
    /// The last request has a body, which is not read.
    has_body: bool,
    /// The answer to the last request is not ready yet.
    pub(super) answering: bool,
    /// If set, the connection waits for this instead: [`Wait::Write`], [`Wait::Linger`] or [`Wait::Idle`].
    pub(super) blocked: Option<Wait>,
}

impl Progress {
    pub(super) fn read(&mut self, bytes: &[u8]) {
        for &byte in &bytes[bytes.len().saturating_sub(3)..] {
            self.tail = [self.tail[1], self.tail[2], byte];
        }
        self.in_head = !(self.tail == *b"\n\r\n" || self.tail.ends_with(b"\n\n"));
    }

    /// Records that a request head has been read and that its answer is next.
    pub(super) fn begin_request(&mut self, has_body: bool) {
        self.requests += 1;
        self.has_body = has_body;
        self.answering = true;
    }

    /// Whether the client may still be sending bytes that are not wanted: another head, or a body.
    pub(super) fn client_sends(&self) -> bool {
        self.in_head || self.has_body
    }

    pub(super) fn wait(&self) -> Wait {
        if let Some(wait) = self.blocked {
            wait
        } else if self.answering {
            Wait::Answer
        } else if self.in_head {
            Wait::Head { after: self.requests }
        } else if self.requests == 0 {
            Wait::Opening
        } else {
            Wait::Pause { after: self.requests }
        }
    }
}

/// Locks the progress. Only one task uses it, so this never waits.
pub(super) fn lock(progress: &Mutex<Progress>) -> MutexGuard<'_, Progress> {
    progress.lock().unwrap_or_else(PoisonError::into_inner)
}
