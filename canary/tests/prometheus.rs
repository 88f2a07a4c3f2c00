//! The output of `canary --prometheus` on answers of a fake server.

mod common;

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
    time::{SystemTime, UNIX_EPOCH},
};

use serde_json::json;

use common::{json_lines, run};

/// The answers to queries: status and body; `None` for no answer.
type Answers = Arc<dyn Fn(&str) -> Option<(u16, String)> + Send + Sync>;

/// A server that answers queries as the test defines, and records the requests' headers.
struct MadeUp {
    url: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl MadeUp {
    fn new(answers: impl Fn(&str) -> Option<(u16, String)> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("its address"));
        let (answers, asked): (Answers, _) = (Arc::new(answers), Arc::new(Mutex::new(Vec::new())));
        let new = Self { url, asked: Arc::clone(&asked) };
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let (answers, asked) = (Arc::clone(&answers), Arc::clone(&asked));
                thread::spawn(move || answer(client, &answers, &asked));
            }
        });
        new
    }

    /// `canary judge` for two seconds, with more flags: exit code, standard output, standard error.
    fn judge(&self, flags: &[&str]) -> (Option<i32>, String, String) {
        let usual = ["judge", "--prometheus", &self.url, "--interval=200ms", "--for=2s"];
        run(&[&usual[..], flags].concat())
    }
}

fn answer(mut client: TcpStream, answers: &Answers, asked: &Mutex<Vec<String>>) {
    let mut lines = BufReader::new(client.try_clone().expect("a handle")).lines();
    while let Some(Ok(request)) = lines.next() {
        let mut head = vec![request.clone()];
        head.extend(lines.by_ref().map_while(Result::ok).take_while(|line| !line.is_empty()));
        asked.lock().expect("no panic").push(head.join("\n"));
        let Some((status, body)) = answers(&request) else {
            // it never answers
            let _ = client.read_to_end(&mut Vec::new());
            return;
        };
        let length = body.len();
        let head = format!(
            "HTTP/1.1 {status} Made-up\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
        );
        if client.write_all((head + &body).as_bytes()).is_err() {
            return;
        }
    }
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs_f64()
}

#[expect(clippy::unnecessary_wraps, reason = "as answers are given")]
fn success(kind: &str, result: &serde_json::Value) -> Option<(u16, String)> {
    Some((200, json!({"status": "success", "data": {"resultType": kind, "result": result}}).to_string()))
}

fn time() -> Option<(u16, String)> {
    success("scalar", &json!([now(), now().to_string()]))
}

fn matrix(series: &serde_json::Value) -> Option<(u16, String)> {
    success("matrix", series)
}

/// A series with a sample of each of the last seconds, which counts ten requests a second.
fn series(release: &str, more: &[(&str, &str)]) -> serde_json::Value {
    let mut labels = json!({"instance": release, "job": "pods", "release": release});
    for (key, value) in more {
        labels[key] = json!(value);
    }
    let last = now().floor();
    let samples: Vec<_> = (0..100).map(|age| last - f64::from(100 - age)).collect();
    let values: Vec<_> = samples.iter().map(|at| json!([at, (at % 1e6 * 10.0).to_string()])).collect();
    json!({"metric": labels, "values": values})
}

/// Answers the queries for the time, for metadata, and for requests and failures of both releases.
fn usual(request: &str) -> Option<(u16, String)> {
    if request.contains("query=time") {
        time()
    } else if request.contains("metadata") {
        Some((200, json!({"status": "success", "data": {}}).to_string()))
    } else if request.contains("5..") {
        matrix(&json!([]))
    } else {
        let release = if request.contains("canary") { "canary" } else { "stable" };
        matrix(&json!([series(release, &[("status", "200")])]))
    }
}

#[test]
fn a_canary_without_failures_is_promoted() {
    let server = MadeUp::new(usual);
    let (code, said, told) = run(&[
        "judge",
        "--prometheus",
        &server.url,
        "--interval=300ms",
        "--for=90s",
        "--max-failure-rate=10%",
    ]);
    assert_eq!(code, Some(0), "{said}{told}");
}

#[test]
fn a_refused_query_is_reported_once_with_its_error_and_retried() {
    let refused = json!({"status": "error", "errorType": "execution", "error": "too many samples"});
    let refused = refused.to_string();
    let server =
        MadeUp::new(
            move |request| {
                if request.contains("query=time") { time() } else { Some((422, refused.clone())) }
            },
        );
    let (code, said, told) = server.judge(&[]);
    assert_eq!(code, Some(5), "{said}{told}");
    assert_eq!(told.matches("too many samples (HTTP 422").count(), 1, "{told}");
    assert!(server.asked.lock().expect("no panic").len() > 4, "it goes on to ask");
}

#[test]
fn a_refused_connection_is_reported_and_exits_with_4() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    drop(listener);
    let (code, said, told) = run(&["judge", "--prometheus", &url, "--interval=200ms", "--for=1s"]);
    assert_eq!(code, Some(4), "{said}{told}");
    assert!(told.contains("Prometheus does not answer") && told.contains("onnection refused"), "{told}");
    assert_eq!(said, "", "there is nothing to say");
}

#[test]
fn a_server_that_never_answers_is_waited_for() {
    let server = MadeUp::new(|_| None);
    let (code, said, told) = server.judge(&[]);
    assert_eq!(code, Some(4), "{said}{told}");
    assert!(told.contains("Prometheus does not answer"), "{told}");
}

#[test]
fn a_server_that_is_not_prometheus_is_reported() {
    for (status, says) in
        [(200, "this is not a Prometheus server"), (404, "HTTP 404"), (503, "HTTP 503"), (401, "HTTP 401")]
    {
        let server = MadeUp::new(move |_| Some((status, "<html>".to_owned())));
        let (_, said, told) = server.judge(&[]);
        assert!(told.contains(says), "{status}: {said}{told}");
    }
}

#[test]
fn a_release_without_samples_is_named_and_gets_no_verdict() {
    let server =
        MadeUp::new(|request| if request.contains("canary") { matrix(&json!([])) } else { usual(request) });
    let (code, said, told) = server.judge(&[]);
    assert_eq!(code, Some(5), "{said}{told}");
    let missing = "Prometheus has no samples of http_requests_total{app=\"appinfo\",path=\"/v1/appinfo\",\
                   method=~\"GET|HEAD\",release=\"canary\"}";
    assert_eq!(told.matches(missing).count(), 1, "{told}");
    assert!(told.contains("named the release canary"), "{told}");
}

#[test]
fn a_failure_label_that_no_series_has_gives_no_verdict() {
    let server = MadeUp::new(usual);
    let (code, said, told) = server.judge(&["--failed", "code=~\"5..\""]);
    assert_eq!(code, Some(5), "{said}{told}");
    assert!(told.contains("has the label code, which --failed uses"), "{told}");
}

#[test]
fn a_missing_bucket_gives_no_verdict() {
    let server =
        MadeUp::new(|request| if request.contains("_bucket") { matrix(&json!([])) } else { usual(request) });
    let (code, said, told) = server.judge(&["--slow", "a_bucket{le=\"0.3\"}"]);
    assert_eq!(code, Some(5), "{said}{told}");
    assert!(told.contains("le=\"0.3\"}: is there such a bucket?"), "{told}");
}

#[test]
fn a_wrong_type_is_named() {
    let server =
        MadeUp::new(
            |request| {
                if request.contains("query=time") { time() } else { success("vector", &json!([])) }
            },
        );
    assert!(server.judge(&[]).2.contains("with a vector, and a matrix is wanted"));

    let gauge = json!({"status": "success", "data": {"http_requests_total": [{"type": "gauge", "help": "", "unit": ""}]}});
    let gauge = gauge.to_string();
    let server =
        MadeUp::new(
            move |request| {
                if request.contains("metadata") { Some((200, gauge.clone())) } else { usual(request) }
            },
        );
    let (code, said, told) = server.judge(&[]);
    assert_eq!(code, Some(5), "{said}{told}");
    assert!(told.contains("http_requests_total is a gauge; it must be a counter"), "{told}");
}

#[test]
fn a_series_that_matches_both_releases_is_named() {
    let server = MadeUp::new(|request| {
        if request.contains("query=") && !request.contains("time%28") {
            matrix(&json!([series("both", &[("status", "200")])]))
        } else {
            usual(request)
        }
    });
    let (_, said, told) = server.judge(&[]);
    assert!(told.contains("both --stable and --canary match the series"), "{said}{told}");
}

#[test]
fn credentials_are_sent_and_never_printed() {
    let folder = tempfile::tempdir().expect("a folder");
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "hush\n").expect("a file");
    let secret = secret.to_str().expect("a name");
    for (flags, sent) in [
        (vec!["--bearer-token-file", secret], "authorization: Bearer hush"),
        (vec!["--user", "me", "--password-file", secret], "authorization: Basic bWU6aHVzaA=="),
    ] {
        let server = MadeUp::new(usual);
        let (_, said, told) = server.judge(&flags);
        assert!(server.asked.lock().expect("no panic")[0].contains(sent), "{sent}");
        assert!(!(said + &told).contains("hush"));
    }
}

#[test]
fn invalid_options_are_refused_before_the_first_query() {
    let server = MadeUp::new(usual);
    for (flags, says) in [
        (&["--stable", "release=stable"][..], "must be in quotes"),
        (&["--canary", "release=\"stable\""], "--stable and --canary are the same"),
        (&["--metric", "rate(a[1m])"], "is not the name of a metric"),
        (&["--slow", "a_bucket"], "want one bucket of a histogram"),
        (&["--bearer-token-file", "/nowhere"], "cannot read /nowhere"),
        (&["--rate", "5"], "cannot be used with"),
        (&["--timeout", "5s"], "cannot be used with"),
        (&["--max-latency", "5s"], "cannot be used with"),
        (&["--input", "-"], "cannot be used with"),
        (&["--canary-value", "x"], "cannot be used with"),
        (&["http://127.0.0.1:1"], "cannot be used with"),
        (&["--user", "me"], "--password-file"),
    ] {
        let (code, _, told) = server.judge(flags);
        assert_eq!(code, Some(3), "{flags:?}: {told}");
        assert!(told.contains(says), "{flags:?}: {told}");
    }
    for url in ["127.0.0.1:9090", "ftp://127.0.0.1", "http://me:hush@127.0.0.1:9090"] {
        let (code, _, told) = run(&["judge", "--prometheus", url]);
        assert!(code == Some(3) && !told.contains("hush"), "{told}");
    }
    assert_eq!(server.asked.lock().expect("no panic").len(), 0);
    let (code, _, told) = run(&["judge", "--stable", "a=\"b\""]);
    assert!(code == Some(3) && told.contains("--prometheus"), "{told}");
}

#[test]
fn watch_prints_counters_as_lines_of_json() {
    let server = MadeUp::new(usual);
    let (code, said, told) =
        run(&["watch", "--prometheus", &server.url, "--interval=300ms", "--for=5s", "--output=json"]);
    assert_eq!(code, Some(0), "{told}");
    let lines = json_lines(&said);
    let summary = lines.last().expect("a summary");
    let of = |release: &str| summary["releases"][release]["success"].as_u64().unwrap_or_default();
    assert!(of("stable") >= 10 && of("canary") >= 10, "{summary}");
    assert!(of("stable") <= 70, "ten a second, nothing twice: {summary}");
    let share = summary["price"]["budget_share"].as_f64();
    assert_eq!(share, Some(0.0), "the traffic is measured: {summary}");
}
