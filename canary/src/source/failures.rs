//! The last answer that was a failure, with the beginning of its body: for a person who looks for the cause.

use std::{
    sync::{Mutex, PoisonError},
    time::Instant,
};

use canary_judge::Outcome;

use super::{Answer, Attribution};
use crate::foreign;

/// The longest beginning of a body that is kept, in bytes.
const LONGEST_BODY: usize = 300;

/// An answer that was a failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailingAnswer {
    /// When it came.
    pub at: Instant,
    /// Its status code.
    pub status: u16,
    /// The release that it names.
    pub attribution: Attribution,
    /// The pod that it names.
    pub pod: Option<String>,
    /// The beginning of its body, with unsafe characters escaped. `None` if the body is incomplete or too long.
    pub body: Option<String>,
}

/// Keeps the last one.
#[derive(Debug, Default)]
pub(super) struct LastFailure(Mutex<Option<FailingAnswer>>);

impl LastFailure {
    /// Keeps the answer if it is a failure.
    pub(super) fn see(&self, answer: &Answer, body: Option<&[u8]>) {
        let (Outcome::Failure, Some(status)) = (answer.outcome, answer.status) else { return };
        // a character may have up to four bytes, and `bounded` looks at twice the length
        let beginning =
            |body: &[u8]| String::from_utf8_lossy(&body[..body.len().min(8 * LONGEST_BODY)]).into_owned();
        let failing = FailingAnswer {
            at: Instant::now(),
            status,
            attribution: answer.attribution.clone(),
            pod: answer.pod.clone(),
            body: body.map(|body| foreign::bounded(beginning(body).trim_end(), LONGEST_BODY)),
        };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(failing);
    }

    pub(super) fn get(&self) -> Option<FailingAnswer> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(outcome: Outcome) -> Answer {
        let (attribution, status) = (Attribution::Unnamed, Some(500));
        Answer { attribution, outcome, status, latency: None, pod: None, info: None }
    }

    #[test]
    fn only_failures_are_kept_and_their_bodies_are_bounded_and_safe() {
        let last = LastFailure::default();
        last.see(&answer(Outcome::Success), Some(b"good"));
        assert_eq!(last.get(), None);
        last.see(&answer(Outcome::Failure), Some(b"{\"error\":\"\x1b[31m\xff\"}\n"));
        let body = last.get().and_then(|it| it.body);
        assert_eq!(body.as_deref(), Some("{\"error\":\"\\u{1b}[31m\u{fffd}\"}"));
        last.see(&answer(Outcome::Failure), Some("ä\n".repeat(100_000).as_bytes()));
        let body = last.get().and_then(|it| it.body).expect("a body");
        assert!(body.len() <= LONGEST_BODY && body.ends_with('…'), "{body}");
        last.see(&answer(Outcome::Failure), None);
        assert_eq!(last.get().map(|it| it.body), Some(None));
    }
}
