//! Puts outcomes into the order of sending. An outcome waits until all requests sent before it have ended.
//!
//! Failures take longer than successes: a time-out comes seconds after the answers to requests that were sent
//! later. In the order of arrival, a canary would be promoted by its fast successes, before its failures arrive.

use std::collections::VecDeque;

use crate::{Outcome, Release};

/// How a request ended, and who answered it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// The release that it is attributed to; `None` if that is unknown.
    pub release: Option<Release>,
    /// How it ended.
    pub outcome: Outcome,
    /// The pod that answered, if known.
    pub pod: Option<&'a str>,
}

/// The requests that have ended, while one that was sent before them has not.
#[derive(Clone, Debug, Default)]
pub(crate) struct Order {
    /// The number of the request that comes next.
    next: u64,
    /// `next` and later requests; `None` for requests that have not ended.
    waiting: VecDeque<Option<Ended>>,
}

/// A request that has ended; without an outcome if it does not count.
#[derive(Clone, Debug)]
struct Ended {
    outcome: Option<(Option<Release>, Outcome)>,
    pod: Option<String>,
}

impl Ended {
    fn new(request: Option<Request<'_>>) -> Self {
        Self {
            outcome: request.map(|request| (request.release, request.outcome)),
            pod: request.and_then(|request| request.pod).map(str::to_owned),
        }
    }

    fn request(&self) -> Option<Request<'_>> {
        let pod = self.pod.as_deref();
        self.outcome.map(|(release, outcome)| Request { release, outcome, pod })
    }
}

impl Order {
    /// Requests that are waiting will not count.
    pub(crate) fn discard(&mut self) {
        self.waiting.iter_mut().flatten().for_each(|ended| ended.outcome = None);
    }

    /// Adds the request with this number, or only its place if it does not count. `take` gets all requests whose turn
    /// has come, in order. False if this number was added before.
    pub(crate) fn add(
        &mut self,
        number: u64,
        request: Option<Request<'_>>,
        mut take: impl FnMut(Request<'_>),
    ) -> bool {
        if number == self.next && self.waiting.is_empty() {
            // the usual case: outcomes come in order, and need no copy
            self.next += 1;
            request.into_iter().for_each(take);
            return true;
        }
        let Some(place) = number.checked_sub(self.next).and_then(|place| usize::try_from(place).ok()) else {
            return false;
        };
        if self.waiting.len() <= place {
            self.waiting.resize(place + 1, None);
        }
        if self.waiting[place].is_some() {
            return false;
        }
        self.waiting[place] = Some(Ended::new(request));
        while let Some(ended) = self.waiting.front_mut().and_then(Option::take) {
            self.waiting.pop_front();
            self.next += 1;
            ended.request().into_iter().for_each(&mut take);
        }
        true
    }
}
