//! `canary --prometheus`, on counters that the real Prometheus scrapes from real appinfo servers. Needs `prometheus`,
//! from Debian's package: `cargo test -p canary --test scrapes`.
//!
//! - `workers`: workers that take jobs from a queue, with the commands of docs/workers.md.
//! - `mirror`: a canary that gets copies, with the command and the nginx of docs/mirror.md.

#[path = "../common/mod.rs"]
mod common;
mod mirror;
mod workers;

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    process::{self, Child},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use appinfo::{
    config::Listen,
    labels::LabelFile,
    server::{self, Server},
    service::{self, AppInfoBaseline, AppInfoBroken, AppInfoService},
};
use common::{json_lines, start};
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::{eventually, labels::LabelVolume, prometheus::Prometheus};
use tokio::runtime::Runtime;

/// Scrapes every second.
const CONFIG: &str = "{global: {scrape_interval: 1s, scrape_timeout: 1s}, \
    scrape_configs: [{job_name: pods, file_sd_configs: [{files: [targets.json]}]}]}";

/// How a pod answers.
#[derive(Clone, Copy, PartialEq)]
enum Quality {
    Good,
    /// It fails each request.
    Broken,
    /// Each answer takes 60 ms longer.
    Slow,
    /// A third of the answers takes longer than clients wait.
    Hanging,
}

/// A pod. Dropping it ends it.
struct Pod {
    release: &'static str,
    hash: &'static str,
    /// The addresses of the service and of the metrics.
    addresses: [SocketAddr; 2],
    _runtime: Runtime,
    _labels: LabelVolume,
}

impl Pod {
    /// Starts a pod with its metrics at this address. Port 0 means a free one.
    fn start(
        folder: &Path,
        release: &'static str,
        hash: &'static str,
        metrics: SocketAddr,
        quality: Quality,
    ) -> Self {
        let delay = match quality {
            Quality::Slow => "\nfault-delay-ms=\"60\"",
            Quality::Hanging => "\nfault-delay-ms=\"20000\"\nfault-delay-percent=\"33\"",
            Quality::Good | Quality::Broken => "",
        };
        let text = format!("app=\"appinfo\"\nrelease=\"{release}\"{delay}");
        let directory = tempfile::tempdir_in(folder).expect("a folder").keep().join("labels");
        let labels = LabelVolume::new(directory, text).expect("a volume");
        let pod = service::Pod {
            name: format!("appinfo-{hash}-x2z4v"),
            namespace: "space".to_owned(),
            label_file: LabelFile::new(labels.file()),
        };
        let service: Box<dyn AppInfoService> =
            if quality == Quality::Broken { Box::new(AppInfoBroken) } else { Box::new(AppInfoBaseline) };
        let runtime = Runtime::new().expect("a runtime");
        let within = runtime.enter();
        let listen = |at: SocketAddr| {
            let mut listener = None;
            // the last pod at this address may still be closing its port
            eventually("the port is free", || {
                listener = server::bind(Listen::At(at)).ok();
                listener.is_some()
            });
            listener.expect("a port")
        };
        let listeners = [listen((Ipv4Addr::LOCALHOST, 0).into()), listen(metrics)];
        let addresses = [0, 1].map(|it: usize| listeners[it].local_addr().expect("an address"));
        let [public, admin] = listeners;
        let server = Server::new(pod, service, public, admin).expect("a server");
        runtime.spawn(server.run(std::future::pending()));
        drop(within);
        Self { release, hash, addresses, _runtime: runtime, _labels: labels }
    }

    fn target(&self) -> Value {
        let labels = json!({"app": "appinfo", "release": self.release, "pod_template_hash": self.hash});
        json!({"targets": [self.addresses[1]], "labels": labels})
    }
}

/// Pods that get requests all the time, and a Prometheus that scrapes them.
struct Cluster {
    prometheus: Prometheus,
    pods: Arc<Mutex<Vec<Pod>>>,
    /// The number of answered requests by release, and whether to send more.
    stable: Arc<AtomicU64>,
    canary: Arc<AtomicU64>,
    goes_on: Arc<AtomicBool>,
    folder: TempDir,
}

/// An address for a new pod's metrics: a loopback address of its own, on a free port. On 127.0.0.1, another process
/// could take the port while a pod restarts. (On Linux, all of 127.0.0.0/8 is there.)
fn new_address() -> SocketAddr {
    static PODS: AtomicU8 = AtomicU8::new(1);
    let [_, _, high, low] = process::id().to_be_bytes();
    (Ipv4Addr::new(127, high, low, PODS.fetch_add(1, Ordering::Relaxed)), 0).into()
}

impl Cluster {
    /// Two stable pods and a canary.
    fn new(canary: Quality) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("prometheus.yml"), CONFIG).expect("a file");
        let prometheus = Prometheus::start(folder.path());
        let new = Self {
            prometheus,
            pods: Arc::default(),
            stable: Arc::default(),
            canary: Arc::default(),
            goes_on: Arc::new(AtomicBool::new(true)),
            folder,
        };
        new.add("stable", "567b989978", new_address(), Quality::Good);
        new.add("stable", "567b989978", new_address(), Quality::Good);
        new.add("canary", "c66665c44", new_address(), canary);
        let (pods, goes_on) = (Arc::clone(&new.pods), Arc::clone(&new.goes_on));
        let (stable, canary) = (Arc::clone(&new.stable), Arc::clone(&new.canary));
        thread::spawn(move || {
            let agent: ureq::Agent = ureq::Agent::config_builder()
                .http_status_as_error(false)
                .timeout_global(Some(Duration::from_secs(5)))
                .build()
                .into();
            while goes_on.load(Ordering::Relaxed) {
                let asked: Vec<_> = pods
                    .lock()
                    .expect("no panic")
                    .iter()
                    .map(|pod| (pod.addresses[0], pod.release))
                    .collect();
                for (address, release) in asked {
                    // a pod that has just ended does not answer
                    if agent.get(format!("http://{address}/v1/appinfo")).call().is_ok() {
                        let count = if release == "canary" { &canary } else { &stable };
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                }
                thread::sleep(Duration::from_millis(10));
            }
        });
        let twice = "count_over_time(http_requests_total{path=\"/v1/appinfo\"}[1h])>=2";
        eventually("each pod was scraped", || new.prometheus.query(twice).len() >= 3);
        new
    }

    fn add(&self, release: &'static str, hash: &'static str, metrics: SocketAddr, quality: Quality) {
        let pod = Pod::start(self.folder.path(), release, hash, metrics, quality);
        self.pods.lock().expect("no panic").push(pod);
        self.tell();
    }

    fn end(&self, hash: &str) -> SocketAddr {
        let mut pods = self.pods.lock().expect("no panic");
        let position = pods.iter().position(|pod| pod.hash == hash).expect("such a pod");
        let metrics = pods.remove(position).addresses[1];
        drop(pods);
        self.tell();
        metrics
    }

    /// Writes the list of pods for Prometheus.
    fn tell(&self) {
        let targets: Vec<_> = self.pods.lock().expect("no panic").iter().map(Pod::target).collect();
        let new = self.folder.path().join("new");
        fs::write(&new, serde_json::to_vec(&targets).expect("JSON")).expect("a file");
        fs::rename(new, self.folder.path().join("targets.json")).expect("in one step");
    }

    /// A container restarts: the same address, and all counters at 0.
    fn restart(&self, release: &'static str, hash: &'static str, quality: Quality) {
        let metrics = self.end(hash);
        self.add(release, hash, metrics, quality);
    }

    /// A pod is replaced by another.
    fn replace(&self, release: &'static str, hash: &'static str) {
        self.add(release, hash, new_address(), Quality::Good);
        self.end(hash);
    }

    fn judge(&self, flags: &[&str]) -> Child {
        let usual = ["judge", "--prometheus", &self.prometheus.url, "--interval=1s", "--output=json"];
        start(&[&usual[..], flags].concat())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.goes_on.store(false, Ordering::Relaxed);
    }
}

fn ended(child: Child) -> (Option<i32>, Value, String) {
    let output = child.wait_with_output().expect("it runs");
    let (said, told) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output.status.code(), json_lines(&said).pop().unwrap_or_default(), told.into_owned())
}

#[test]
fn a_good_canary_is_promoted_while_pods_restart_and_are_replaced() {
    let cluster = Cluster::new(Quality::Good);
    let judge = cluster.judge(&[
        "--for=10m",
        "--slow=http_request_duration_seconds_bucket{le=\"1\"}",
        "--latency-metric=http_request_duration_seconds",
        "--slower-by=100%",
    ]);
    cluster.restart("stable", "567b989978", Quality::Good);
    cluster.restart("canary", "c66665c44", Quality::Good);
    cluster.replace("stable", "567b989978");
    let (code, summary, told) = ended(judge);
    assert_eq!(code, Some(0), "{summary}\n{told}");
    for (release, sent) in [("stable", &cluster.stable), ("canary", &cluster.canary)] {
        let seen = &summary["releases"][release];
        assert_eq!(seen["failure"], 0, "{summary}");
        let seen = seen["success"].as_u64().expect("a count");
        assert!(seen >= 30 && seen <= sent.load(Ordering::Relaxed), "{seen} of {release}: {summary}");
    }
    assert!(summary["price"]["budget_share"].is_number(), "the traffic is measured: {summary}");
    let latency = &summary["verdict"]["latency"];
    assert!(latency["canary"]["answers"].as_u64() >= Some(30), "{summary}");
    let said = summary["verdict_text"].as_str().expect("a text");
    assert!(said.contains(" It is not shown to be more than 100 % slower than stable."), "{said}");
}

#[test]
fn a_slow_canary_is_rolled_back_by_the_histogram_and_a_record_says_the_same() {
    let cluster = Cluster::new(Quality::Slow);
    let record = cluster.folder.path().join("record").display().to_string();
    let judge = cluster.judge(&[
        "--for=10m",
        "--latency-metric=http_request_duration_seconds",
        "--slower-by=20%",
        &format!("--record={record}"),
    ]);
    let (code, summary, told) = ended(judge);
    assert_eq!(code, Some(1), "{summary}\n{told}");
    let latency = &summary["verdict"]["latency"];
    assert_eq!(latency["rolled_back"], true, "{summary}");
    assert!(latency["canary"]["p50_ms"].as_f64() > Some(50.0), "{summary}");
    assert!(latency["stable"]["p50_ms"].as_f64() < Some(50.0), "{summary}");
    let said = &summary["verdict_text"];
    let start = "Roll back: the canary is more than 20 % slower than stable ";
    assert!(said.as_str().is_some_and(|said| said.starts_with(start)), "{said}");
    assert_eq!(summary["verdict"]["canary"]["failures"], 0, "{summary}");
    let (again, summary, told) = ended(start_replay(&record));
    assert_eq!((again, &summary["verdict_text"]), (Some(1), said), "{told}");
}

fn start_replay(record: &str) -> Child {
    start(&["judge", "--input", record, "--output=json"])
}

#[test]
fn a_broken_canary_that_restarts_is_rolled_back() {
    let cluster = Cluster::new(Quality::Broken);
    let judge = cluster.judge(&["--for=10m"]);
    cluster.restart("canary", "c66665c44", Quality::Broken);
    let (code, summary, told) = ended(judge);
    assert_eq!(code, Some(1), "{summary}\n{told}");
    let canary = &summary["releases"]["canary"];
    assert_eq!(canary["success"], 0, "{summary}");
    assert!(
        canary["failure"].as_u64().expect("a count") <= cluster.canary.load(Ordering::Relaxed),
        "{summary}"
    );
    assert_eq!(summary["releases"]["stable"]["failure"], 0, "{summary}");
}

#[test]
fn a_broken_canary_is_rolled_back_by_its_path_and_a_record_says_the_same_again() {
    let cluster = Cluster::new(Quality::Broken);
    let record = cluster.folder.path().join("record.jsonl");
    let judge = cluster.judge(&["--for=10m", "--by=path", &format!("--record={}", record.display())]);
    let (code, summary, told) = ended(judge);
    assert_eq!(code, Some(1), "{summary}\n{told}");
    let text = summary["verdict_text"].as_str().expect("a text");
    assert!(
        text.starts_with("Roll back: the canary is worse than stable on /v1/appinfo (clear after "),
        "{text}"
    );
    let strata = summary["verdict"]["strata"].as_array().expect("strata");
    assert_eq!((strata.len(), &strata[0]["worse"]), (1, &json!(true)), "{strata:?}");
    assert_eq!(strata[0]["canary"]["answers"], summary["verdict"]["canary"]["answers"], "{strata:?}");
    let again = start(&["judge", &format!("--input={}", record.display()), "--output=json"]);
    assert_eq!(ended(again).1["verdict"], summary["verdict"]);
}

#[test]
fn a_broken_canary_is_rolled_back_by_its_episodes_and_a_record_says_the_same_again() {
    let cluster = Cluster::new(Quality::Broken);
    let record = cluster.folder.path().join("record.jsonl");
    let judge = cluster.judge(&["--for=10m", "--episodes=5s", &format!("--record={}", record.display())]);
    let (code, summary, told) = ended(judge);
    assert_eq!(code, Some(1), "{summary}\n{told}");
    let text = &summary["verdict_text"];
    assert!(
        text.as_str().is_some_and(|text| text.starts_with("Roll back: the canary is worse than stable")),
        "{text}"
    );
    let advice =
        "The canary has one pod, and a bad pod or node looks like a bad release: two pods would tell.";
    assert!(text.as_str().is_some_and(|text| text.contains(advice)), "{text}");
    let episodes = &summary["verdict"]["episodes"];
    let (canary, stable) = (&episodes["canary"], &episodes["stable"]);
    assert_eq!(
        (&canary["pods"], &stable["pods"], &stable["failing"]),
        (&json!(1), &json!(2), &json!(0)),
        "{episodes}"
    );
    assert!(
        canary["failing"].as_u64() >= Some(2) && episodes["span_ms"].as_f64() >= Some(4_400.0),
        "{episodes}"
    );
    let (code, again, told) = ended(start_replay(&record.display().to_string()));
    assert_eq!((code, &again["verdict_text"]), (Some(1), text), "{told}");
    assert_eq!(again["verdict"], summary["verdict"]);
}

#[test]
fn two_halves_of_stables_pods_are_compared_and_the_one_with_a_bad_pod_is_worse() {
    // the canary has no part in it
    let cluster = Cluster::new(Quality::Broken);
    let (code, line, told) = ended(cluster.judge(&["--aa", "--for=45s"]));
    assert_eq!((code, &line["aa"]), (Some(0), &json!("fit")), "{line}\n{told}");
    let halves = line["halves"].as_array().expect("halves");
    let counted = halves.iter().map(|half| half["answers"].as_u64().expect("a count")).sum::<u64>();
    assert!(counted >= 200 && counted <= cluster.stable.load(Ordering::Relaxed), "{line}");
    assert!(halves.iter().all(|half| half["failures"] == 0), "{line}");

    let bad = new_address();
    cluster.add("stable", "567b989978", bad, Quality::Broken);
    let (code, line, told) = ended(cluster.judge(&["--aa", "--for=10m"]));
    assert_eq!((code, &line["aa"]), (Some(1), &json!("not_fit")), "{line}\n{told}");
    let failing: Vec<_> =
        line["halves"].as_array().expect("halves").iter().filter(|half| half["failures"] != 0).collect();
    assert_eq!(failing.len(), 1, "the pods of one half fail: {line}");
    let pods = failing[0]["pods"].as_array().expect("pods");
    let is_bad = |pod: &Value| pod.as_str().is_some_and(|pod| pod.contains(&bad.ip().to_string()));
    assert!(pods.iter().any(is_bad), "the bad one among them: {line}");
}

#[test]
fn serve_judges_each_pod_template_separately() {
    let cluster = Cluster::new(Quality::Broken);
    let url = &cluster.prometheus.url;
    let mut serve = start(&["serve", "--prometheus", url, "--interval=1s", "--listen=127.0.0.1:0"]);
    let mut told = BufReader::new(serve.stderr.take().expect("its messages"));
    let mut line = String::new();
    told.read_line(&mut line).expect("a message");
    let address =
        line.split_once("http://").and_then(|(_, rest)| rest.split_once(',')).expect("an address").0;
    let verdict = || -> Value {
        let answer = ureq::get(format!("http://{address}/v1/verdict")).call();
        answer.expect("an answer").body_mut().read_json().expect("JSON")
    };
    let is = |trial: &str, decision: &str| {
        let verdict = verdict();
        verdict["trial"] == trial && verdict["decision"] == decision
    };
    eventually("the broken one is to be rolled back", || is("c66665c44", "roll_back"));
    cluster.end("c66665c44");
    cluster.add("canary", "744f96dc75", new_address(), Quality::Good);
    eventually("the next one is to be promoted", || is("744f96dc75", "promote"));
    let _ = serve.kill();
    let _ = serve.wait();
    let mut rest = String::new();
    told.read_to_string(&mut rest).expect("messages");
}
