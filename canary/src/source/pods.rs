//! The pods of two workloads in Kubernetes. Release and pod are drawn at random before a request is sent, so each outcome
//! is attributed for certain, also one without an answer.
//!
//! - `workload`: what the user names, and which pods belong to a release. `objects`: what is read of Kubernetes' objects,
//!   and the port and the path of a pod.
//! - `api`: the client of the API server. `kubectl`: `kubectl proxy`, which leads to it from a laptop.
//! - `roster`: the pods that are known. `keep`: keeps them up to date.
//! - `request`: one request, and whose answer it was.

mod api;
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
pub use self::{
    flags::PodsFlags,
    objects::PortName,
    workload::{Place, Selector, Workload},
};
use self::{kubectl::Proxy, request::Asking, roster::Roster};
use super::{
    Observation, Response, Seen, Source,
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
    /// Sends requests, and keeps the pods up to date.
    _tasks: JoinSet<()>,
    proxy: Option<Proxy>,
    end: End,
}

/// Whether `kubectl proxy` has ended by itself. No request can be sent then.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Not,
    Seen,
    Told,
}

impl Source for Pods {
    async fn next(&mut self) -> Option<Seen> {
        match self.end {
            End::Not => {}
            End::Seen => {
                self.end = End::Told;
                return Some(Seen::Trouble("kubectl proxy has ended, so no request can be sent".to_owned()));
            }
            End::Told => return None,
        }
        let seen = self.seen.recv().await?;
        let is_unsent =
            |seen: &Seen| matches!(seen, Seen::Request(Observation { response: Response::Unsent(_), .. }));
        if is_unsent(&seen) && self.proxy.as_mut().is_some_and(Proxy::has_ended) {
            self.end = End::Seen;
        }
        Some(seen)
    }

    fn pause(&self, paused: bool) {
        self.orders.send_replace(if paused { Orders::Pause } else { Orders::Send });
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
                let asked = async {
                    let Path { path, stratum } = drawn;
                    let response = asking.ask(&pod, &path).await;
                    let observation = Observation { number, sent, stratum, response };
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
