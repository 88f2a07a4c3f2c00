//! The walkthrough on one machine. Pods are real appinfo servers in this process, behind one port that spreads
//! connections like the Service.
//!
//! - `steps`: the steps, in order. `cluster`: the Deployments, made of `pod`s behind a `balancer`.
//! - `mystery`: a canary of which only a seed says how it is.
//! - `interactive`: the steps at the pace of a person, in a terminal. `page`: the same in the browser. `unattended`:
//!   each of them checked, under `load` where pods end.

mod balancer;
mod cluster;
mod interactive;
mod load;
mod mystery;
mod page;
mod pod;
mod steps;
mod unattended;

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use appinfo::http::faults::{FAULT_DELAY_MS, FAULT_PERCENT};
use tokio::net::TcpListener;

use self::{cluster::Cluster, mystery::Riddle};
use crate::{
    exit::Exit,
    serve::Access,
    signals::Signals,
    trial::{Coverage, Trial},
};
use canary_judge::{Budget, Fraction, InvalidNumber, Settings, Traffic};

/// What a real cluster has, and the rehearsal does not.
const LEFT_OUT: &str = "\
    No cluster: real appinfo servers in this process, behind one port that gives each connection to a random \
    ready pod, as kube-proxy does. Left out: the kubelet (labels arrive at once, a container starts in a \
    second), the scheduler, endpoint propagation (a pod that ends gets no new connection from that moment on, \
    and drains for 2 s, not 5).";

/// The time limit of an answer, while a person watches.
const TIMEOUT: Duration = Duration::from_secs(2);

/// The faults that labels give the fixed canary for some steps: see [`appinfo::http::faults`].
#[derive(Clone, Copy, Debug)]
pub struct Faults {
    /// The share of requests that fail, from 0 to 100.
    pub percent: f64,
    /// The delay of answers, from 0 to 60000 milliseconds.
    pub delay_ms: f64,
}

impl Faults {
    /// The labels, by key.
    fn labels(self) -> Vec<(&'static str, String)> {
        let mut labels = vec![(FAULT_PERCENT.label, self.percent.to_string())];
        if self.delay_ms > 0.0 {
            labels.push((FAULT_DELAY_MS.label, self.delay_ms.to_string()));
        }
        labels
    }
}

/// Goes through the steps by keys, with a picture of `rate` requests a second. The Service is served on the
/// listener. `faults` are those of the fixed canary in its faulty step.
///
/// # Errors
/// If the terminal, a port or a file fails.
pub async fn interactive(
    listener: TcpListener,
    signals: Signals,
    rate: f64,
    faults: Faults,
) -> io::Result<Exit> {
    let (cluster, notes) = Cluster::new(listener, faults)?;
    interactive::run(cluster, notes, signals, rate).await
}

/// Goes through the steps by the button of the page, or through those of the `mystery` with this seed, with `rate`
/// requests a second. The Service is served on `service`, the page on the first of `page`, for the requests that
/// `access` allows, and a vote of phones on the other one, if there is one. `faults` are those of the fixed canary in
/// its faulty step.
///
/// # Errors
/// If a port or a file fails.
pub async fn page(
    service: TcpListener,
    page: (TcpListener, Option<TcpListener>),
    access: Access,
    signals: Signals,
    rate: f64,
    faults: Faults,
    mystery: Option<u32>,
) -> io::Result<Exit> {
    let (mut cluster, notes) = Cluster::new(service, faults)?;
    cluster.riddle = mystery.map(|seed| Arc::new(Riddle::of(seed)));
    page::run(cluster, notes, page, access, signals, rate).await
}

/// Goes through the steps unattended, and checks the result of each. The Service is served on the listener.
/// `faults` are those of the fixed canary in its faulty step.
///
/// # Errors
/// If the output, a port or a file fails.
pub async fn unattended(listener: TcpListener, signals: Signals, faults: Faults) -> io::Result<Exit> {
    let (cluster, notes) = Cluster::new(listener, faults)?;
    unattended::run(cluster, notes, signals).await
}

/// A trial with the default settings of `canary judge`, of a Service that gets `rate` requests a second.
fn default_trial(rate: f64) -> Result<Trial, InvalidNumber> {
    let budget = Budget { traffic: Traffic::new(rate)?, slo: Fraction::new(0.999)? };
    Ok(Trial::new(Settings::default(), Some(budget), Coverage::Sample, Instant::now()))
}
