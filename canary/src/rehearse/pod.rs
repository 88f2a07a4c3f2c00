//! A pod: a real appinfo server with its own name, labels and lifecycle.

use std::{
    collections::BTreeMap,
    fs, io,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use appinfo::{
    config::Listen,
    http::{self, Metrics, admin},
    labels::LabelFile,
    server::{self, Phase, Server, Shutdown},
    service::{self, AppInfoBaseline, AppInfoBroken, AppInfoService, AppInfoWithNamespace},
};
use tokio::{
    net::TcpListener,
    sync::{oneshot, watch},
    task::JoinHandle,
    time::{sleep, timeout},
};

use super::mystery::Player;
use crate::source::{
    Response,
    probe::{Client, Limits, Service, Target},
    shortage,
};
use canary_judge::Outcome;

/// The namespace of all pods.
pub(super) const NAMESPACE: &str = "default";
/// About the time that a container takes to start.
const START_UP: Duration = Duration::from_secs(1);
/// The time between two readiness probes.
const PROBE: Duration = Duration::from_millis(100);
/// The time limit of each. On a busy machine, an answer may take longer than the time between two.
const PROBE_LIMIT: Duration = Duration::from_secs(2);
/// The time after which a server that is not ready counts as failed.
const READY_WITHIN: Duration = Duration::from_secs(30);
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
    label_file: PathBuf,
    end: oneshot::Sender<Shutdown>,
    server: JoinHandle<()>,
}

impl RunningPod {
    /// Starts a pod, with its label file in `directory`, and waits until its `/readyz` says that it is ready.
    pub(super) async fn start(
        name: String,
        labels: BTreeMap<String, String>,
        image: Image,
        player: Option<Player>,
        directory: &Path,
    ) -> io::Result<Self> {
        let label_file = directory.join(&name);
        write_labels(&label_file, &labels)?;
        sleep(START_UP).await;
        let anywhere = Listen::At((Ipv4Addr::LOCALHOST, 0).into());
        let (public, admin) = (server::bind(anywhere)?, server::bind(anywhere)?);
        let (address, admin_address) = (public.local_addr()?, admin.local_addr()?);
        let pod = service::Pod {
            name: name.clone(),
            namespace: NAMESPACE.to_owned(),
            label_file: LabelFile::new(&label_file),
        };
        let mut server = server_of(pod, image, player, (public, admin))?;
        server.max_connections = MAX_CONNECTIONS;
        server.drain_delay = DRAIN_DELAY;
        let (end, ending) = oneshot::channel();
        let server = tokio::spawn(server.run(async { ending.await.unwrap_or(Shutdown::Now) }));
        let new = Self { name, address, labels, label_file, end, server };
        timeout(READY_WITHIN, until_ready(admin_address))
            .await
            .map_err(|_| io::Error::other(format!("pod {} does not become ready", new.name)))?;
        Ok(new)
    }

    /// Sets or removes a label: the effect of `kubectl label` and the kubelet. Returns whether that changed anything.
    pub(super) fn label(&mut self, key: &str, value: Option<&str>) -> io::Result<bool> {
        let before = match value {
            Some(value) => self.labels.insert(key.to_owned(), value.to_owned()),
            None => self.labels.remove(key),
        };
        if before.as_deref() == value {
            return Ok(false);
        }
        write_labels(&self.label_file, &self.labels)?;
        Ok(true)
    }

    /// Drains and ends it, like SIGTERM. It must not get new connections by then.
    pub(super) async fn end(self) -> io::Result<()> {
        let _ = self.end.send(Shutdown::Drain); // an error means that the server has ended already
        self.server.await.map_err(|error| io::Error::other(format!("pod {}: {error}", self.name)))
    }
}

/// The server of a pod, as its image has it, or in a mystery.
fn server_of(
    pod: service::Pod,
    image: Image,
    player: Option<Player>,
    (public, admin): (TcpListener, TcpListener),
) -> io::Result<Server> {
    let Some(player) = player else { return Server::new(pod, image.service(), public, admin) };
    let (pod, service, phase) = (Arc::new(pod), image.service(), watch::Sender::new(Phase::Serving));
    let metrics = Arc::new(Metrics::new(service.name()).map_err(io::Error::other)?);
    let of_probes = admin::router(Arc::clone(&pod), phase.subscribe(), Arc::clone(&metrics));
    let of_clients = player.in_front_of(http::router(pod, service, metrics));
    Ok(Server::of_routers((public, of_clients), Some((admin, of_probes)), phase))
}

/// Writes a label file with the same text as the kubelet (`FormatMap` in `pkg/fieldpath/fieldpath.go` of
/// <https://github.com/kubernetes/kubernetes>). As there, a reader finds either the old labels or the new ones.
fn write_labels(file: &Path, labels: &BTreeMap<String, String>) -> io::Result<()> {
    let lines: Vec<_> = labels.iter().map(|(key, value)| format!("{key}={value:?}")).collect();
    let new = file.with_extension("new");
    fs::write(&new, lines.join("\n")).and_then(|()| fs::rename(&new, file)).map_err(|error| {
        let cause = shortage(&error).unwrap_or_else(|| error.to_string());
        io::Error::new(error.kind(), format!("cannot write a pod's labels to {}: {cause}", file.display()))
    })
}

async fn until_ready(admin: SocketAddr) {
    let mut client = Client::new(Arc::new(Service::plain(Target::at(admin, "/readyz"))));
    loop {
        if let Response::Answer(answer) = client.response(Limits::timeout(PROBE_LIMIT)).await
            && answer.outcome == Outcome::Success
        {
            return;
        }
        sleep(PROBE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reading_has_the_labels_of_the_last_writing() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("appinfo-1");
        let file = LabelFile::new(&path);
        for release in ["stable", "canary", "stable"] {
            let labels = [("app", "appinfo"), ("release", release)];
            let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
            write_labels(&path, &labels).expect("written");
            assert_eq!(file.read().expect("labels").as_map(), &labels);
        }
        let text = fs::read_to_string(&path).expect("text");
        assert_eq!(text, "app=\"appinfo\"\nrelease=\"stable\"");
    }
}
