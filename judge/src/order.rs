//! Puts outcomes into the order of sending. An outcome waits until all requests sent before it have ended.
//!
//! Failures take longer than successes: a time-out comes seconds after the answers to requests that were sent
//! later. In the order of arrival, a canary would be promoted by its fast successes, before its failures arrive.

use std::{collections::VecDeque, time::Duration};

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
    /// The kind of request that it is compared within, such as its path, route, method or tenant; `None` if requests are not
    /// divided.
    pub stratum: Option<&'a str>,
    /// When it was sent, since any moment that is the same for all, if known. It is needed with
    /// [`Settings::episodes`](crate::Settings::episodes) only.
    pub sent: Option<Duration>,
    /// The time to the last byte of its answer, if known.
    pub latency: Option<Duration>,
    /// Whether its pod had just started, so that it is left out if [`Settings::warm_up`](crate::Settings::warm_up) is set.
    pub is_warm_up: bool,
}

impl<'a> Request<'a> {
    /// A request of which nothing else is known. `release` is `None` if the answer names no release.
    pub fn new(release: Option<Release>, outcome: Outcome) -> Self {
        Self { release, outcome, pod: None, stratum: None, sent: None, latency: None, is_warm_up: false }
    }

    /// The same, answered by this pod.
    #[must_use]
    pub fn with_pod(self, pod: Option<&'a str>) -> Self {
        Self { pod, ..self }
    }

    /// The same, of this kind.
    #[must_use]
    pub fn with_stratum(self, stratum: Option<&'a str>) -> Self {
        Self { stratum, ..self }
    }

    /// The same, sent at this time, since any moment that is the same for all.
    #[must_use]
    pub fn with_sent(self, sent: Option<Duration>) -> Self {
        Self { sent, ..self }
    }

    /// The same, with an answer that took so long.
    #[must_use]
    pub fn with_latency(self, latency: Option<Duration>) -> Self {
        Self { latency, ..self }
    }

    /// The same, of a pod that had just started, or not. This must not depend on outcomes.
    #[must_use]
    pub fn with_warm_up(self, is_warm_up: bool) -> Self {
        Self { is_warm_up, ..self }
    }
}

/// The requests that have ended, while one that was sent before them has not.
#[derive(Clone, Debug, Default)]
pub(crate) struct Order {
    /// The number of the request that comes next.
    next: u64,
    /// `next` and later requests; `None` for requests that have not ended.
    waiting: VecDeque<Option<Ended>>,
}

/// A request that has ended; `None` if it does not count.
#[derive(Clone, Debug)]
struct Ended(Option<Kept>);

/// What a request that waits keeps of itself.
#[derive(Clone, Debug)]
struct Kept {
    release: Option<Release>,
    outcome: Outcome,
    pod: Option<Box<str>>,
    stratum: Option<Box<str>>,
    sent: Option<Duration>,
    latency: Option<Duration>,
    is_warm_up: bool,
}

impl Kept {
    fn new(request: Request<'_>) -> Self {
        let Request { release, outcome, pod, stratum, sent, latency, is_warm_up } = request;
        Self {
            release,
            outcome,
            pod: pod.map(Box::from),
            stratum: stratum.map(Box::from),
            sent,
            latency,
            is_warm_up,
        }
    }

    fn request(&self) -> Request<'_> {
        let Self { release, outcome, sent, latency, is_warm_up, .. } = *self;
        let (pod, stratum) = (self.pod.as_deref(), self.stratum.as_deref());
        Request { release, outcome, pod, stratum, sent, latency, is_warm_up }
    }
}

impl Order {
    /// Requests that are waiting will not count.
    pub(crate) fn discard(&mut self) {
        self.waiting.iter_mut().flatten().for_each(|ended| ended.0 = None);
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
        self.waiting[place] = Some(Ended(request.map(Kept::new)));
        while let Some(ended) = self.waiting.front_mut().and_then(Option::take) {
            self.waiting.pop_front();
            self.next += 1;
            ended.0.iter().map(Kept::request).for_each(&mut take);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_that_waits_keeps_all_that_is_known_of_it() {
        let latency = Some(Duration::from_millis(3));
        let known = Request::new(Some(Release::Canary), Outcome::Failure)
            .with_pod(Some("one"))
            .with_stratum(Some("/checkout"))
            .with_sent(latency)
            .with_latency(latency)
            .with_warm_up(true);
        let mut order = Order::default();
        assert!(order.add(1, Some(known), |_| unreachable!("it waits")));
        let mut taken = 0;
        assert!(order.add(0, None, |request| {
            taken += 1;
            assert_eq!(request, known);
        }));
        assert_eq!(taken, 1);
    }
}
