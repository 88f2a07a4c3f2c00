//! The nginx configuration and the commands of docs/mirror.md, taken from the page: a real nginx copies the requests to
//! real stable pods to a real canary. Only the addresses, the pace and the path of the log differ from the page.

use std::{
    fs,
    net::{Ipv4Addr, TcpListener},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;
use testkit::{eventually, prometheus::Prometheus};

use crate::{
    CONFIG, Pod, Quality,
    common::{
        nginx::Nginx,
        pages::{commands, start_line},
    },
    ended, new_address,
};

const DOCUMENT: &str = include_str!("../../../docs/mirror.md");

/// The configuration of the page, with these addresses behind it, and its log in this folder.
fn mirroring(stable: &[String], canary: &str, folder: &Path) -> Option<Nginx> {
    let block = DOCUMENT.split("```nginx\n").nth(1).and_then(|rest| rest.split("```").next());
    let block = block.expect("a block of nginx");
    let servers = format!("server {};", stable.join("; server "));
    Nginx::start(|address| {
        let mut block = block.to_owned();
        for (place, own) in [
            ("listen 8080;", format!("listen {address};")),
            ("/var/log/nginx/copies.log", folder.join("copies.log").display().to_string()),
        ] {
            assert!(block.contains(place), "{place}");
            block = block.replace(place, &own);
        }
        format!(
            "upstream appinfo-stable {{ {servers} }}\nupstream appinfo-canary {{ server {canary}; }}\n{block}"
        )
    })
}

fn agent() -> ureq::Agent {
    let config = ureq::Agent::config_builder().http_status_as_error(false);
    config.timeout_global(Some(Duration::from_secs(10))).build().into()
}

/// What clients got.
#[derive(Default)]
struct Clients {
    answered: AtomicU64,
    /// All that was no good answer of stable.
    others: AtomicU64,
    have_enough: AtomicBool,
}

/// Two stable pods and a canary, which gets copies of the requests to these, and a Prometheus that scrapes them.
struct Mirror {
    prometheus: Prometheus,
    clients: Arc<Clients>,
    asking: Option<JoinHandle<()>>,
    _nginx: Nginx,
    _pods: [Pod; 3],
    folder: TempDir,
}

impl Mirror {
    fn new(canary: Quality) -> Option<Self> {
        let folder = tempfile::tempdir().expect("a folder");
        let pods = [
            ("stable", "567b989978", Quality::Good),
            ("stable", "567b989978", Quality::Good),
            ("canary", "c66665c44", canary),
        ];
        let pods = pods
            .map(|(release, hash, quality)| Pod::start(folder.path(), release, hash, new_address(), quality));
        let [one, other, canary] = pods.each_ref().map(|pod| pod.addresses[0].to_string());
        let nginx = mirroring(&[one, other], &canary, folder.path())?;
        let targets = Value::from(pods.iter().map(Pod::target).collect::<Vec<_>>());
        for (name, text) in [("prometheus.yml", CONFIG.to_owned()), ("targets.json", targets.to_string())] {
            fs::write(folder.path().join(name), text).expect("a file");
        }
        let prometheus = Prometheus::start(folder.path());
        let clients = Arc::<Clients>::default();
        let (url, counts) = (format!("http://{}/v1/appinfo", nginx.address), Arc::clone(&clients));
        let asking = thread::spawn(move || {
            let agent = agent();
            while !counts.have_enough.load(Ordering::Relaxed) {
                // nginx would read the next request of a kept connection after the answer to the copy
                let is_good = agent.get(&url).header("connection", "close").call().is_ok_and(|answer| {
                    answer.status() == 200
                        && answer.headers().get("x-release").is_some_and(|release| release == "stable")
                });
                let count = if is_good { &counts.answered } else { &counts.others };
                count.fetch_add(1, Ordering::Relaxed);
                thread::sleep(Duration::from_millis(5));
            }
        });
        let twice = "count_over_time(http_requests_total{path=\"/v1/appinfo\"}[1h])>=2";
        eventually("each pod was scraped", || prometheus.query(twice).len() >= 3);
        let asking = Some(asking);
        Some(Self { prometheus, clients, asking, _nginx: nginx, _pods: pods, folder })
    }

    /// Runs the command of the page with Prometheus. Returns the exit code, the summary, and the numbers of what clients
    /// got.
    fn judged(&mut self) -> (Option<i32>, Value, [u64; 2]) {
        let [counters, _] = lines();
        assert!(counters.contains("http://prometheus:9090"), "{counters}");
        let counters = counters.replace("http://prometheus:9090", &self.prometheus.url);
        let (code, summary, told) =
            ended(start_line(&format!("exec {counters} --interval 1s --for 10m --output json")));
        eprintln!("{told}");
        self.clients.have_enough.store(true, Ordering::Relaxed);
        if let Some(asking) = self.asking.take() {
            asking.join().expect("no panic");
        }
        let Clients { answered, others, .. } = &*self.clients;
        (code, summary, [answered, others].map(|count| count.load(Ordering::Relaxed)))
    }

    /// Runs the command of the page with the log.
    fn judged_by_log(&self) -> (Option<i32>, Value) {
        let [_, log] = lines();
        let folder = self.folder.path().display();
        let (code, summary, told) = ended(start_line(&format!("cd {folder} && {log} --output json")));
        eprintln!("{told}");
        (code, summary)
    }
}

/// The commands of the page: with counters, and with the log.
fn lines() -> [String; 2] {
    let lines: Vec<_> = commands(DOCUMENT).into_iter().map(|(command, _)| command).collect();
    lines.try_into().expect("two commands")
}

impl Drop for Mirror {
    fn drop(&mut self) {
        self.clients.have_enough.store(true, Ordering::Relaxed);
    }
}

fn count(summary: &Value, release: &str, key: &str) -> u64 {
    summary["releases"][release][key].as_u64().unwrap_or_default()
}

#[test]
fn a_broken_canary_that_gets_copies_is_rolled_back_and_each_client_has_a_good_answer() {
    let Some(mut mirror) = Mirror::new(Quality::Broken) else { return };
    let (code, summary, [answered, others]) = mirror.judged();
    assert_eq!(code, Some(1), "{summary}");
    let failed = count(&summary, "canary", "failure");
    assert!(failed > 0 && failed <= answered, "{failed} of {answered}: {summary}");
    assert_eq!((others, count(&summary, "canary", "success")), (0, 0), "{answered}: {summary}");
    assert_eq!(count(&summary, "stable", "failure"), 0, "{summary}");
    // docs/mirror.md says that the price is not true here
    assert!(summary["price"]["failed_requests"].as_f64() > Some(0.0), "{summary}");
}

#[test]
fn a_good_canary_that_gets_copies_is_promoted_and_has_half_of_what_is_counted() {
    let Some(mut mirror) = Mirror::new(Quality::Good) else { return };
    let (code, summary, [answered, others]) = mirror.judged();
    assert_eq!(code, Some(0), "{summary}");
    assert_eq!(others, 0, "{answered}: {summary}");
    let share = summary["releases"]["canary"]["share"].as_f64().expect("a share");
    // the first and the last scrape of a pod may be some seconds before or after those of another
    assert!((0.35..=0.65).contains(&share), "{summary}");
    let (code, summary) = mirror.judged_by_log();
    assert_eq!(code, Some(0), "{summary}");
    let share = summary["releases"]["canary"]["share"].as_f64().expect("a share");
    assert!((share - 0.5).abs() < 0.01, "each copy is in the log: {summary}");
}

/// What never ends is in no counter, as docs/mirror.md says.
#[test]
fn copies_that_hang_are_seen_by_the_log_and_not_by_counters() {
    let Some(mut mirror) = Mirror::new(Quality::Hanging) else { return };
    let (code, summary, [answered, others]) = mirror.judged();
    assert_eq!((code, others), (Some(0), 0), "{answered}: {summary}");
    let share = summary["releases"]["canary"]["share"].as_f64().expect("a share");
    assert!(share < 0.48, "a third of the copies is missing: {summary}");
    let (code, summary) = mirror.judged_by_log();
    assert_eq!(code, Some(1), "{summary}");
    assert_eq!(count(&summary, "stable", "failure"), 0, "{summary}");
}

/// docs/mirror.md says so. A time-out for copies bounds it.
#[test]
fn a_canary_that_hangs_delays_only_the_next_request_of_a_kept_connection() {
    let hanging = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let folder = tempfile::tempdir().expect("a folder");
    let pod = Pod::start(folder.path(), "stable", "567b989978", new_address(), Quality::Good);
    let canary = hanging.local_addr().expect("its address").to_string();
    let stable = [pod.addresses[0].to_string()];
    let Some(nginx) = mirroring(&stable, &canary, folder.path()) else { return };
    let ask = |agent: &ureq::Agent| {
        let begin = Instant::now();
        let mut answer = agent.get(format!("http://{}/v1/appinfo", nginx.address)).call().expect("an answer");
        assert_eq!(answer.status(), 200);
        answer.body_mut().read_to_string().expect("all of it");
        begin.elapsed()
    };
    // of the page's configuration
    let timeout = Duration::from_secs(2);
    let fast = (0..5).map(|_| ask(&agent())).min().expect("some");
    assert!(fast < timeout / 2, "a new connection does not wait: {fast:?}");
    let kept = agent();
    let first = ask(&kept);
    let next = ask(&kept);
    assert!(next > timeout * 9 / 10 && first < next, "it waits: {first:?}, {next:?}");
}
