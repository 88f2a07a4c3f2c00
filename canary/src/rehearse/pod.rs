//! A pod: a real appinfo server with its own name, labels and lifecycle.

use std::{
    collections::BTreeMap,
    io,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    sync::Arc,
    time::Duration,
};

use appinfo::{
    config::Listen,
    labels::LabelFile,
    server::{self, Server, Shutdown},
    service::{self, AppInfoBaseline, AppInfoBroken, AppInfoService, AppInfoWithNamespace},
};
use tokio::{
    sync::oneshot,
    task::JoinHandle,
    time::{sleep, timeout},
};

use super::volume::{LabelVolume, to_text};
use crate::source::{
    Response,
    probe::{Client, Limits, Service, Target},
};
use canary_judge::Outcome;

/// The namespace of all pods.
pub(super) const NAMESPACE: &str = "default";
/// About the time that a container takes to start.
const START_UP: Duration = Duration::from_secs(1);
/// The time between two readiness probes, and the time limit of each.
const PROBE: Duration = Duration::from_millis(100);
/// The time after which a server that is not ready counts as failed.
const READY_WITHIN: Duration = Duration::from_secs(10);
/// The drain delay. It is short, because a pod gets no new connections from the moment of its removal.
const DRAIN_DELAY: Duration = Duration::from_secs(2);
/// The maximum number of connections of a pod, as in the manifests.
const MAX_CONNECTIONS: u32 = 2000;

/// The image of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Image {
    /// `runyonsolutions/appinfo:1`.
    Baseline,
    /// `runyonsolutions/appinfo:2`.
    Broken,
    /// `runyonsolutions/appinfo:3`.
    WithNamespace,
}

impl Image {
    fn service(self) -> Box<dyn AppInfoService> {
        match self {
            Self::Baseline => Box::new(AppInfoBaseline),
            Self::Broken => Box::new(AppInfoBroken),
            Self::WithNamespace => Box::new(AppInfoWithNamespace),
        }
    }
}

/// A running pod.
pub(super) struct RunningPod {
    pub(super) name: String,
    /// The address of its `/v1/appinfo`.
    pub(super) address: SocketAddr,
    labels: BTreeMap<String, String>,
    volume: LabelVolume,
    end: oneshot::Sender<Shutdown>,
    server: JoinHandle<()>,
}

impl RunningPod {
    /// Starts a pod, with its label volume in `volumes`, and waits until its `/readyz` says that it is ready.
    pub(super) async fn start(
        name: String,
        labels: BTreeMap<String, String>,
        image: Image,
        volumes: &Path,
    ) -> io::Result<Self> {
        let volume = LabelVolume::new(volumes.join(&name), to_text(&labels))?;
        sleep(START_UP).await;
        let anywhere = Listen::At((Ipv4Addr::LOCALHOST, 0).into());
        let (public, admin) = (server::bind(anywhere)?, server::bind(anywhere)?);
        let (address, admin_address) = (public.local_addr()?, admin.local_addr()?);
        let pod = service::Pod {
            name: name.clone(),
            namespace: NAMESPACE.to_owned(),
            label_file: LabelFile::new(volume.file()),
        };
        let mut server = Server::new(pod, image.service(), public, admin)?;
        server.max_connections = MAX_CONNECTIONS;
        server.drain_delay = DRAIN_DELAY;
        let (end, ending) = oneshot::channel();
        let server = tokio::spawn(server.run(async { ending.await.unwrap_or(Shutdown::Now) }));
        let new = Self { name, address, labels, volume, end, server };
        timeout(READY_WITHIN, until_ready(admin_address))
            .await
            .map_err(|_| io::Error::other(format!("pod {} does not become ready", new.name)))?;
        Ok(new)
    }

    /// Sets or removes a label: the effect of `kubectl label` and the kubelet.
    pub(super) fn label(&mut self, key: &str, value: Option<&str>) -> io::Result<()> {
        match value {
            Some(value) => self.labels.insert(key.to_owned(), value.to_owned()),
            None => self.labels.remove(key),
        };
        self.volume.swap(to_text(&self.labels))
    }

    /// Drains and ends it, like SIGTERM. It must not get new connections by then.
    pub(super) async fn end(self) -> io::Result<()> {
        let _ = self.end.send(Shutdown::Drain); // an error means that the server has ended already
        self.server.await.map_err(|error| io::Error::other(format!("pod {}: {error}", self.name)))
    }
}

async fn until_ready(admin: SocketAddr) {
    let mut client = Client::new(Arc::new(Service::plain(Target::at(admin, "/readyz"))));
    loop {
        if let Response::Answer(answer) = client.response(Limits::timeout(PROBE)).await
            && answer.outcome == Outcome::Success
        {
            return;
        }
        sleep(PROBE).await;
    }
}
