//! Server-sent events (<https://html.spec.whatwg.org/multipage/server-sent-events.html>) with the newest state
//! of a trial. The event is made once for all viewers. A slow viewer skips older states.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use appinfo::server::Phase;
use axum::{body::Body, body::Bytes};
use futures_util::stream;
use serde::Serialize;
use tokio::{
    select,
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::sleep,
};

use super::trials::{Found, Trials, Wanted};
use crate::view::page::{Heading, Outage, Present, Progress, State, Subject};

/// The maximum number of viewers.
pub(super) const MOST_VIEWERS: usize = 256;
/// The time between two comments while nothing changes, so that a dead connection is noticed.
const SIGN_OF_LIFE: Duration = Duration::from_secs(15);
const COMMENT: Bytes = Bytes::from_static(b":\n\n");
/// Tells the browser to reconnect after a second.
const RETRY: &str = "retry: 1000\n\n";

/// All viewers.
#[derive(Debug)]
pub(super) struct Viewers {
    /// By what they want to see.
    channels: Mutex<BTreeMap<Wanted, Channel>>,
    places: Arc<Semaphore>,
}

/// The viewers of one trial.
#[derive(Debug)]
struct Channel {
    states: watch::Sender<Bytes>,
    shown: Shown,
}

/// The state that was sent last.
#[derive(Debug, PartialEq)]
struct Shown {
    trial: String,
    /// The trial's number of changes.
    changes: u64,
    note: Option<String>,
    rehearsal: Option<Progress>,
    /// It changes even without requests, until it is 0.
    present: Present,
    outage: Option<Outage>,
}

impl Shown {
    fn new(found: &Found, heading: &Heading) -> Self {
        Self {
            trial: found.id.to_owned(),
            changes: found.one.changes(),
            note: found.note(),
            rehearsal: heading.rehearsal.clone(),
            present: found.one.history().present(found.one.trial()),
            outage: heading.outage.clone(),
        }
    }
}

/// What one viewer may do. Others may only look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Rights {
    /// Take the steps of a rehearsal.
    pub(super) step: bool,
    /// Reset a trial.
    pub(super) reset: bool,
}

impl Default for Viewers {
    fn default() -> Self {
        Self { channels: Mutex::default(), places: Arc::new(Semaphore::new(MOST_VIEWERS)) }
    }
}

impl Viewers {
    /// The number of viewers.
    pub(super) fn count(&self) -> usize {
        MOST_VIEWERS - self.places.available_permits()
    }

    fn channels(&self) -> MutexGuard<'_, BTreeMap<Wanted, Channel>> {
        self.channels.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The events for one more viewer, of the trial that was `found`. They end when the server drains. `None` if
    /// there are too many viewers.
    pub(super) fn events(
        &self,
        wanted: Wanted,
        found: &Found,
        heading: &Heading,
        rights: Rights,
        phase: watch::Receiver<Phase>,
    ) -> Option<Body> {
        let place = Arc::clone(&self.places).try_acquire_owned().ok()?;
        let new = || Channel {
            states: watch::Sender::new(event(found, heading, Instant::now())),
            shown: Shown::new(found, heading),
        };
        let mut states = self.channels().entry(wanted).or_insert_with(new).states.subscribe();
        states.mark_changed();
        let viewer = Viewer { states, phase, greeting: Some(greeting(rights)), _place: place };
        Some(Body::from_stream(stream::unfold(viewer, Viewer::next)))
    }

    /// Sends the changed states to the viewers.
    pub(super) fn tell(&self, trials: &mut Trials, heading: &Heading, now: Instant) {
        let mut channels = self.channels();
        channels.retain(|_, channel| channel.states.receiver_count() > 0);
        for (wanted, channel) in &mut *channels {
            let Some(found) = trials.view(wanted, now) else { continue };
            let shown = Shown::new(&found, heading);
            if channel.shown != shown {
                channel.states.send_replace(event(&found, heading, now));
                channel.shown = shown;
            }
        }
    }
}

fn event(found: &Found, heading: &Heading, now: Instant) -> Bytes {
    let note = found.note();
    let (id, trial, history, rules) = (found.id, found.one.trial(), found.one.history(), found.one.rules());
    let gap = found.one.gap().map(|gap| gap.ends());
    let names = found.others.iter().copied();
    let others: Vec<_> =
        names.zip(&found.counts_of_others).map(|((id, it), counts)| (id, it, *counts)).collect();
    let subject = Subject { id, trial, history, rules, note: note.as_deref(), others: &others, gap };
    match serde_json::to_string(&State::new(&subject, heading, now)) {
        Ok(state) => format!("event: state\ndata: {state}\n\n").into(),
        Err(_) => COMMENT, // a state is always JSON
    }
}

/// What a viewer gets first.
fn greeting(rights: Rights) -> Bytes {
    match serde_json::to_string(&rights) {
        Ok(rights) => format!("{RETRY}event: rights\ndata: {rights}\n\n").into(),
        Err(_) => RETRY.into(), // they are always JSON
    }
}

/// One viewer.
struct Viewer {
    states: watch::Receiver<Bytes>,
    phase: watch::Receiver<Phase>,
    /// The first event, until it is sent.
    greeting: Option<Bytes>,
    _place: OwnedSemaphorePermit,
}

impl Viewer {
    async fn next(mut self) -> Option<(Result<Bytes, Infallible>, Self)> {
        if let Some(greeting) = self.greeting.take() {
            return Some((Ok(greeting), self));
        }
        let bytes = select! {
            biased;
            _ = self.phase.wait_for(|phase| *phase != Phase::Serving) => return None,
            changed = self.states.changed() => {
                changed.ok()?;
                self.states.borrow_and_update().clone()
            }
            () = sleep(SIGN_OF_LIFE) => COMMENT,
        };
        Some((Ok(bytes), self))
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use http_body_util::BodyExt;
    use tokio::time;

    use super::*;
    use crate::{
        source::{Answer, Attribution, Observation, Response, Seen},
        trial::{Coverage, Trial},
    };
    use canary_judge::{Outcome, Release, Settings};

    const NONE: Rights = Rights { step: false, reset: false };

    fn heading() -> Heading<'static> {
        Heading {
            title: "http://a",
            counting_since: String::new(),
            process_started: String::new(),
            clocks: (Instant::now(), SystemTime::now()),
            rehearsal: None,
            outage: None,
            last_failure: None,
        }
    }

    async fn next(events: &mut Body) -> Bytes {
        let frame = events.frame().await.expect("it goes on").expect("no error");
        frame.into_data().expect("data")
    }

    #[tokio::test(start_paused = true)]
    async fn a_viewer_who_is_slow_misses_what_has_been_overtaken() {
        let trial = Trial::new(Settings::default(), None, Coverage::All, Instant::now());
        let mut trials = Trials::new(trial);
        let (viewers, phase) = (Viewers::default(), watch::Sender::new(Phase::Serving));
        let found = trials.current(Instant::now());
        let events = viewers.events(Wanted::Current, &found, &heading(), NONE, phase.subscribe());
        let mut events = events.expect("a place");
        let greeting = next(&mut events).await;
        assert_eq!(greeting, "retry: 1000\n\nevent: rights\ndata: {\"step\":false,\"reset\":false}\n\n");
        assert!(next(&mut events).await.starts_with(b"event: state\ndata: {"), "the state at once");
        for number in 0..1000 {
            let answer = Answer {
                attribution: Attribution::Release(Release::Stable),
                outcome: Outcome::Success,
                status: None,
                latency: None,
                pod: None,
                info: None,
            };
            let observation = Observation {
                number,
                sent: Instant::now(),
                started: None,
                stratum: None,
                response: Response::Answer(answer),
            };
            trials.observe(&Seen::Request(observation), Instant::now());
            viewers.tell(&mut trials, &heading(), Instant::now());
            tokio::task::yield_now().await;
        }
        let newest = next(&mut events).await;
        let newest = str::from_utf8(&newest).expect("text");
        assert!(newest.contains("\"requests\":1000,"), "{newest}");
        let before = time::Instant::now();
        assert_eq!(next(&mut events).await, COMMENT, "nothing more was kept");
        assert_eq!(before.elapsed().as_secs(), SIGN_OF_LIFE.as_secs());
    }
}
