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
use tokio::{
    select,
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::sleep,
};

use super::trials::{OnTrial, Trials};
use crate::view::page::{Heading, Progress, State};

/// The maximum number of viewers.
pub(super) const MOST_VIEWERS: usize = 256;
/// The time between two comments while nothing changes, so that a dead connection is noticed.
const SIGN_OF_LIFE: Duration = Duration::from_secs(15);
const COMMENT: Bytes = Bytes::from_static(b":\n\n");
/// Tells the browser to reconnect after a second.
const RETRY: Bytes = Bytes::from_static(b"retry: 1000\n\n");

/// All viewers.
#[derive(Debug)]
pub(super) struct Viewers {
    /// By the trial's name; `None` stands for the current trial.
    channels: Mutex<BTreeMap<Option<String>, Channel>>,
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
    rehearsal: Option<Progress>,
}

impl Shown {
    fn new(id: &str, one: &OnTrial, heading: &Heading) -> Self {
        Self { trial: id.to_owned(), changes: one.changes(), rehearsal: heading.rehearsal.clone() }
    }
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

    fn channels(&self) -> MutexGuard<'_, BTreeMap<Option<String>, Channel>> {
        self.channels.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The events for one more viewer, of the named trial or the current one. They end when the server drains.
    /// `None` if there are too many viewers.
    pub(super) fn events(
        &self,
        id: Option<&str>,
        trials: &Trials,
        heading: &Heading,
        phase: watch::Receiver<Phase>,
    ) -> Option<Body> {
        let place = Arc::clone(&self.places).try_acquire_owned().ok()?;
        let (shown, one) = match id {
            Some(id) => (id, trials.get(id)?),
            None => trials.current(),
        };
        let new = || Channel {
            states: watch::Sender::new(event(shown, one, heading, Instant::now())),
            shown: Shown::new(shown, one, heading),
        };
        let mut states = self.channels().entry(id.map(str::to_owned)).or_insert_with(new).states.subscribe();
        states.mark_changed();
        let viewer = Viewer { states, phase, greeted: false, _place: place };
        Some(Body::from_stream(stream::unfold(viewer, Viewer::next)))
    }

    /// Sends the changed states to the viewers.
    pub(super) fn tell(&self, trials: &mut Trials, heading: &Heading, now: Instant) {
        let mut channels = self.channels();
        channels.retain(|_, channel| channel.states.receiver_count() > 0);
        for (id, channel) in &mut *channels {
            // viewing a trial counts as asking for it
            let Ok(id) = trials.ask(id.as_deref(), now) else { continue };
            let Some(one) = trials.get(&id) else { continue };
            let shown = Shown::new(&id, one, heading);
            if channel.shown != shown {
                channel.states.send_replace(event(&id, one, heading, now));
                channel.shown = shown;
            }
        }
    }
}

fn event(id: &str, one: &OnTrial, heading: &Heading, now: Instant) -> Bytes {
    match serde_json::to_string(&State::new(id, one.trial(), one.history(), heading, now)) {
        Ok(state) => format!("event: state\ndata: {state}\n\n").into(),
        Err(_) => COMMENT, // a state is always JSON
    }
}

/// One viewer.
struct Viewer {
    states: watch::Receiver<Bytes>,
    phase: watch::Receiver<Phase>,
    greeted: bool,
    _place: OwnedSemaphorePermit,
}

impl Viewer {
    async fn next(mut self) -> Option<(Result<Bytes, Infallible>, Self)> {
        let bytes = if self.greeted {
            select! {
                biased;
                _ = self.phase.wait_for(|phase| *phase != Phase::Serving) => return None,
                changed = self.states.changed() => {
                    changed.ok()?;
                    self.states.borrow_and_update().clone()
                }
                () = sleep(SIGN_OF_LIFE) => COMMENT,
            }
        } else {
            self.greeted = true;
            RETRY
        };
        Some((Ok(bytes), self))
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use tokio::time;

    use super::*;
    use crate::{
        source::{Interval, Seen},
        trial::{Coverage, Trial},
    };
    use canary_judge::{Counts, Settings};

    const HEADING: Heading = Heading { title: "http://a", rehearsal: None };

    async fn next(events: &mut Body) -> Bytes {
        let frame = events.frame().await.expect("it goes on").expect("no error");
        frame.into_data().expect("data")
    }

    #[tokio::test(start_paused = true)]
    async fn a_viewer_who_is_slow_misses_what_has_been_overtaken() {
        let trial = Trial::new(Settings::default(), None, Coverage::All, Instant::now());
        let mut trials = Trials::new(trial);
        let (viewers, phase) = (Viewers::default(), watch::Sender::new(Phase::Serving));
        let mut events = viewers.events(None, &trials, &HEADING, phase.subscribe()).expect("a place");
        assert_eq!(next(&mut events).await, RETRY);
        assert!(next(&mut events).await.starts_with(b"event: state\ndata: {"), "the state at once");
        let stable = Counts { requests: 1, failures: 0, slow: 0 };
        let interval = Interval { since: None, length: Duration::ZERO, stable, canary: BTreeMap::new() };
        for _ in 0..1000 {
            trials.observe(&Seen::Interval(interval.clone()), Instant::now());
            viewers.tell(&mut trials, &HEADING, Instant::now());
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
