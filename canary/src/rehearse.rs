//! The walkthrough on one machine. Pods are real appinfo servers in this process, behind one port that spreads
//! connections as the Service would.
//!
//! - `steps`: what happens, in order. `cluster`: what it happens to, made of `pod`s behind a `balancer`.
//! - `interactive`: the steps at the pace of a person, in a terminal. `page`: the same in the browser. `unattended`:
//!   each of them checked, under `load` where pods end.

mod balancer;
mod cluster;
mod interactive;
mod load;
mod page;
mod pod;
mod steps;
mod unattended;

use std::{
    io,
    time::{Duration, Instant},
};

use appinfo::http::faults::{FAULT_DELAY_MS, FAULT_PERCENT};
use tokio::net::TcpListener;

use self::cluster::Cluster;
use crate::{
    exit::Exit,
    judge::{Budget, Fraction, InvalidNumber, Settings, Traffic},
    serve::Access,
    signals::Signals,
    trial::{Coverage, Trial},
};

/// What is not here and is on a cluster.
const LEFT_OUT: &str = "\
    No cluster: real appinfo servers in this process, behind one port that gives each connection to a random \
    ready pod, as kube-proxy does. Left out: the kubelet (labels arrive at once, a container starts in a \
    second), the scheduler, endpoint propagation (a pod that ends gets no new connection from that moment on, \
    and drains for 2 s, not 5).";

/// How long an answer may take where a person watches.
const TIMEOUT: Duration = Duration::from_secs(2);

/// What labels of the fixed canary's pod have it do for a while: see [`appinfo::http::faults`].
#[derive(Clone, Copy, Debug)]
pub struct Faults {
    /// The share of requests that fail, from 0 to 100.
    pub percent: f64,
    /// How long answers are held back, from 0 to 60000 milliseconds.
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

/// Goes through the steps as a person's keys say, with a picture of `rate` requests a second. The listener is
/// where the Service is served. `faults` are what the fixed canary is made to do for a while.
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

/// Goes through the steps as viewers of a page ask for them, with `rate` requests a second. `service` is where the
/// Service is served, and `page` is where the page is, to those that `access` allows. `faults` are what the fixed
/// canary is made to do for a while.
///
/// # Errors
/// If a port or a file fails.
pub async fn page(
    service: TcpListener,
    page: TcpListener,
    access: Access,
    signals: Signals,
    rate: f64,
    faults: Faults,
) -> io::Result<Exit> {
    let (cluster, notes) = Cluster::new(service, faults)?;
    page::run(cluster, notes, page, access, signals, rate).await
}

/// Goes through the steps by itself, and checks what each must show. The listener is where the Service is
/// served. `faults` are what the fixed canary is made to do for a while.
///
/// # Errors
/// If the output, a port or a file fails.
pub async fn unattended(listener: TcpListener, signals: Signals, faults: Faults) -> io::Result<Exit> {
    let (cluster, notes) = Cluster::new(listener, faults)?;
    unattended::run(cluster, notes, signals).await
}

/// A trial by the rules that `canary judge` has unless flags say otherwise, of a Service that gets `rate`
/// requests a second.
fn default_trial(rate: f64) -> Result<Trial, InvalidNumber> {
    let budget = Budget { traffic: Traffic::new(rate)?, slo: Fraction::new(0.999)? };
    Ok(Trial::new(Settings::default(), Some(budget), Coverage::Sample, Instant::now()))
}
