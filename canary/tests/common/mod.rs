//! Helpers that the tests of canary share: a Service with real appinfo servers, and the binary. `testkit` has those that
//! the tests of appinfo use, too.
#![allow(dead_code, unreachable_pub, reason = "each test crate uses its part")]

pub mod browser;
pub mod nginx;
pub mod pages;
pub mod scripted;
pub mod serving;
pub mod terminal;

use std::{
    collections::HashMap,
    io::Write,
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Output, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use appinfo::{
    config::Listen,
    labels::LabelFile,
    server::{self, Server},
    service::{AppInfoBaseline, AppInfoBroken, AppInfoService, AppInfoWithNamespace, Pod},
};
use serde_json::Value;
use tempfile::TempDir;
use testkit::labels::LabelVolume;
use tokio::runtime::Runtime;

/// The version that a pod runs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Version {
    Baseline,
    Broken,
    WithNamespace,
    /// Accepts connections and never answers.
    Hanging,
}

/// The result of one request to a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Succeed,
    Fail,
    /// No answer ever comes.
    Hang,
}

/// The result of a pod's n-th request, and its delay.
type Plan = Box<dyn Fn(usize) -> (Fate, Duration) + Send + Sync>;

/// A pod, as an endpoint of the Service.
struct Endpoint {
    name: String,
    /// The server that runs its version.
    address: SocketAddr,
    /// A server that fails each request.
    broken: Option<SocketAddr>,
    plan: Plan,
    /// The number of connections to this pod.
    connections: AtomicUsize,
}

/// A Service that gives connections to its pods in turn, so that shares are exact.
pub struct Fleet {
    runtime: Runtime,
    directory: TempDir,
    /// By pod name.
    volumes: HashMap<String, LabelVolume>,
    pods: Arc<Mutex<Vec<Arc<Endpoint>>>>,
    pub address: SocketAddr,
    /// The number of connections to the Service.
    pub connections: Arc<AtomicUsize>,
}

impl Fleet {
    /// A Service without pods. It closes connections at once.
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
            let mut hanging = Vec::new();
            for client in front.incoming() {
                let Ok(client) = client else {
                    thread::sleep(Duration::from_millis(10)); // too many open files for a moment
                    continue;
                };
                let turn = connections.fetch_add(1, Ordering::Relaxed);
                let pod = {
                    let pods = pods.lock().expect("no panic");
                    pods.get(turn % pods.len().max(1)).cloned()
                };
                let Some(pod) = pod else { continue };
                let (fate, delay) = (pod.plan)(pod.connections.fetch_add(1, Ordering::Relaxed));
                match (fate, pod.broken) {
                    (Fate::Hang, _) => hanging.push(client),
                    (Fate::Fail, Some(address)) => forward(client, address, delay),
                    _ => forward(client, pod.address, delay),
                }
            }
        });
        new
    }

    /// Three stable pods, and a canary pod with this version.
    pub fn with_canary(version: Version) -> Self {
        let mut new = Self::new();
        for number in 1..=3 {
            new.add(&format!("appinfo-{number}"), "release=\"stable\"", Version::Baseline);
        }
        new.add("appinfo-canary-1", "release=\"canary\"", version);
        new
    }

    /// A temporary directory, removed with the fleet.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Adds a pod that runs this version.
    pub fn add(&mut self, name: &str, labels: &str, version: Version) {
        let fate = if version == Version::Hanging { Fate::Hang } else { Fate::Succeed };
        let address = self.serve(name, labels, version);
        self.add_endpoint(name, address, None, Box::new(move |_| (fate, Duration::ZERO)));
    }

    /// Adds a pod whose n-th request, counted from 0, has the result `plan(n)`.
    pub fn add_planned(
        &mut self,
        name: &str,
        release: &str,
        plan: impl Fn(usize) -> (Fate, Duration) + Send + Sync + 'static,
    ) {
        let labels = format!("release=\"{release}\"");
        let [good, broken] =
            [Version::WithNamespace, Version::Broken].map(|version| self.serve(name, &labels, version));
        self.add_endpoint(name, good, Some(broken), Box::new(plan));
    }

    /// Removes a pod from the Service. Its server stays.
    pub fn remove(&self, name: &str) {
        self.pods.lock().expect("no panic").retain(|pod| pod.name != name);
    }

    fn add_endpoint(&self, name: &str, address: SocketAddr, broken: Option<SocketAddr>, plan: Plan) {
        let name = name.to_owned();
        let endpoint = Endpoint { name, address, broken, plan, connections: AtomicUsize::new(0) };
        self.pods.lock().expect("no panic").push(Arc::new(endpoint));
    }

    /// Starts a pod's server.
    fn serve(&mut self, name: &str, labels: &str, version: Version) -> SocketAddr {
        let service: Box<dyn AppInfoService> = match version {
            Version::Baseline => Box::new(AppInfoBaseline),
            Version::Broken => Box::new(AppInfoBroken),
            Version::WithNamespace | Version::Hanging => Box::new(AppInfoWithNamespace),
        };
        // the two servers of a planned pod read the same labels
        let directory = self.directory.path().join(name);
        let new = || LabelVolume::new(directory, text(labels)).expect("a volume");
        let labels_file = self.volumes.entry(name.to_owned()).or_insert_with(new).file();
        let _within = self.runtime.enter();
        let listen = || server::bind(Listen::At((Ipv4Addr::LOCALHOST, 0).into())).expect("a port");
        let (public, admin) = (listen(), listen());
        let address = public.local_addr().expect("its address");
        let pod = Pod {
            name: name.to_owned(),
            namespace: "space".to_owned(),
            label_file: LabelFile::new(labels_file),
        };
        let server = Server::new(pod, service, public, admin).expect("a server");
        self.runtime.spawn(server.run(std::future::pending()));
        address
    }

    /// Replaces a pod's labels.
    pub fn relabel(&self, name: &str, labels: &str) {
        self.volumes[name].swap(text(labels)).expect("a swap");
    }
}

/// The text of a label file with these labels.
fn text(labels: &str) -> String {
    format!("app=\"appinfo\"\n{labels}")
}

/// Forwards a client's connection to a pod, after `delay`.
fn forward(client: TcpStream, pod: SocketAddr, delay: Duration) {
    thread::spawn(move || {
        thread::sleep(delay);
        let pod = TcpStream::connect(pod).expect("the pod listens");
        let back = (pod.try_clone().expect("a handle"), client.try_clone().expect("a handle"));
        thread::spawn(move || copy(back.0, back.1));
        copy(client, pod);
    });
}

fn copy(mut from: TcpStream, mut to: TcpStream) {
    let _ = std::io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
}

/// The binary.
pub fn canary(arguments: &[&str]) -> Command {
    // if the tests run in the background, they may ignore SIGINT, and the process would inherit that
    let mut command = Command::new("env");
    command
        .args(["--default-signal=INT", env!("CARGO_BIN_EXE_canary")])
        .args(arguments)
        .env_remove("NO_COLOR");
    command
}

/// Runs the binary to its end. Returns exit code, standard output and standard error.
pub fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = canary(arguments).output().expect("it runs");
    (status.code(), String::from_utf8(stdout).expect("UTF-8"), String::from_utf8(stderr).expect("UTF-8"))
}

/// Starts the binary with its output in pipes.
pub fn start(arguments: &[&str]) -> Child {
    canary(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts")
}

/// Runs the binary to its end with `input` as standard input. Returns the same as [`run`].
pub fn run_with_input(arguments: &[&str], input: &[u8]) -> (Option<i32>, String, String) {
    let mut process = canary(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    // the binary stops reading at a verdict, so this may fail
    let _ = process.stdin.take().expect("its input").write_all(input);
    let Output { status, stdout, stderr } = process.wait_with_output().expect("it runs");
    (status.code(), String::from_utf8(stdout).expect("UTF-8"), String::from_utf8(stderr).expect("UTF-8"))
}

/// Parses lines of JSON.
pub fn json_lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}
