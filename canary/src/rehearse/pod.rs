//! A pod: a real appinfo server with a name, labels and a life of its own.

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
    labels::{LabelFile, LabelVolume, to_text},
    server::{self, Server, Shutdown},
    service::{self, AppInfoBaseline, AppInfoBroken, AppInfoService, AppInfoWithNamespace},
};
use tokio::{
    sync::oneshot,
    task::JoinHandle,
    time::{sleep, timeout},
};

use crate::{
    release::Outcome,
    source::{
        Response,
        probe::{Client, Limits, Service, Target},
    },
};

/// The namespace that all pods are in.
pub(super) const NAMESPACE: &str = "default";
/// As long as a container takes to start, about.
const START_UP: Duration = Duration::from_secs(1);
/// How often readiness is asked for, and how long one answer may take.
const PROBE: Duration = Duration::from_millis(100);
/// A server that is not ready by then never will be.
const READY_WITHIN: Duration = Duration::from_secs(10);
/// Endpoints forget a pod at once here, so what is on its way to it is there by then.
const DRAIN_DELAY: Duration = Duration::from_secs(2);
/// Connections that a pod takes, as the manifests have it.
const MAX_CONNECTIONS: u32 = 2000;

/// What runs in a pod.
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

/// A pod that runs.
pub(super) struct Pod {
    pub(super) name: String,
    /// Where it serves `/v1/appinfo`.
    pub(super) address: SocketAddr,
    labels: BTreeMap<String, String>,
    volume: LabelVolume,
    end: oneshot::Sender<Shutdown>,
    server: JoinHandle<()>,
}

impl Pod {
    /// Starts a pod, with its label volume in `volumes`, and waits until it is ready: until its own `/readyz`
    /// says so.
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

    /// Sets a label, or takes it off, as `kubectl label` does and the kubelet brings it to the pod.
    pub(super) fn label(&mut self, key: &str, value: Option<&str>) -> io::Result<()> {
        match value {
            Some(value) => self.labels.insert(key.to_owned(), value.to_owned()),
            None => self.labels.remove(key),
        };
        self.volume.swap(to_text(&self.labels))
    }

    /// Has it drain and end, as SIGTERM does. It must get no new connections by now.
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
