//! What the tests share: a Service with real appinfo servers behind it, the binary, patience.
#![allow(dead_code, unreachable_pub, reason = "each test crate uses its part")]

pub mod terminal;

use std::{
    collections::HashMap,
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Output, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use appinfo::{
    config::Listen,
    labels::{LabelFile, LabelVolume},
    server::{self, Server},
    service::{AppInfoBaseline, AppInfoBroken, AppInfoService, AppInfoWithNamespace, Pod},
};
use serde_json::Value;
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// Long enough for anything that happens at all, on the busiest machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for a condition.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// What a pod runs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Version {
    Baseline,
    Broken,
    WithNamespace,
    /// Accepts connections and never answers.
    Hanging,
}

/// A Service that gives connections to its pods in turn, so that shares are exact.
pub struct Fleet {
    runtime: Runtime,
    directory: TempDir,
    /// By the names of the pods.
    volumes: HashMap<String, LabelVolume>,
    pods: Arc<Mutex<Vec<SocketAddr>>>,
    pub address: SocketAddr,
    /// How many connections there have been.
    pub connections: Arc<AtomicUsize>,
}

impl Fleet {
    /// Without a pod yet: connections are closed.
    pub fn new() -> Self {
        let front = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let new = Self {
            runtime: Runtime::new().expect("a runtime"),
            directory: tempfile::tempdir().expect("a directory"),
            volumes: HashMap::new(),
            pods: Arc::default(),
            address: front.local_addr().expect("its address"),
            connections: Arc::default(),
        };
        let (pods, connections) = (Arc::clone(&new.pods), Arc::clone(&new.connections));
        thread::spawn(move || {
            for client in front.incoming().map_while(Result::ok) {
                let turn = connections.fetch_add(1, Ordering::Relaxed);
                let pods = pods.lock().expect("no panic").clone();
                if let Some(pod) = pods.get(turn % pods.len().max(1)) {
                    let pod = TcpStream::connect(pod).expect("the pod listens");
                    let back = (pod.try_clone().expect("a handle"), client.try_clone().expect("a handle"));
                    thread::spawn(move || copy(client, pod));
                    thread::spawn(move || copy(back.0, back.1));
                }
            }
        });
        new
    }

    /// Three stable pods, and one of that release and version.
    pub fn with_canary(version: Version) -> Self {
        let mut new = Self::new();
        for number in 1..=3 {
            new.add(&format!("appinfo-{number}"), "release=\"stable\"", Version::Baseline);
        }
        new.add("appinfo-canary-1", "release=\"canary\"", version);
        new
    }

    /// A directory of its own, removed with it.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn add(&mut self, name: &str, labels: &str, version: Version) {
        let service: Box<dyn AppInfoService> = match version {
            Version::Baseline => Box::new(AppInfoBaseline),
            Version::Broken => Box::new(AppInfoBroken),
            Version::WithNamespace => Box::new(AppInfoWithNamespace),
            Version::Hanging => {
                let mute = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
                self.pods.lock().expect("no panic").push(mute.local_addr().expect("its address"));
                thread::spawn(move || mute.incoming().map_while(Result::ok).collect::<Vec<_>>());
                return;
            }
        };
        let volume = LabelVolume::new(self.directory.path().join(name), text(labels)).expect("a volume");
        let _within = self.runtime.enter();
        let listen = || server::bind(Listen::At((Ipv4Addr::LOCALHOST, 0).into())).expect("a port");
        let (public, admin) = (listen(), listen());
        let address = public.local_addr().expect("its address");
        let pod = Pod {
            name: name.to_owned(),
            namespace: "space".to_owned(),
            label_file: LabelFile::new(volume.file()),
        };
        let server = Server::new(pod, service, public, admin).expect("a server");
        self.volumes.insert(name.to_owned(), volume);
        self.runtime.spawn(server.run(std::future::pending()));
        self.pods.lock().expect("no panic").push(address);
    }

    /// Replaces a pod's labels.
    pub fn relabel(&self, name: &str, labels: &str) {
        self.volumes[name].swap(text(labels)).expect("a swap");
    }
}

/// The text of a label file with these lines.
fn text(labels: &str) -> String {
    format!("app=\"appinfo\"\n{labels}")
}

fn copy(mut from: TcpStream, mut to: TcpStream) {
    let _ = std::io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
}

/// The binary.
pub fn canary(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_canary"));
    command.args(arguments).env_remove("NO_COLOR");
    command
}

/// Runs it to its end: exit code, standard output, standard error.
pub fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = canary(arguments).output().expect("it runs");
    (status.code(), String::from_utf8(stdout).expect("UTF-8"), String::from_utf8(stderr).expect("UTF-8"))
}

/// Starts it with its output in a pipe.
pub fn start(arguments: &[&str]) -> Child {
    canary(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts")
}

/// Lines of JSON.
pub fn json_lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}
