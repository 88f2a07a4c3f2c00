//! Asks the cluster for its objects, and the service for answers.

use std::{
    collections::BTreeMap,
    fmt::Write,
    io,
    net::{SocketAddr, ToSocketAddrs},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use appinfo::app_info::AppInfo;
use serde_json::Value;
use testkit::http::{self, Answer, Client};

/// How long to wait for a condition.
const PATIENCE: Duration = Duration::from_secs(180);

/// The cluster and namespace that kubectl uses.
#[derive(Clone)]
pub(crate) struct Cluster {
    pub(crate) namespace: String,
}

impl Cluster {
    pub(crate) fn current() -> Result<Self, String> {
        let namespace = kubectl(&["config", "view", "--minify", "-o", "jsonpath={..namespace}"])?;
        Ok(Self { namespace: if namespace.is_empty() { "default".to_owned() } else { namespace } })
    }

    /// Objects of a kind with the label `app: appinfo`.
    pub(crate) fn objects(&self, kind: &str) -> Result<Vec<Value>, String> {
        listed(&["get", kind, "-n", &self.namespace, "-l", "app=appinfo", "-o", "json"])
    }

    /// The pods that are not being deleted.
    pub(crate) fn pods(&self) -> Result<Vec<Value>, String> {
        let mut pods = self.objects("pods")?;
        pods.retain(|pod| pod["metadata"]["deletionTimestamp"].is_null());
        Ok(pods)
    }

    /// Waits until all pods that are being deleted have ended.
    pub(crate) fn settled(&self) -> Result<(), String> {
        eventually("deleted pods have ended", || {
            let pods = self.objects("pods")?;
            Ok(pods.iter().all(|pod| pod["metadata"]["deletionTimestamp"].is_null()))
        })
    }

    /// The pods and the last warnings of the namespace. A command that waits in vain does not say what it waits for.
    pub(crate) fn warnings(&self) -> String {
        let pods = kubectl(&["get", "pods", "-n", &self.namespace, "-o", "wide"]);
        let events = kubectl(&[
            "get",
            "events",
            "-n",
            &self.namespace,
            "--field-selector=type=Warning,reason!=MissingClusterDNS",
            "--sort-by=.metadata.creationTimestamp",
        ]);
        let [pods, events] = [pods, events].map(|said| said.unwrap_or_else(|error| error));
        let events: Vec<_> = events.lines().collect();
        let last = &events[events.len().saturating_sub(MOST_WARNINGS)..];
        format!("{pods}\n{}", last.join("\n"))
    }
}

const MOST_WARNINGS: usize = 20;

pub(crate) fn name(object: &Value) -> String {
    object["metadata"]["name"].as_str().unwrap_or_default().to_owned()
}

pub(crate) fn kubectl(arguments: &[&str]) -> Result<String, String> {
    let output = Command::new("kubectl").args(arguments).output();
    let output = output.map_err(|error| format!("cannot run kubectl: {error}"))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(format!("kubectl {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr)))
    }
}

/// The objects that a `kubectl get … -o json` prints. Its output may be a list, a single object, or empty.
pub(crate) fn listed(arguments: &[&str]) -> Result<Vec<Value>, String> {
    let json = kubectl(arguments)?;
    if json.trim().is_empty() {
        return Ok(Vec::new());
    }
    let mut found: Value =
        serde_json::from_str(&json).map_err(|error| format!("kubectl {}: {error}", arguments.join(" ")))?;
    match found["items"].take() {
        Value::Array(items) => Ok(items),
        _ => Ok(vec![found]),
    }
}

pub(crate) fn eventually(
    what: &str,
    mut condition: impl FnMut() -> Result<bool, String>,
) -> Result<(), String> {
    let deadline = Instant::now() + PATIENCE;
    while !condition()? {
        if Instant::now() > deadline {
            return Err(format!("waited too long for: {what}"));
        }
        thread::sleep(Duration::from_millis(200));
    }
    Ok(())
}

/// The Service's address.
pub(crate) fn service(host: &str, port: &str) -> Result<SocketAddr, String> {
    let named = format!("{host}:{port}");
    let mut addresses = named.to_socket_addrs().map_err(|error| format!("{named}: {error}"))?;
    addresses.next().ok_or_else(|| format!("{named}: no address"))
}

/// The answers to some requests.
#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) requests: usize,
    /// The number of answers by release and status.
    pub(crate) answers: BTreeMap<(String, u16), usize>,
    /// The number of answers by pod.
    pub(crate) pods: BTreeMap<String, usize>,
    /// The number of answers by the namespace that they contain.
    pub(crate) namespaces: BTreeMap<String, usize>,
    /// The requests without an answer, with the cause.
    pub(crate) lost: Vec<String>,
}

impl Tally {
    fn count(&mut self, answer: io::Result<Answer>) {
        self.requests += 1;
        match answer {
            Ok(answer) => {
                let header = |name| answer.header(name).unwrap_or("unnamed").to_owned();
                *self.answers.entry((header("x-release"), answer.status)).or_default() += 1;
                *self.pods.entry(header("x-served-by")).or_default() += 1;
                if let Ok(info) = serde_json::from_str::<AppInfo>(&answer.body) {
                    *self.namespaces.entry(info.namespace).or_default() += 1;
                }
            }
            Err(error) => self.lost.push(format!("request {}: {error}", self.requests)),
        }
    }

    pub(crate) fn merge(&mut self, other: Self) {
        self.requests += other.requests;
        for (key, count) in other.answers {
            *self.answers.entry(key).or_default() += count;
        }
        self.lost.extend(other.lost);
    }

    /// The number of answers with this status from this release.
    pub(crate) fn of(&self, release: &str, status: u16) -> usize {
        self.answers.get(&(release.to_owned(), status)).copied().unwrap_or(0)
    }

    pub(crate) fn summary(&self) -> String {
        let mut text = format!("{} requests:", self.requests);
        for ((release, status), count) in &self.answers {
            let _ = write!(text, " {count} x {status} from {release},");
        }
        let _ = write!(text, " {} without an answer", self.lost.len());
        for lost in self.lost.iter().take(5) {
            let _ = write!(text, "\n   {lost}");
        }
        text
    }
}

/// Sends `count` requests, each on a new connection.
pub(crate) fn ask(service: SocketAddr, count: usize) -> Tally {
    let mut tally = Tally::default();
    for _ in 0..count {
        tally.count(http::get(service, "/v1/appinfo"));
    }
    tally
}

/// Sends `count` requests on one connection. Opens a new one if an answer has `connection: close`.
pub(crate) fn ask_on_one_connection(service: SocketAddr, count: usize) -> Tally {
    let (mut tally, mut kept) = (Tally::default(), None);
    for _ in 0..count {
        tally.count(ask_and_keep(service, &mut kept));
    }
    tally
}

/// Sends a request on the kept connection, or on a new one if there is none. Keeps the connection unless the answer has
/// `connection: close`.
fn ask_and_keep(service: SocketAddr, kept: &mut Option<Client>) -> io::Result<Answer> {
    let mut client = kept.take().map_or_else(|| Client::connect(service), Ok)?;
    let answer = client.get("/v1/appinfo")?;
    *kept = (!answer.says_close()).then_some(client);
    Ok(answer)
}

/// Two clients that send 60 requests a second each. One opens a new connection for each request. The other keeps its
/// connection until an answer has `connection: close`.
pub(crate) struct Load {
    done: Arc<AtomicBool>,
    clients: [JoinHandle<(Tally, Duration)>; 2],
}

const INTERVAL: Duration = Duration::from_micros(1_000_000 / 60);

impl Load {
    pub(crate) fn start(service: SocketAddr) -> Self {
        let done = Arc::new(AtomicBool::new(false));
        let client = |keeps_its_connection: bool| {
            let done = Arc::clone(&done);
            thread::spawn(move || {
                let (mut tally, mut kept) = (Tally::default(), None);
                let start = Instant::now();
                let mut next = start;
                while !done.load(Ordering::Relaxed) {
                    tally.count(ask_and_keep(service, &mut kept));
                    if !keeps_its_connection {
                        kept = None;
                    }
                    next += INTERVAL;
                    thread::sleep(next.saturating_duration_since(Instant::now()));
                }
                (tally, start.elapsed())
            })
        };
        Self { clients: [client(false), client(true)], done }
    }

    /// Ends both clients, and returns a summary of their answers.
    ///
    /// # Errors
    /// If a request was lost, if a request failed (except by a canary, if `canary_fails`), or if a client has sent fewer
    /// than 10 requests a second, which is no load. (On a busy machine, answers may take so long that it is not 60.)
    pub(crate) fn end(self, canary_fails: bool) -> Result<String, String> {
        self.done.store(true, Ordering::Relaxed);
        let mut all = Tally::default();
        for (client, kind) in self.clients.into_iter().zip(["new connections", "a kept connection"]) {
            let (tally, time) = client.join().map_err(|_| "a client panicked".to_owned())?;
            let at_most = Duration::from_millis(100) * u32::try_from(tally.requests).unwrap_or(u32::MAX);
            if at_most < time {
                let summary = tally.summary();
                return Err(format!("the client on {kind} sent fewer than 10 requests a second: {summary}"));
            }
            all.merge(tally);
        }
        let good = all.of("stable", 200) + all.of("canary", 200);
        let excused = if canary_fails { all.of("canary", 500) } else { 0 };
        if good + excused == all.requests {
            Ok(all.summary())
        } else {
            Err(format!("lost requests: {}", all.summary()))
        }
    }
}
