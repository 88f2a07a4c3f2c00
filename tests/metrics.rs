//! The values of `/metrics` after some requests.

mod common;

use std::{collections::BTreeMap, sync::Arc};

use appinfo::{
    http::{
        self, Metrics,
        admin::{self, Phase},
    },
    labels::LabelFile,
    service::{AppInfoBroken, Pod},
};
use axum::{Router, body::Body, http::Request};
use common::LABELS;
use http_body_util::BodyExt;
use testkit::{http::get, labels::LabelDir};
use tokio::sync::watch;
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
        admin: admin::router(pod, watch::channel(Phase::Serving).1, metrics),
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
    assert!(!text.contains("release="), "Prometheus gets the release from the pod's labels");
}

/// All series of request counts and durations, with their values.
fn request_series(text: &str) -> BTreeMap<&str, &str> {
    let lines = text.lines().filter(|line| {
        line.starts_with("http_requests_total{") || line.starts_with("http_request_duration_seconds_")
    });
    lines.map(|line| line.rsplit_once(' ').expect("a series and its value")).collect()
}

#[tokio::test]
async fn every_series_starts_at_0() {
    let ports = ports();
    let text = ask(&ports.admin, "GET", "/metrics").await;
    let series = request_series(&text);
    for (method, path, status) in [
        ("GET", "/v1/appinfo", 200),
        ("GET", "/v1/appinfo", 500),
        ("HEAD", "/v1/appinfo", 200),
        ("HEAD", "/v1/appinfo", 500),
        ("POST", "/v1/appinfo", 405),
        ("DELETE", "/v1/appinfo", 405),
        ("other", "/v1/appinfo", 405),
        ("GET", "other", 404),
        ("HEAD", "other", 404),
        ("POST", "other", 404),
        ("other", "other", 404),
    ] {
        let name = format!("http_requests_total{{method=\"{method}\",path=\"{path}\",status=\"{status}\"}}");
        assert_eq!(series.get(name.as_str()), Some(&"0"), "{name}");
        for (suffix, bound) in
            [("count", ""), ("sum", ""), ("bucket", ",le=\"0.00005\""), ("bucket", ",le=\"+Inf\"")]
        {
            let name = format!(
                "http_request_duration_seconds_{suffix}{{method=\"{method}\",path=\"{path}\"{bound}}}"
            );
            assert_eq!(series.get(name.as_str()), Some(&"0"), "{name}");
        }
    }
    assert!(series.values().all(|value| *value == "0"), "{series:?}");
}

#[tokio::test]
async fn requests_on_the_admin_port_are_not_counted() {
    let ports = ports();
    for path in ["/healthz", "/readyz", "/metrics", "/nothing"] {
        ask(&ports.admin, "GET", path).await;
    }
    let text = ask(&ports.admin, "GET", "/metrics").await;
    assert!(request_series(&text).values().all(|value| *value == "0"), "{text}");
}

#[tokio::test]
async fn no_request_adds_a_series() {
    let ports = ports();
    let before = ask(&ports.admin, "GET", "/metrics").await;
    for method in
        ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "BREW", "get"]
    {
        for path in ["/v1/appinfo", "/v1/appinfo?a=b", "/", "/x"] {
            ask(&ports.public, method, path).await;
        }
    }
    for number in 0..100 {
        ask(&ports.public, &format!("METHOD{number}"), &format!("/{number}")).await;
    }
    let after = ask(&ports.admin, "GET", "/metrics").await;
    let names = |text| request_series(text).into_keys().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(names(&after), names(&before));
    let total = |prefix: &str| {
        let counts = request_series(&after).into_iter().filter(|(name, _)| name.starts_with(prefix));
        counts.map(|(_, count)| count.parse::<u64>().expect("a count")).sum::<u64>()
    };
    assert_eq!(total("http_requests_total{"), 11 * 4 + 100);
    assert_eq!(total("http_request_duration_seconds_count{"), 11 * 4 + 100);
}

#[test]
fn the_process_metrics_agree_with_proc() {
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
