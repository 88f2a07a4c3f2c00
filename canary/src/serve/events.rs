//! Server-sent events (<https://html.spec.whatwg.org/multipage/server-sent-events.html>): the newest state of a
//! trial, for as many viewers as there are. It is made once for all of them, and a viewer who is slow misses what
//! has been overtaken.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use axum::{body::Body, body::Bytes};
use futures_util::stream;
use tokio::{
    select,
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::sleep,
};

use super::{
    connections::Phase,
    rehearsal::Progress,
    state::{Heading, State},
    trials::{OnTrial, Trials},
};

/// The most viewers at once.
pub(super) const MOST_VIEWERS: usize = 256;
/// How often something is sent while nothing changes, so that a dead connection is noticed.
const SIGN_OF_LIFE: Duration = Duration::from_secs(15);
const COMMENT: Bytes = Bytes::from_static(b":\n\n");
/// Asks the browser to come back a second after a connection is lost.
const RETRY: Bytes = Bytes::from_static(b"retry: 1000\n\n");

/// All who look.
#[derive(Debug)]
pub(super) struct Viewers {
    /// By the trial's name; none stands for whichever trial is the current one.
    channels: Mutex<BTreeMap<Option<String>, Channel>>,
    places: Arc<Semaphore>,
}

/// What those see who look at one trial.
#[derive(Debug)]
struct Channel {
    states: watch::Sender<Bytes>,
    shown: Shown,
}

/// What was shown last.
#[derive(Debug, PartialEq)]
struct Shown {
    trial: String,
    /// How often the trial had changed.
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
    /// How many there are.
    pub(super) fn count(&self) -> usize {
        MOST_VIEWERS - self.places.available_permits()
    }

    fn channels(&self) -> MutexGuard<'_, BTreeMap<Option<String>, Channel>> {
        self.channels.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The events for one more viewer of the trial of that name, or of the current one. They end when the server
    /// no longer serves. None if there are too many viewers.
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

    /// Tells viewers what has changed.
    pub(super) fn tell(&self, trials: &mut Trials, heading: &Heading, now: Instant) {
        let mut channels = self.channels();
        channels.retain(|_, channel| channel.states.receiver_count() > 0);
        for (id, channel) in &mut *channels {
            // a trial that is looked at is one that is asked for
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
    match serde_json::to_string(&State::new(id, one, heading, now)) {
        Ok(state) => format!("event: state\ndata: {state}\n\n").into(),
        Err(_) => COMMENT, // a state is always JSON
    }
}

/// One who looks.
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
