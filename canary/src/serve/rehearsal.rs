//! The steps of a rehearsal as viewers see them, and the request for the next step.

use std::{cmp::Ordering, mem, net::SocketAddr, sync::Arc, time::Instant};

use axum::{
    body::Body,
    extract::{ConnectInfo, Extension, State},
    http::{HeaderMap, StatusCode},
    response::Response,
};
use serde::Deserialize;
use tokio::sync::{Mutex, mpsc, oneshot, watch};

use super::{
    Serve,
    access::{Access, Refusal, json},
    conditions::Wanted,
    input::read_json,
    outage::Outage,
    vote::{Ballots, Vote},
};
use crate::view::page::{self, Conditions, Progress};

/// The conditions that a person wants, and where to say that they hold.
type Change = (Conditions, oneshot::Sender<()>);

/// A rehearsal: its progress, and the step and the conditions that viewers want.
#[derive(Debug)]
pub(crate) struct Rehearsal {
    progress: watch::Sender<Progress>,
    /// The number of the last requested step.
    wanted: watch::Sender<usize>,
    change: mpsc::Sender<Change>,
    changes: Mutex<mpsc::Receiver<Change>>,
    vote: Option<Vote>,
}

/// A requested step that is neither the next one nor an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum NotNext {
    #[error("step {0} is under way: wait for its end")]
    UnderWay(usize),
    #[error("step {wanted} is not the next one: that is step {next}")]
    TooFar { wanted: usize, next: usize },
    #[error("there is no step {wanted}: step {last} was the last")]
    Over { wanted: usize, last: usize },
}

impl Rehearsal {
    /// A rehearsal before step 1.
    pub(crate) fn new(progress: Progress) -> Self {
        let (change, changes) = mpsc::channel(1);
        Self {
            progress: watch::Sender::new(progress),
            wanted: watch::Sender::new(0),
            change,
            changes: Mutex::new(changes),
            vote: None,
        }
    }

    /// The same, with a vote of the class, at this URL.
    pub(crate) fn with_vote(self, url: String) -> Self {
        let vote = Some(Vote::new(&url));
        self.progress.send_modify(|progress| progress.vote = Some(page::Vote { url, round: None }));
        Self { vote, ..self }
    }

    /// The vote of the class, if there is one.
    pub(super) fn vote(&self) -> Option<&Vote> {
        self.vote.as_ref()
    }

    /// Changes the progress and the ballots, and shows viewers the result.
    pub(super) fn change_with_ballots(&self, change: impl FnOnce(&mut Progress, &mut Ballots)) {
        self.progress.send_modify(|progress| {
            let Some(vote) = &self.vote else { return change(progress, &mut Ballots::default()) };
            let mut ballots = vote.ballots();
            change(progress, &mut ballots);
            if let Some(vote) = &mut progress.vote {
                vote.round = ballots.shown();
            }
        });
    }

    /// Hides the judge without a round of the vote: there is nothing to vote about before [`Self::begin_round`].
    pub(crate) fn hide_judge(&self) {
        self.change_with_ballots(|progress, ballots| {
            progress.curtain = true;
            ballots.forget();
        });
    }

    /// Begins a new round if the judge is hidden. Otherwise the last one is forgotten: it was about something else.
    pub(crate) fn begin_round(&self) {
        self.change_with_ballots(
            |progress, ballots| if progress.curtain { ballots.begin() } else { ballots.forget() },
        );
    }

    /// Hides the judge, which begins a round of the vote, or shows it, which ends the round.
    pub(crate) fn set_curtain(&self, curtain: bool) {
        self.change_with_ballots(|progress, ballots| {
            if mem::replace(&mut progress.curtain, curtain) != curtain {
                if curtain { ballots.begin() } else { ballots.close() }
            }
        });
    }

    /// The progress, to follow.
    pub(crate) fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// Changes the progress that viewers see.
    pub(crate) fn show(&self, change: impl FnOnce(&mut Progress)) {
        self.progress.send_modify(change);
    }

    /// The conditions now, and those of the step.
    pub(crate) fn conditions(&self) -> (Conditions, Conditions) {
        let progress = self.progress.borrow();
        (progress.conditions, progress.of_step)
    }

    /// Waits until a viewer wants this step.
    pub(crate) async fn until_wanted(&self, step: usize) {
        let mut wanted = self.wanted.subscribe();
        let _ = wanted.wait_for(|wanted| *wanted >= step).await; // its sender lives as long as this
    }

    /// Waits for the next conditions that a person wants. Cancel-safe.
    pub(crate) async fn next_change(&self) -> Change {
        let next = self.changes.lock().await.recv().await;
        match next {
            Some(change) => change,
            None => std::future::pending().await, // its sender lives as long as this
        }
    }

    /// Refuses the changes that are waiting: they were for another step.
    pub(crate) async fn refuse_changes(&self) {
        let mut changes = self.changes.lock().await;
        while changes.try_recv().is_ok() {}
    }

    /// Asks for these conditions, and waits until they hold.
    async fn change_conditions(&self, wanted: &Wanted) -> Result<(), Refusal> {
        let conditions = wanted.of(&self.progress.borrow())?;
        if conditions == self.progress.borrow().conditions {
            return Ok(()); // no trial begins for nothing
        }
        let other = || Refusal::new(StatusCode::CONFLICT, "another change or step is under way: try again");
        let (done, until_done) = oneshot::channel();
        self.change.try_send((conditions, done)).map_err(|_| other())?;
        until_done.await.map_err(|_| other())
    }

    /// Requests a step. Each step is taken once, even if two viewers request it.
    fn want(&self, step: usize) -> Result<(), NotNext> {
        let progress = self.progress.borrow();
        let (taken, next) = (progress.number, progress.number + 1);
        match step.cmp(&next) {
            Ordering::Less => Ok(()),
            _ if progress.next.is_none() => Err(NotNext::Over { wanted: step, last: taken }),
            Ordering::Greater => Err(NotNext::TooFar { wanted: step, next }),
            Ordering::Equal if progress.under_way => Err(NotNext::UnderWay(taken)),
            Ordering::Equal => {
                self.wanted.send_replace(step);
                Ok(())
            }
        }
    }
}

/// The body of `POST /v1/step`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WantedStep {
    /// The step's number, so that a double click takes one step.
    step: usize,
}

/// The body of `POST /v1/rehearsal`: what is to change.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Changed {
    /// Whether requests are paused.
    paused: Option<bool>,
    /// Whether the judge is hidden from all viewers.
    curtain: Option<bool>,
    /// What requests meet from now on.
    conditions: Option<Wanted>,
}

/// `POST /v1/rehearsal`: changes the conditions, pauses the requests, or hides the judge, and answers with the progress.
pub(super) async fn change(
    State(serve): State<Arc<Serve>>,
    remote: Option<Extension<ConnectInfo<SocketAddr>>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let rehearsal = serve.rehearsal()?;
    Access::check_step(remote.map(|remote| remote.0.0))?;
    let Changed { paused, curtain, conditions } = read_json(&headers, body).await?;
    if let Some(wanted) = conditions {
        rehearsal.change_conditions(&wanted).await?;
    }
    if let Some(paused) = paused {
        serve.pause(rehearsal, paused);
    }
    if let Some(curtain) = curtain {
        rehearsal.set_curtain(curtain);
    }
    let progress = rehearsal.progress.borrow().clone();
    Ok(json(&progress))
}

impl Serve {
    pub(super) fn rehearsal(&self) -> Result<&Rehearsal, Refusal> {
        let no_steps =
            || Refusal::new(StatusCode::NOT_FOUND, "there are no steps: this is not canary rehearse --page");
        self.rehearsal.as_deref().ok_or_else(no_steps)
    }

    /// Pauses the requests of the rehearsal, or goes on. The trials do not take the pause for an absence of the canary, and
    /// no outage goes on in it.
    pub(crate) fn pause(&self, rehearsal: &Rehearsal, paused: bool) {
        self.trials().pause(paused, Instant::now());
        let mut before = paused;
        rehearsal.show(|progress| before = mem::replace(&mut progress.held, paused));
        if before != paused {
            *self.outage() = Outage::default();
        }
    }

    /// Forgets all that was seen: what is watched from now on has nothing to do with it.
    pub(crate) fn forget(&self) {
        self.trials().forget(Instant::now());
        *self.outage() = Outage::default();
    }
}

/// `POST /v1/step`: answers with the progress, once the step has begun.
pub(super) async fn step(
    State(serve): State<Arc<Serve>>,
    remote: Option<Extension<ConnectInfo<SocketAddr>>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let rehearsal = serve.rehearsal()?;
    Access::check_step(remote.map(|remote| remote.0.0))?;
    let WantedStep { step } = read_json(&headers, body).await?;
    rehearsal.want(step).map_err(|error| Refusal::new(StatusCode::CONFLICT, error.to_string()))?;
    let mut progress = rehearsal.progress();
    let begun = progress.wait_for(|progress| progress.number >= step).await;
    begun.map(|progress| json(&*progress)).map_err(|error| {
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, format!("the rehearsal has ended: {error}"))
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::view::page::Canary;

    pub(in crate::serve) fn before_the_first_step() -> Progress {
        let conditions = Conditions {
            canary: Canary::None,
            share: None,
            fails: 0.0,
            delay_ms: 0.0,
            rate: 40.0,
            incident: false,
        };
        Progress {
            number: 0,
            of: 2,
            before: 0,
            title: "",
            commands: Vec::new(),
            text: String::new(),
            note: String::new(),
            began: String::new(),
            conditions,
            of_step: conditions,
            next: Some("Deploy"),
            under_way: false,
            held: false,
            curtain: false,
            vote: None,
            paused: true,
        }
    }

    fn rehearsal() -> Rehearsal {
        Rehearsal::new(before_the_first_step())
    }

    #[test]
    fn a_step_is_taken_once_however_often_it_is_asked_for() {
        let rehearsal = rehearsal();
        let wanted = || *rehearsal.wanted.borrow();
        assert_eq!(rehearsal.want(2), Err(NotNext::TooFar { wanted: 2, next: 1 }));
        assert_eq!((rehearsal.want(1), rehearsal.want(1), wanted()), (Ok(()), Ok(()), 1));
        rehearsal.show(|progress| (progress.number, progress.under_way) = (1, true));
        assert_eq!((rehearsal.want(1), rehearsal.want(2)), (Ok(()), Err(NotNext::UnderWay(1))));
        rehearsal.show(|progress| progress.under_way = false);
        assert_eq!((rehearsal.want(1), wanted()), (Ok(()), 1), "a viewer who was late");
        assert_eq!((rehearsal.want(2), wanted()), (Ok(()), 2));
    }

    #[test]
    fn after_the_last_step_there_is_none() {
        let rehearsal = rehearsal();
        rehearsal.show(|progress| (progress.number, progress.next) = (2, None));
        assert_eq!(rehearsal.want(2), Ok(()));
        for wanted in [3, 4, usize::MAX] {
            assert_eq!(rehearsal.want(wanted), Err(NotNext::Over { wanted, last: 2 }));
        }
    }

    #[tokio::test]
    async fn a_step_that_is_wanted_ends_the_wait_for_it() {
        let rehearsal = rehearsal();
        let ((), asked) = tokio::join!(rehearsal.until_wanted(1), async { rehearsal.want(1) });
        assert_eq!(asked, Ok(()));
    }
}
