//! Faults that a pod's labels set: failures and delays of `/v1/appinfo`.

mod common;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use appinfo::{
    http::{
        self, Metrics,
        admin::{self, Phase},
    },
    labels::LabelFile,
    service::{AppInfoBaseline, AppInfoBroken, AppInfoService, AppInfoWithNamespace, Pod},
};
use axum::{Router, body::Body, http::Request};
use common::process::{Process, appinfo};
use http_body_util::BodyExt;
use rustix::process::Signal;
use testkit::{
    eventually,
    http::{Client, get},
    labels::LabelDir,
};
use tokio::{sync::watch, time::Instant};
use tower::ServiceExt;

const PATH: &str = "/v1/appinfo";
const FAILURE: &str = "{\"error\":\"something went wrong\"}\n";
const MINUTE: Duration = Duration::from_secs(60);

/// The text of a label file with the release `canary` and these labels.
fn with(labels: &str) -> String {
    format!("release=\"canary\"\n{labels}")
}

/// The routers of both ports of the pod `p`.
struct Ports {
    public: Router,
    admin: Router,
    labels: LabelDir,
}

impl Ports {
    fn new(service: Box<dyn AppInfoService>, labels: &str) -> Self {
        let labels = LabelDir::new(with(labels));
        let label_file = LabelFile::new(labels.file());
        let pod = Arc::new(Pod { name: "p".to_owned(), namespace: "n".to_owned(), label_file });
        let metrics = Arc::new(Metrics::new("any").expect("metrics"));
        Self {
            public: http::router(Arc::clone(&pod), service, Arc::clone(&metrics)),
            admin: admin::router(pod, watch::channel(Phase::Serving).1, metrics),
            labels,
        }
    }
}

#[derive(Debug, PartialEq)]
struct Asked {
    status: u16,
    headers: BTreeMap<String, String>,
    body: String,
    /// The response time.
    time: Duration,
}

async fn ask(router: &Router, method: &str, path: &str) -> Asked {
    let request = Request::builder().method(method).uri(path).body(Body::empty()).expect("a request");
    let start = Instant::now();
    let (head, body) = router.clone().oneshot(request).await.expect("an answer").into_parts();
    let time = start.elapsed();
    let header = |(name, value): (&axum::http::HeaderName, &axum::http::HeaderValue)| {
        (name.to_string(), value.to_str().expect("plain text").to_owned())
    };
    let body = body.collect().await.expect("a body").to_bytes();
    Asked {
        status: head.status.as_u16(),
        headers: head.headers.iter().map(header).collect(),
        body: String::from_utf8(body.to_vec()).expect("UTF-8"),
        time,
    }
}

fn services() -> [Box<dyn AppInfoService>; 3] {
    [Box::new(AppInfoBaseline), Box::new(AppInfoBroken), Box::new(AppInfoWithNamespace)]
}

/// The value of one series in `/metrics`, as text.
async fn metric(ports: &Ports, series: &str) -> String {
    let text = ask(&ports.admin, "GET", "/metrics").await.body;
    let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("no {series}: {text}")).to_owned()
}

/// Checks that a binomial count is within six standard deviations, √(n p (1 − p)), of its mean. A correct count is
/// outside by chance in one of 40 million tests or fewer, if the mean and the rest are at least 100.
fn assert_binomial(what: &str, count: u32, of: u32, probability: f64) {
    let mean = f64::from(of) * probability;
    let six = 6.0 * (mean * (1.0 - probability)).sqrt();
    let distance = (f64::from(count) - mean).abs();
    assert!(distance <= six, "{what}: {count} of {of}, which is not {mean} ± {six}");
}

#[tokio::test]
async fn a_failed_request_has_the_same_answer_as_version_2_in_all_three_versions() {
    let broken = Ports::new(Box::new(AppInfoBroken), "fault-percent=\"0\"");
    for service in services() {
        let ports = Ports::new(service, "fault-percent=\"100\"");
        for method in ["GET", "HEAD"] {
            let (failed, model) =
                (ask(&ports.public, method, PATH).await, ask(&broken.public, method, PATH).await);
            assert_eq!((failed.status, &failed.headers, &failed.body), (500, &model.headers, &model.body));
            assert_eq!(failed.body, if method == "GET" { FAILURE } else { "" });
            assert_eq!((&*failed.headers["x-served-by"], &*failed.headers["x-release"]), ("p", "canary"));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_delay_applies_to_successes_and_failures_in_all_three_versions() {
    for service in services() {
        let ports = Ports::new(service, "fault-delay-ms=\"60000\"");
        let undelayed = Ports::new(Box::new(AppInfoBaseline), "");
        for method in ["GET", "HEAD"] {
            assert_eq!(ask(&ports.public, method, PATH).await.time, MINUTE);
            assert_eq!(ask(&undelayed.public, method, PATH).await.time, Duration::ZERO);
        }
        ports.labels.swap(with("fault-delay-ms=\"2500\"\nfault-percent=\"100\""));
        let failed = ask(&ports.public, "GET", PATH).await;
        assert_eq!((failed.status, failed.time), (500, Duration::from_millis(2500)));
    }
}

#[tokio::test]
async fn failures_are_binomial_at_any_percentage() {
    const REQUESTS: u32 = 20_000;
    for (percent, probability) in [("0", 0.0), ("0.5", 0.005), ("5", 0.05), ("50", 0.5), ("99.5", 0.995)] {
        let ports = Ports::new(Box::new(AppInfoWithNamespace), &format!("fault-percent=\"{percent}\""));
        let (mut failures, mut twice, mut before) = (0, 0, false);
        for _ in 0..REQUESTS {
            let failed = ask(&ports.public, "GET", PATH).await.status == 500;
            failures += u32::from(failed);
            twice += u32::from(failed && before);
            before = failed;
        }
        assert_binomial(percent, failures, REQUESTS, probability);
        // Neighbouring pairs share a request, so the variance of this count is larger than that of a binomial one:
        // p² (1 − p²) + 2 p³ (1 − p) per pair, which is at most three times p² (1 − p²).
        let (both, requests) = (probability.powi(2), f64::from(REQUESTS));
        let five = 5.0 * (3.0 * requests * both * (1.0 - both)).sqrt();
        let distance = (f64::from(twice) - requests * both).abs();
        assert!(
            distance <= five,
            "{percent} %, twice in a row: {twice}, which is not {} ± {five}",
            requests * both
        );
    }
}

#[tokio::test(start_paused = true)]
async fn failure_and_delay_are_independent_of_each_other() {
    const REQUESTS: u32 = 20_000;
    let ports = Ports::new(
        Box::new(AppInfoBaseline),
        "fault-percent=\"30\"\nfault-delay-ms=\"60000\"\nfault-delay-percent=\"40\"",
    );
    let mut counts = BTreeMap::new();
    for _ in 0..REQUESTS {
        let asked = ask(&ports.public, "GET", PATH).await;
        assert!([Duration::ZERO, MINUTE].contains(&asked.time), "{asked:?}");
        *counts.entry((asked.status, asked.time == MINUTE)).or_default() += 1;
    }
    for (status, delayed, probability) in
        [(500, true, 0.3 * 0.4), (500, false, 0.3 * 0.6), (200, true, 0.7 * 0.4), (200, false, 0.7 * 0.6)]
    {
        let what = format!("status {status}, delayed: {delayed}");
        assert_binomial(&what, counts[&(status, delayed)], REQUESTS, probability);
    }
}

#[tokio::test(start_paused = true)]
async fn faults_apply_only_to_get_and_head_of_the_path() {
    let ports = Ports::new(Box::new(AppInfoBaseline), "fault-percent=\"100\"\nfault-delay-ms=\"60000\"");
    for (router, method, path, status) in [
        (&ports.public, "POST", PATH, 405),
        (&ports.public, "DELETE", PATH, 405),
        (&ports.public, "GET", "/", 404),
        (&ports.public, "GET", "/v1/appinfo/", 404),
        (&ports.admin, "GET", "/healthz", 200),
        (&ports.admin, "GET", "/readyz", 200),
        (&ports.admin, "GET", "/metrics", 200),
        (&ports.admin, "GET", PATH, 404),
    ] {
        let asked = ask(router, method, path).await;
        assert_eq!((asked.status, asked.time), (status, Duration::ZERO), "{method} {path}");
    }
    assert_eq!(ask(&ports.public, "HEAD", PATH).await.time, MINUTE, "HEAD of the path is delayed");
}

#[tokio::test]
async fn fault_labels_show_among_the_other_labels_with_valid_and_invalid_values() {
    for labels in
        ["fault-percent=\"0\"", "fault-percent=\"five\"", "fault-percent=\"101\"\nfault-delay-ms=\"-1\""]
    {
        let ports = Ports::new(Box::new(AppInfoBaseline), labels);
        let told = ask(&ports.public, "GET", PATH).await;
        let info: serde_json::Value = serde_json::from_str(&told.body).expect("JSON");
        for line in labels.lines() {
            let (key, value) = line.split_once('=').expect("a label");
            assert_eq!(info["Labels"][key], value.trim_matches('"'), "{}", told.body);
        }
    }
}

#[tokio::test]
async fn a_fault_and_its_answer_come_from_the_same_reading_of_the_labels() {
    let ports = Ports::new(Box::new(AppInfoBaseline), "");
    let done = AtomicBool::new(false);
    let mut seen = BTreeMap::new();
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                for text in ["release=\"bad\"\nfault-percent=\"100\"", "release=\"good\""] {
                    ports.labels.swap(text);
                }
            }
        });
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let asking = scope.spawn(|| {
            runtime.expect("a runtime").block_on(async {
                let mut seen = BTreeMap::new();
                while seen.values().filter(|count| **count >= 100).count() < 2 {
                    let asked = ask(&ports.public, "GET", PATH).await;
                    let release = asked.headers.get("x-release").cloned();
                    *seen.entry((release, asked.status)).or_insert(0) += 1;
                }
                seen
            })
        });
        seen = asking.join().expect("no panic");
        done.store(true, Ordering::Relaxed);
    });
    let release = |name: &str| Some(name.to_owned());
    for (answer, count) in seen {
        let fits = [(release("bad"), 500), (release("good"), 200), (release("canary"), 200)];
        assert!(fits.contains(&answer), "{count} times {answer:?}");
    }
}

#[tokio::test]
async fn failures_and_delays_are_in_the_metrics() {
    let ports = Ports::new(Box::new(AppInfoBaseline), "fault-percent=\"100\"\nfault-delay-ms=\"300\"");
    let requests =
        |status: u16| format!("http_requests_total{{method=\"GET\",path=\"{PATH}\",status=\"{status}\"}}");
    let bucket = |le: &str| {
        format!("http_request_duration_seconds_bucket{{method=\"GET\",path=\"{PATH}\",le=\"{le}\"}}")
    };
    for _ in 0..2 {
        ask(&ports.public, "GET", PATH).await;
    }
    assert_eq!(metric(&ports, &requests(500)).await, "2");
    assert_eq!(metric(&ports, &requests(200)).await, "0");
    assert_eq!(metric(&ports, &bucket("0.25")).await, "0");
    assert_eq!(metric(&ports, &bucket("+Inf")).await, "2");

    let held_back = tokio::spawn(
        ports.public.clone().oneshot(Request::builder().uri(PATH).body(Body::empty()).expect("a request")),
    );
    while metric(&ports, "http_requests_in_flight").await != "1" {
        tokio::task::yield_now().await;
    }
    held_back.abort();
    held_back.await.expect_err("the request is cancelled");
    assert_eq!(metric(&ports, "http_requests_in_flight").await, "0", "the delay ends with the request");
    assert_eq!(metric(&ports, &requests(500)).await, "2", "there was no answer to count");
}

/// A process with these labels.
fn start(labels: &LabelDir, flags: &[&str]) -> Process {
    Process::start(appinfo().arg("--labels-file").arg(labels.file()).args(flags))
}

#[test]
fn an_invalid_value_is_logged_once_per_change_with_a_description_of_valid_values() {
    let labels = LabelDir::new(with("fault-percent=\"five\""));
    let process = start(&labels, &[]);
    let ignored = || process.messages("ignoring a label");
    let logged = || {
        let lines = ignored().into_iter();
        lines.map(|line| format!("{} {}", line["label"], line["value"])).collect::<Vec<_>>()
    };
    let ask_often = || (0..50).for_each(|_| drop(get(process.public, PATH).expect("an answer")));
    ask_often();
    labels.swap(with("fault-percent=\"five\"\nother=\"label\""));
    ask_often();
    labels.swap(with("fault-percent=\"101\"\nfault-delay-ms=\"1s\""));
    ask_often();
    labels.swap(with("fault-percent=\"0\""));
    ask_often();
    labels.swap(with("fault-percent=\"five\""));
    ask_often();
    let expected = [
        r#""fault-percent" "five""#,
        r#""fault-percent" "101""#,
        r#""fault-delay-ms" "1s""#,
        r#""fault-percent" "five""#,
    ];
    eventually("all are logged", || logged().len() >= expected.len());
    assert_eq!(logged(), expected);
    let wanted: Vec<_> = ignored().iter().map(|line| line["want"].to_string()).collect();
    assert!(wanted[0].contains("a number from 0 to 100, such as 5 or 0.5"), "{wanted:?}");
    assert!(wanted[2].contains("milliseconds from 0 to 60000"), "{wanted:?}");
    assert!(ignored().iter().all(|line| line["level"] == "WARN"));
}

#[test]
fn a_failure_is_logged_as_an_error_with_its_cause() {
    let labels = LabelDir::new(with("fault-percent=\"100\""));
    let process = start(&labels, &[]);
    assert_eq!(get(process.public, PATH).expect("an answer").body, FAILURE);
    let line = process.wait_for("request");
    assert_eq!((&line["level"], &line["status"]), (&"ERROR".into(), &500.into()));
    assert_eq!(line["error"], "something went wrong: the label fault-percent makes requests fail");
}

#[test]
fn delayed_requests_block_no_threads() {
    const CLIENTS: u32 = 300;
    let labels = LabelDir::new(with("fault-delay-ms=\"500\""));
    let process = start(&labels, &[]);
    let mut clients: Vec<_> =
        (0..CLIENTS).map(|_| Client::connect(process.public).expect("a connection")).collect();
    let start = std::time::Instant::now();
    for client in &mut clients {
        client.send(format!("GET {PATH} HTTP/1.1\r\nhost: x\r\n\r\n")).expect("sent");
    }
    for client in &mut clients {
        client.answer().expect("an answer");
    }
    let time = start.elapsed();
    assert!(time >= Duration::from_millis(500), "{time:?}: an answer was not delayed");
    let on_threads = Duration::from_millis(500) * CLIENTS / 8; // one after the other on eight workers
    assert!(time < on_threads, "{time:?}");
}

#[test]
fn a_drain_waits_for_a_delayed_answer_but_not_longer_than_the_drain_timeout() {
    for (delay, answered) in [("5000", true), ("60000", false)] {
        let labels = LabelDir::new(with(&format!("fault-delay-ms=\"{delay}\"")));
        let timeout = if answered { "--drain-timeout=50s" } else { "--drain-timeout=1s" };
        let mut process = start(&labels, &["--drain-delay=0", timeout]);
        let mut client = Client::connect(process.public).expect("a connection");
        client.send(format!("GET {PATH} HTTP/1.1\r\nhost: x\r\n\r\n")).expect("sent");
        eventually("the request is in flight", || {
            let metrics = get(process.admin, "/metrics").expect("an answer").body;
            metrics.contains("\nhttp_requests_in_flight 1\n")
        });
        process.signal(Signal::TERM);
        assert_eq!(client.answer().is_ok(), answered, "a delay of {delay} ms");
        assert_eq!(process.ended().code(), Some(0));
        assert_eq!(process.find("drain timeout").is_some(), !answered);
    }
}
