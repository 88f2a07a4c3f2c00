//! What `/metrics` tells after some requests.

mod common;

use std::sync::{Arc, atomic::AtomicBool};

use appinfo::{
    http::{self, Metrics, admin},
    labels::LabelFile,
    service::{AppInfoBroken, Pod},
};
use axum::{Router, body::Body, http::Request};
use common::{LABELS, LabelDir, http::get};
use http_body_util::BodyExt;
use tower::ServiceExt;

struct Ports {
    public: Router,
    admin: Router,
    _labels: LabelDir,
}

fn ports() -> Ports {
    let labels = LabelDir::new(LABELS);
    let label_file = LabelFile::new(labels.file());
    let pod = Arc::new(Pod { name: "p".to_owned(), namespace: "n".to_owned(), label_file });
    let metrics = Arc::new(Metrics::new("broken").expect("metrics"));
    Ports {
        public: http::router(Arc::clone(&pod), Box::new(AppInfoBroken), Arc::clone(&metrics)),
        admin: admin::router(pod, Arc::new(AtomicBool::new(false)), metrics),
        _labels: labels,
    }
}

async fn ask(router: &Router, method: &str, path: &str) -> String {
    let request = Request::builder().method(method).uri(path).body(Body::empty()).expect("a request");
    let answer = router.clone().oneshot(request).await.expect("an answer");
    let body = answer.into_body().collect().await.expect("a body").to_bytes();
    String::from_utf8(body.to_vec()).expect("UTF-8")
}

/// The value of a series, as text.
fn value<'a>(text: &'a str, series: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))
}

#[tokio::test]
async fn requests_are_counted_by_method_path_and_status() {
    let ports = ports();
    for (method, path) in [
        ("GET", "/v1/appinfo"),
        ("GET", "/v1/appinfo?a=b"),
        ("HEAD", "/v1/appinfo"),
        ("PUT", "/v1/appinfo"),
        ("GET", "/x"),
    ] {
        ask(&ports.public, method, path).await;
    }
    let text = ask(&ports.admin, "GET", "/metrics").await;
    let count = |method: &str, path: &str, status: u16| {
        value(
            &text,
            &format!("http_requests_total{{method=\"{method}\",path=\"{path}\",status=\"{status}\"}}"),
        )
    };
    assert_eq!(count("GET", "/v1/appinfo", 500), Some("2"));
    assert_eq!(count("HEAD", "/v1/appinfo", 500), Some("1"));
    assert_eq!(count("PUT", "/v1/appinfo", 405), Some("1"));
    assert_eq!(count("GET", "other", 404), Some("1"));
    let duration = |suffix: &str| value(&text, &format!("http_request_duration_seconds_{suffix}"));
    assert_eq!(duration("count{method=\"GET\",path=\"/v1/appinfo\"}"), Some("2"));
    assert_eq!(duration("bucket{method=\"GET\",path=\"/v1/appinfo\",le=\"+Inf\"}"), Some("2"));
    assert!(duration("bucket{method=\"GET\",path=\"/v1/appinfo\",le=\"0.00005\"}").is_some(), "{text}");
    assert!(duration("bucket{method=\"GET\",path=\"/v1/appinfo\",le=\"1\"}").is_some(), "{text}");
    assert_eq!(value(&text, "http_requests_in_flight"), Some("0"));
    let build =
        format!("appinfo_build_info{{implementation=\"broken\",version=\"{}\"}}", env!("CARGO_PKG_VERSION"));
    assert_eq!(value(&text, &build), Some("1"));
    assert!(!text.contains("release="), "Prometheus knows the release from the pod");
}

#[tokio::test]
async fn probes_and_scrapes_are_no_traffic() {
    let ports = ports();
    for path in ["/healthz", "/readyz", "/metrics", "/nothing"] {
        ask(&ports.admin, "GET", path).await;
    }
    let text = ask(&ports.admin, "GET", "/metrics").await;
    let counts =
        text.lines().filter_map(|line| line.strip_prefix("http_requests_total{")?.rsplit(' ').next());
    assert_eq!(counts.collect::<Vec<_>>(), ["0", "0"], "the series that are there from the start: {text}");
}

#[tokio::test]
async fn no_client_can_add_series() {
    let ports = ports();
    let series = async || {
        let text = ask(&ports.admin, "GET", "/metrics").await;
        text.lines().filter(|line| !line.starts_with('#')).count()
    };
    ask(&ports.public, "BREW", "/x").await;
    let before = series().await;
    for number in 0..100 {
        ask(&ports.public, &format!("METHOD{number}"), &format!("/{number}")).await;
    }
    assert_eq!(series().await, before);
}

#[test]
fn the_process_tells_what_it_takes() {
    let labels = LabelDir::new(LABELS);
    let mut command = common::process::appinfo();
    let process = common::process::Process::start(command.arg("--labels-file").arg(labels.file()));
    for _ in 0..200 {
        get(process.public, "/nothing").expect("an answer");
    }
    let text = get(process.admin, "/metrics").expect("an answer");
    assert_eq!(text.header("content-type"), Some("text/plain; version=0.0.4"));
    let number = |name: &str| -> f64 {
        let value = value(&text.body, name).unwrap_or_else(|| panic!("no {name}: {}", text.body));
        value.parse().expect("a number")
    };
    let used = process.cpu_seconds();
    let told = number("process_cpu_seconds_total");
    assert!(told > 0.0 && told <= used + 0.02, "{told} s told, {used} s used");
    let resident = number("process_resident_memory_bytes");
    assert!((1e6..1e9).contains(&resident), "{resident}");
    assert!(number("process_open_fds") >= 5.0 && number("process_open_fds") < 100.0);
    assert!(number("process_max_fds") >= number("process_open_fds"));
    let now =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs_f64();
    assert!((0.0..600.0).contains(&(now - number("process_start_time_seconds"))));
    assert!(text.body.contains("http_requests_total{method=\"GET\",path=\"other\",status=\"404\"} 200\n"));
}
