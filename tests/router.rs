//! The public router without a socket. All implementations are tested, independent of the selected feature.

mod common;

use std::{fs, os::unix::ffi::OsStrExt, path::Path, sync::Arc};

use appinfo::{
    http,
    labels::LabelFile,
    service::{AppInfoBaseline, AppInfoBroken, AppInfoService, AppInfoWithNamespace, Pod},
};
use axum::{
    body::Body,
    http::{Request, Response},
};
use common::LABELS;
use http_body_util::BodyExt;
use proptest::prelude::*;
use testkit::labels::LabelDir;
use tower::ServiceExt;

const JSON: &str = "application/json; charset=utf-8";
const BROKEN: &str = "{\"error\":\"something went wrong\"}\n";

struct Asked {
    status: u16,
    headers: axum::http::HeaderMap,
    body: String,
}

impl Asked {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("plain text"))
    }
}

/// Sends a request to the pod `p` in the namespace `n`, which runs `service` with this label file.
async fn ask(service: Box<dyn AppInfoService>, labels: &Path, method: &str, path: &str) -> Asked {
    ask_pod("p", service, labels, method, path).await
}

async fn ask_pod(
    name: &str,
    service: Box<dyn AppInfoService>,
    labels: &Path,
    method: &str,
    path: &str,
) -> Asked {
    let pod = Pod { name: name.to_owned(), namespace: "n".to_owned(), label_file: LabelFile::new(labels) };
    let request = Request::builder().method(method).uri(path).body(Body::empty()).expect("a request");
    let metrics = http::Metrics::new("any").expect("metrics");
    let answer: Response<Body> =
        http::router(Arc::new(pod), service, Arc::new(metrics)).oneshot(request).await.expect("an answer");
    let (head, body) = answer.into_parts();
    let body = body.collect().await.expect("a body").to_bytes();
    Asked {
        status: head.status.as_u16(),
        headers: head.headers,
        body: String::from_utf8(body.to_vec()).expect("UTF-8"),
    }
}

#[tokio::test]
async fn each_implementation_has_the_answer_of_its_version() {
    let labels = LabelDir::new(LABELS);
    let baseline = ask(Box::new(AppInfoBaseline), &labels.file(), "GET", "/v1/appinfo").await;
    assert_eq!(baseline.status, 200);
    assert_eq!(
        baseline.body,
        "{\"PodName\":\"p\",\"AppName\":\"appinfo\",\"Namespace\":\"\",\"Release\":\"stable\",\
         \"Labels\":{\"pod-template-hash\":\"1236545534\"}}\n"
    );
    let broken = ask(Box::new(AppInfoBroken), &labels.file(), "GET", "/v1/appinfo").await;
    assert_eq!((broken.status, broken.body.as_str()), (500, BROKEN));
    let fixed = ask(Box::new(AppInfoWithNamespace), &labels.file(), "GET", "/v1/appinfo").await;
    assert_eq!(fixed.status, 200);
    assert_eq!(
        fixed.body,
        "{\"PodName\":\"p\",\"AppName\":\"appinfo\",\"Namespace\":\"n\",\"Release\":\"stable\",\
         \"Labels\":{\"pod-template-hash\":\"1236545534\"}}\n"
    );
    for answer in [baseline, broken, fixed] {
        assert_eq!(answer.header("content-type"), Some(JSON));
        assert_eq!(answer.header("x-served-by"), Some("p"));
        assert_eq!(answer.header("x-release"), Some("stable"));
    }
}

#[tokio::test]
async fn from_a_damaged_label_file_all_readable_labels_are_in_the_answer() {
    #[rustfmt::skip]
    let cases: &[(&[u8], &str, &str, &str)] = &[
        // the file, AppName, Release, Labels
        (b"app=\"a\"\nrelease=\"r\"\nx=\"1\"", "a", "r", r#"{"x":"1"}"#),
        (b"app=\"a\"\r\nrelease=\"r\"\r\nx=\"1\"\r\n", "a", "r", r#"{"x":"1"}"#),
        (b"\n\napp=\"a\"\n\nrelease=\"r\"\n\n", "a", "r", "{}"),
        (b"rubbish\napp=\"a\"\nmore rubbish", "a", "", "{}"),
        (b"app=\"a=b\"\nx==", "a=b", "", r#"{"x":"="}"#),
        (b"x=\"1\"\napp=\"a\"\nx=\"2\"\napp=\"b\"", "b", "", r#"{"x":"2"}"#),
        (b"app=\"a\"b\"\nx=\"\"1\"\"", "ab", "", r#"{"x":"1"}"#),
        (b"app=\"\xff\"\nx=\"<&>\\\x07\"", "\u{fffd}", "", r#"{"x":"<&>\\\u0007"}"#),
        (b"z=\"1\"\na=\"2\"\nm=\"3\"", "", "", r#"{"a":"2","m":"3","z":"1"}"#),
        (b"", "", "", "{}"),
    ];
    for (text, app, release, rest) in cases {
        let labels = LabelDir::new(text);
        let answer = ask(Box::new(AppInfoBaseline), &labels.file(), "GET", "/v1/appinfo").await;
        let expected = format!(
            "{{\"PodName\":\"p\",\"AppName\":\"{app}\",\"Namespace\":\"\",\"Release\":\"{release}\",\"Labels\":{rest}}}\n"
        );
        assert_eq!((answer.status, &answer.body), (200, &expected), "{}", text.escape_ascii());
        assert_eq!(answer.header("x-release"), (!release.is_empty()).then_some(*release));
    }
}

#[tokio::test]
async fn the_error_for_an_unreadable_label_file_names_the_file_and_the_cause() {
    let directory = tempfile::tempdir().expect("a directory");
    let missing = directory.path().join("missing");
    let pipe = directory.path().join("pipe");
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR).expect("a pipe");
    let huge = directory.path().join("huge");
    fs::File::create(&huge).and_then(|file| file.set_len(3 << 20)).expect("a file");
    for (path, cause) in [
        (missing.as_path(), "No such file or directory"),
        (directory.path(), "is a directory"),
        (&pipe, "not a regular file"),
        (&huge, "larger than 2 MiB"),
    ] {
        for service in [Box::new(AppInfoBaseline) as Box<dyn AppInfoService>, Box::new(AppInfoWithNamespace)]
        {
            let answer = ask(service, path, "GET", "/v1/appinfo").await;
            assert_eq!(answer.status, 500);
            assert!(answer.body.starts_with("{\"error\":\"cannot read labels from "), "{}", answer.body);
            assert!(answer.body.contains(&path.display().to_string()), "{}", answer.body);
            assert!(answer.body.contains(cause), "{}: {cause}", answer.body);
            assert!(answer.body.ends_with("\"}\n") && answer.body.lines().count() == 1, "{}", answer.body);
            assert_eq!(answer.header("content-type"), Some(JSON));
            assert_eq!(answer.header("x-served-by"), Some("p"));
            assert_eq!(answer.header("x-release"), None);
        }
        let broken = ask(Box::new(AppInfoBroken), path, "GET", "/v1/appinfo").await;
        assert_eq!((broken.status, broken.body.as_str()), (500, BROKEN), "it needs no labels to fail");
        assert_eq!(broken.header("x-release"), None);
    }
}

#[tokio::test]
async fn the_error_names_a_path_that_is_not_utf8() {
    let path = Path::new(std::ffi::OsStr::from_bytes(b"/nowhere/\xff"));
    let answer = ask(Box::new(AppInfoBaseline), path, "GET", "/v1/appinfo").await;
    assert_eq!(answer.status, 500);
    assert!(answer.body.contains("/nowhere/\u{fffd}: No such file"), "{}", answer.body);
}

#[tokio::test]
async fn head_has_the_same_answer_as_get_without_the_body() {
    let labels = LabelDir::new(LABELS);
    let get = ask(Box::new(AppInfoBaseline), &labels.file(), "GET", "/v1/appinfo").await;
    let head = ask(Box::new(AppInfoBaseline), &labels.file(), "HEAD", "/v1/appinfo").await;
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    for name in ["content-type", "x-served-by", "x-release"] {
        assert_eq!(head.header(name), get.header(name));
    }
    assert_eq!(head.header("content-length"), Some(get.body.len().to_string().as_str()));
}

#[tokio::test]
async fn another_path_is_not_found() {
    let labels = LabelDir::new(LABELS);
    for path in [
        "/",
        "/v1",
        "/v1/appinfo/",
        "/v1/appinfo/x",
        "/V1/appinfo",
        "/v1//appinfo",
        "/v1%2Fappinfo",
        "/v1%2fappinfo",
        "/%56%31/appinfo",
        "/v1/%2561ppinfo",
        "/v1/appinfo%",
        "/v1/appinfo%2",
        "/v1/appinfo%0A",
        "/healthz",
    ] {
        for method in ["GET", "POST", "BREW"] {
            let answer = ask(Box::new(AppInfoBroken), &labels.file(), method, path).await;
            assert_eq!(
                (answer.status, answer.body.as_str()),
                (404, "{\"error\":\"not found\"}\n"),
                "{method} {path}"
            );
            assert_eq!(answer.header("content-type"), Some(JSON));
            assert_eq!(answer.header("x-served-by"), Some("p"));
            assert_eq!(answer.header("x-release"), Some("stable"));
        }
    }
    let answer = ask(Box::new(AppInfoBaseline), &labels.file(), "GET", "/v1/appinfo?a=b").await;
    assert_eq!(answer.status, 200, "a query changes nothing");
}

#[tokio::test]
async fn another_method_is_not_allowed() {
    let labels = LabelDir::new(LABELS);
    let methods = ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"];
    for method in methods {
        let answer = ask(Box::new(AppInfoBroken), &labels.file(), method, "/v1/appinfo").await;
        assert_eq!(answer.status, 405, "{method}");
        assert_eq!(answer.body, "{\"error\":\"method not allowed\"}\n");
        assert_eq!(answer.header("allow"), Some("GET,HEAD"));
        assert_eq!(answer.header("content-type"), Some(JSON));
        assert_eq!(answer.header("x-served-by"), Some("p"));
        assert_eq!(answer.header("x-release"), Some("stable"));
    }
}

#[tokio::test]
async fn headers_that_would_be_empty_or_invalid_are_omitted() {
    for (name, release) in [("", ""), ("p\nq", "a\0b"), ("пёс", "канарейка")] {
        let labels = LabelDir::new(format!("release=\"{release}\""));
        let answer = ask_pod(name, Box::new(AppInfoBaseline), &labels.file(), "GET", "/v1/appinfo").await;
        assert_eq!(answer.status, 200);
        let valid = name == "пёс"; // HTTP allows bytes above 0x7f
        for (header, value) in [("x-served-by", name), ("x-release", release)] {
            let told = answer.headers.get(header).map(axum::http::HeaderValue::as_bytes);
            assert_eq!(told, valid.then_some(value.as_bytes()), "{header}: {value:?}");
        }
        let info: appinfo::app_info::AppInfo = serde_json::from_str(&answer.body).expect("JSON");
        assert_eq!(
            (info.pod_name.as_str(), info.release.as_str()),
            (name, release),
            "the body has the values"
        );
    }
}

proptest! {
    /// HTTP methods are case-sensitive.
    #[test]
    fn only_path_and_method_decide_the_status(
        method in "GET|HEAD|POST|[A-Za-z!#$%&'*+.^_`|~-]{1,12}",
        path in "/|/v1/appinfo|/v1/appinfo/|//v1/appinfo|/[a-zA-Z0-9%./_~-]{0,20}",
        query in "|[?][a-z0-9=&%]{0,9}",
    ) {
        let labels = LabelDir::new(LABELS);
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let target = format!("{path}{query}");
        let answer = runtime.block_on(ask(Box::new(AppInfoBaseline), &labels.file(), &method, &target));
        let expected = match (path == "/v1/appinfo", method.as_str()) {
            (true, "GET" | "HEAD") => 200,
            (true, _) => 405,
            (false, _) => 404,
        };
        prop_assert_eq!(answer.status, expected);
        prop_assert_eq!(answer.header("content-type"), Some(JSON));
        prop_assert_eq!((answer.header("x-served-by"), answer.header("x-release")), (Some("p"), Some("stable")));
        let length = answer.header("content-length").and_then(|length| length.parse().ok());
        if method == "HEAD" {
            prop_assert_eq!(answer.body, "");
            prop_assert!(length.is_some_and(|length: usize| length > 0), "the length of GET's body");
        } else {
            prop_assert_eq!(length, Some(answer.body.len()));
            prop_assert!(answer.body.ends_with('\n'));
            serde_json::from_str::<serde_json::Value>(&answer.body).expect("JSON");
        }
    }
}
