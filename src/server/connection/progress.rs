//! How far a connection has come, and so what it waits for.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// What a connection waits for, told by the bytes that have passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// The first byte of its first request.
    Opening,
    /// The rest of a request head: the one after this many requests.
    Head { after: u64 },
    /// Our own answer, which labels of the pod can hold back for a minute.
    Answer,
    /// The next request after this many, which often comes soon.
    Pause { after: u64 },
    /// The next request, if any.
    Rest,
    /// The client to accept what is written to it.
    Write,
    /// The client to end what it sends, after its last answer.
    Linger,
}

#[derive(Debug, Default)]
pub(super) struct Progress {
    /// How many requests were taken.
    requests: u64,
    /// The last three bytes that were read.
    tail: [u8; 3],
    /// There are bytes after the last empty line: a request head has begun.
    in_head: bool,
    /// The last request has a body, which stays unread.
    has_body: bool,
    /// The last request's answer is not there yet.
    pub(super) answering: bool,
    /// What else it waits for, if anything: [`Wait::Write`], [`Wait::Linger`] or [`Wait::Rest`].
    pub(super) blocked: Option<Wait>,
}

impl Progress {
    pub(super) fn read(&mut self, bytes: &[u8]) {
        for &byte in &bytes[bytes.len().saturating_sub(3)..] {
            self.tail = [self.tail[1], self.tail[2], byte];
        }
        self.in_head = !(self.tail == *b"\n\r\n" || self.tail.ends_with(b"\n\n"));
    }

    /// The last request's head was read: its answer is next.
    pub(super) fn begin_request(&mut self, has_body: bool) {
        self.requests += 1;
        self.has_body = has_body;
        self.answering = true;
    }

    /// Whether the client may still be sending what is never read: a head after the last answer, or a body.
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

/// Progress is shared within one task only, so this never waits.
pub(super) fn lock(progress: &Mutex<Progress>) -> MutexGuard<'_, Progress> {
    progress.lock().unwrap_or_else(PoisonError::into_inner)
}
