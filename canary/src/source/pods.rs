//! The pods of two workloads in Kubernetes. Release and pod are drawn at random before a request is sent, so each outcome
//! is attributed for certain, also one without an answer.
//!
//! - `workload`: what the user names, and which pods belong to a release. `objects`: what is read of Kubernetes' objects,
//!   and the port and the path of a pod.
//! - `api`: the client of the API server. `kubectl`: `kubectl proxy`, which leads to it from a laptop.
//! - `roster`: the pods that are known. `keep`: keeps them up to date.
//! - `request`: one request, and whose answer it was. `asked`: what was asked, for the verdict and for a message.

mod api;
mod asked;
mod flags;
mod keep;
mod kubectl;
mod objects;
mod request;
mod roster;
mod workload;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use canary_judge::Release;
use tokio::{
    select,
    sync::{mpsc, watch},
    task::JoinSet,
};

pub(crate) use self::flags::conflict;
use self::{
    asked::FirstAnswers,
    kubectl::{News, Proxy},
    request::Asking,
    roster::Roster,
};
pub use self::{
    flags::PodsFlags,
    objects::PortName,
    workload::{Place, Selector, Workload},
};
use super::{
    Asked, FailingAnswer, Observation, Response, Seen, Source,
    probe::{Orders, Pace, Turns},
    strata::{Path, Paths},
};

/// The pods that are known, shared by the tasks that keep them and the one that sends.
type Shared = Arc<Mutex<Roster>>;

fn lock(roster: &Shared) -> std::sync::MutexGuard<'_, Roster> {
    roster.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A sender of requests to pods. Dropping it cancels all open requests, and ends `kubectl proxy`.
struct Pods {
    seen: mpsc::Receiver<Seen>,
    orders: watch::Sender<Orders>,
    asking: Arc<Asking>,
    /// Sends requests, and keeps the pods up to date.
    _tasks: JoinSet<()>,
    /// `None` in the cluster.
    proxy: Option<Proxy>,
    /// Whether it has ended for good, so that no request can be sent.
    ended: bool,
    first_answers: FirstAnswers,
    /// A mistake that is to be told next.
    mistake: Option<String>,
}

impl Pods {
    /// What is seen next, without mistakes in the flags. Cancel-safe.
    async fn seen(&mut self) -> Option<Seen> {
        if self.ended {
            return None;
        }
        let Some(proxy) = &mut self.proxy else { return self.seen.recv().await };
        let news = select! {
            seen = self.seen.recv() => return seen,
            news = proxy.news() => news,
        };
        Some(Seen::Trouble(match news {
            News::Again(why) => why,
            News::End(why) => {
                self.ended = true;
                why
            }
        }))
    }
}

impl Source for Pods {
    async fn next(&mut self) -> Option<Seen> {
        if let Some(mistake) = self.mistake.take() {
            return Some(Seen::Trouble(mistake));
        }
        let seen = self.seen().await?;
        if let Seen::Request(observation) = &seen {
            self.mistake = self.first_answers.examine(observation, &self.asking.places);
        }
        Some(seen)
    }

    fn pause(&self, paused: bool) {
        self.orders.send_replace(if paused { Orders::Pause } else { Orders::Send });
    }

    fn last_failure(&self) -> Option<FailingAnswer> {
        self.asking.failures.get()
    }

    fn asked(&self) -> Option<Asked> {
        self.asking.places.asked()
    }
}

/// What is drawn at random before a request is sent: its release, and its path.
struct Draw {
    /// The canary's share.
    share: f64,
    /// `None` for the path of each pod's endpoint.
    paths: Option<Paths<String>>,
}

/// Sends requests until the pace is used up.
async fn send_requests(
    asking: Arc<Asking>,
    roster: Shared,
    draw: Draw,
    pace: Pace,
    seen: mpsc::Sender<Seen>,
    orders: watch::Receiver<Orders>,
) {
    let mut turns = Turns::new(pace, orders);
    let end = turns.end();
    let requests = async {
        let mut number = 0;
        while pace.count.is_none_or(|count| number < count) {
            let Some(turn) = turns.next().await else { return };
            let release = if fastrand::f64() < draw.share { Release::Canary } else { Release::Stable };
            // without a pod of this release, the turn passes: the other release gets no more than its share
            let Some(pod) = lock(&roster).choose(release) else { continue };
            let drawn = draw.paths.as_ref().map(|paths| paths.draw().clone());
            let drawn = drawn.unwrap_or_else(|| Path { path: pod.endpoint.path.clone(), stratum: None });
            let (asking, seen) = (Arc::clone(&asking), seen.clone());
            tokio::spawn(async move {
                let sent = Instant::now();
                // a pod that has restarted, and is not ready again, has just started
                let started = Some(pod.started.unwrap_or(sent));
                let asked = async {
                    let Path { path, stratum } = drawn;
                    let response = asking.ask(&pod, &path).await;
                    if !matches!(response, Response::Unsent(_)) {
                        asking.places.see(&pod.endpoint, &path);
                    }
                    let observation = Observation { number, sent, started, stratum, response };
                    let _ = seen.send(Seen::Request(observation)).await; // the receiver may be gone
                };
                select! {
                    () = asked => {}
                    () = seen.closed() => {}
                }
                drop(turn);
            });
            number += 1;
        }
    };
    select! {
        () = requests => {}
        () = end => {}
        () = seen.closed() => {}
    }
}
