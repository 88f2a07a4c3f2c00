//! The Deployments, and the effects of kubectl commands on them.

use std::{collections::BTreeMap, io, mem, path::PathBuf, sync::Arc};

use appinfo::http::faults::{FAULT_DELAY_MS, FAULT_PERCENT};
use tempfile::TempDir;
use tokio::{net::TcpListener, sync::mpsc, task::JoinSet};

use super::{
    Faults,
    balancer::Balancer,
    mystery::{Player, Riddle},
    pod::{Image, RunningPod},
};
use crate::{
    source::probe::Target,
    view::page::{Canary, Conditions},
};
use canary_judge::Release;

/// The letters and digits of the random ends of names, as in Kubernetes.
const SUFFIX_CHARACTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// The share of requests to each side that fail in an incident, in per cent.
const INCIDENT_PERCENT: f64 = 30.0;

/// A Deployment, as in its manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Manifest {
    pub(super) name: &'static str,
    /// Its pods' labels, without `app` and `pod-template-hash`.
    labels: &'static [(&'static str, &'static str)],
    image: Image,
    /// The hash of its pod template. Another image has another one.
    pub(super) template_hash: &'static str,
}

/// `deployment/appinfo.yaml`.
pub(super) const STABLE: Manifest = Manifest {
    name: "appinfo",
    labels: &[("release", "stable")],
    image: Image::Baseline,
    template_hash: "567b989978",
};
/// The same with the image `runyonsolutions/appinfo:3`.
pub(super) const PROMOTED: Manifest =
    Manifest { image: Image::WithNamespace, template_hash: "84d5cf794d", ..STABLE };
/// `deployment/canary-broken.yaml`.
pub(super) const CANARY_BROKEN: Manifest = Manifest {
    name: "appinfo-canary-broken",
    labels: &[("release", "canary"), ("canary", "broken")],
    image: Image::Broken,
    template_hash: "c66665c44",
};
/// The canary of a mystery. Its labels tell nothing.
pub(super) const CANARY_MYSTERY: Manifest = Manifest {
    name: "appinfo-canary-mystery",
    labels: &[("release", "canary"), ("canary", "mystery")],
    image: Image::WithNamespace,
    template_hash: "5c8d7b6f9",
};
/// `deployment/canary-fixed.yaml`.
pub(super) const CANARY_FIXED: Manifest = Manifest {
    name: "appinfo-canary-fixed",
    labels: &[("release", "canary"), ("canary", "fixed")],
    image: Image::WithNamespace,
    template_hash: "744f96dc75",
};

impl Manifest {
    /// The canary that it is, for the page.
    fn canary(self) -> Canary {
        match (self.release(), self.image) {
            (Release::Stable, _) => Canary::None,
            (Release::Canary, Image::Broken) => Canary::Broken,
            (Release::Canary, _) => Canary::Fixed,
        }
    }

    /// What its label `release` says.
    fn release(self) -> Release {
        if self.labels.contains(&("release", "canary")) { Release::Canary } else { Release::Stable }
    }

    /// Starts a pod of it, with this number.
    async fn start_pod(
        self,
        volumes: PathBuf,
        riddle: Option<Arc<Riddle>>,
        pod: usize,
    ) -> io::Result<RunningPod> {
        let suffix: String =
            (0..5).filter_map(|_| fastrand::choice(SUFFIX_CHARACTERS)).map(|it| char::from(*it)).collect();
        let common = [("app", "appinfo"), ("pod-template-hash", self.template_hash)];
        let labels: BTreeMap<_, _> = self
            .labels
            .iter()
            .chain(&common)
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        RunningPod::start(
            format!("{}-{}-{suffix}", self.name, self.template_hash),
            labels,
            self.image,
            riddle.map(|riddle| Player { riddle, release: self.release(), pod }),
            &volumes,
        )
        .await
    }
}

/// The pods, and the Service in front of them.
pub(super) struct Cluster {
    balancer: Balancer,
    /// The pods by the name of their Deployment, oldest first.
    pods: BTreeMap<&'static str, Vec<RunningPod>>,
    notes: mpsc::UnboundedSender<String>,
    /// The faults of the fixed canary in its faulty step.
    pub(super) faults: Faults,
    /// What is hidden, if this is a mystery.
    pub(super) riddle: Option<Arc<Riddle>>,
    /// The label volumes of all pods. They are removed with the cluster.
    directory: TempDir,
}

impl Cluster {
    /// A cluster without pods, and a channel of notes about what happens, in sentences.
    pub(super) fn new(
        listener: TcpListener,
        faults: Faults,
    ) -> io::Result<(Self, mpsc::UnboundedReceiver<String>)> {
        let directory = TempDir::with_prefix("canary-rehearse-").map_err(|error| {
            io::Error::new(error.kind(), format!("cannot make a folder for the pods' labels: {error}"))
        })?;
        let (notes, heard) = mpsc::unbounded_channel();
        let balancer = Balancer::new(listener)?;
        Ok((Self { balancer, pods: BTreeMap::new(), notes, faults, riddle: None, directory }, heard))
    }

    /// The address of the Service.
    pub(super) fn target(&self) -> Target {
        let path = if self.riddle.is_some() { "/" } else { "/v1/appinfo" };
        Target::at(self.balancer.address, path)
    }

    /// The last shortage of this machine that the Service met, in words.
    pub(super) fn shortage(&self) -> Option<String> {
        self.balancer.shortage()
    }

    /// The names of all pods that get connections.
    pub(super) fn pod_names(&self) -> impl Iterator<Item = &str> {
        self.pods.values().flatten().map(|pod| pod.name.as_str())
    }

    /// The stable release's first pod.
    pub(super) fn first_stable(&self) -> Option<&RunningPod> {
        self.pods.get(STABLE.name)?.first()
    }

    /// Scales a Deployment up to this many ready pods: `kubectl create` for the first one, `kubectl scale` for
    /// more.
    pub(super) async fn scale(&mut self, manifest: Manifest, replicas: usize) -> io::Result<()> {
        let running = self.pods.get(manifest.name).map_or(0, Vec::len);
        let mut starting: JoinSet<_> = (running..replicas)
            .map(|pod| manifest.start_pod(self.volumes(), self.riddle.clone(), pod))
            .collect();
        while let Some(pod) = starting.join_next().await {
            self.admit(manifest, pod.map_err(io::Error::other)??);
        }
        Ok(())
    }

    /// Sets a label of the stable release's first pod.
    pub(super) fn label_first_stable(&mut self, key: &str, value: &str) -> io::Result<()> {
        if let Some(pod) = self.pods.get_mut(STABLE.name).and_then(|pods| pods.first_mut()) {
            pod.label(key, Some(value))?;
            let note = format!("pod {} now has the label {key}={value}", pod.name);
            self.note(note);
        }
        Ok(())
    }

    /// Sets the labels of these faults on a Deployment's pods, or removes them.
    pub(super) fn label_faults(&mut self, manifest: Manifest, faults: Option<Faults>) -> io::Result<()> {
        let labels: BTreeMap<_, _> = faults.map(Faults::labels).unwrap_or_default().into_iter().collect();
        let mut notes = Vec::new();
        for pod in self.pods.get_mut(manifest.name).into_iter().flatten() {
            for key in [FAULT_PERCENT.label, FAULT_DELAY_MS.label] {
                let value = labels.get(key).map(String::as_str);
                if pod.label(key, value)? {
                    notes.push(match value {
                        Some(value) => format!("pod {} now has the label {key}={value}", pod.name),
                        None => format!("pod {} no longer has the label {key}", pod.name),
                    });
                }
            }
        }
        for note in notes {
            self.note(note);
        }
        Ok(())
    }

    /// The Deployment of the canary, if it has pods.
    pub(super) fn canary(&self) -> Option<Manifest> {
        [CANARY_BROKEN, CANARY_FIXED].into_iter().find(|canary| self.pods.contains_key(canary.name))
    }

    /// The canary that it has, for the page.
    pub(super) fn shown_canary(&self) -> Canary {
        self.canary().map_or(Canary::None, Manifest::canary)
    }

    /// Gives the pods of both sides the labels for these conditions.
    pub(super) fn label_conditions(&mut self, conditions: &Conditions) -> io::Result<()> {
        let incident = if conditions.incident { INCIDENT_PERCENT } else { 0.0 };
        let of_stable = Faults { percent: incident, delay_ms: 0.0 };
        let of_canary = Faults { percent: either(conditions.fails, incident), delay_ms: conditions.delay_ms };
        for (manifest, faults) in [(STABLE, of_stable), (CANARY_BROKEN, of_canary), (CANARY_FIXED, of_canary)]
        {
            let any = faults.percent > 0.0 || faults.delay_ms > 0.0;
            self.label_faults(manifest, any.then_some(faults))?;
        }
        Ok(())
    }

    /// Replaces a Deployment's pods by pods of another template, one by one. A new one must be ready before an
    /// old one ends (maxSurge: 1, maxUnavailable: 0). Returns when the last old pod has ended.
    pub(super) async fn roll(&mut self, to: Manifest) -> io::Result<()> {
        let mut ending = JoinSet::new();
        let old = self.pods.remove(to.name).unwrap_or_default();
        for (pod, old) in old.into_iter().enumerate() {
            self.admit(to, to.start_pod(self.volumes(), self.riddle.clone(), pod).await?);
            self.dismiss(old, &mut ending);
        }
        self.all_ended(ending).await
    }

    /// Deletes a Deployment. Returns when its pods have ended.
    pub(super) async fn delete(&mut self, manifest: Manifest) -> io::Result<()> {
        let mut ending = JoinSet::new();
        for pod in self.pods.remove(manifest.name).unwrap_or_default() {
            self.dismiss(pod, &mut ending);
        }
        self.all_ended(ending).await
    }

    /// Deletes all Deployments. Returns when their pods have ended.
    pub(super) async fn delete_all(&mut self) -> io::Result<()> {
        let mut ending = JoinSet::new();
        for pod in mem::take(&mut self.pods).into_values().flatten() {
            self.dismiss(pod, &mut ending);
        }
        self.all_ended(ending).await
    }

    /// Sets the canary's share of new connections, from 0 to 1, as the weights of a gateway do. Without one, each pod
    /// gets as many, as from a Service.
    pub(super) fn set_canary_share(&self, share: Option<f64>) {
        let shown = |share: f64| format!("{:.0} %", (share * 100.0).floor());
        let before = self.balancer.set_canary_share(share);
        match (before.map(shown), share.map(shown)) {
            (before, share) if before == share => {}
            (_, Some(share)) => self.note(format!("the canary now gets {share} of new connections")),
            (_, None) => self.note("each pod now gets as many new connections as any other".to_owned()),
        }
    }

    fn volumes(&self) -> PathBuf {
        self.directory.path().to_owned()
    }

    fn admit(&mut self, manifest: Manifest, pod: RunningPod) {
        self.balancer.add(pod.address, manifest.release());
        self.note(format!("pod {} is ready and gets connections", pod.name));
        self.pods.entry(manifest.name).or_default().push(pod);
    }

    /// Removes a pod from the Service, and drains it.
    fn dismiss(&self, pod: RunningPod, ending: &mut JoinSet<io::Result<String>>) {
        self.balancer.remove(pod.address);
        self.note(format!("pod {} gets no new connections and drains", pod.name));
        ending.spawn(async move {
            let name = pod.name.clone();
            pod.end().await.map(|()| name)
        });
    }

    async fn all_ended(&self, mut ending: JoinSet<io::Result<String>>) -> io::Result<()> {
        while let Some(ended) = ending.join_next().await {
            self.note(format!("pod {} has ended", ended.map_err(io::Error::other)??));
        }
        Ok(())
    }

    fn note(&self, text: String) {
        let _ = self.notes.send(text); // the receiver may be gone
    }
}

/// How often at least one of two independent things happens, in per cent. Rounded, because it is a label's value.
fn either(one: f64, other: f64) -> f64 {
    let neither = (1.0 - one / 100.0) * (1.0 - other / 100.0);
    ((1.0 - neither) * 1e5).round() / 1e3
}
