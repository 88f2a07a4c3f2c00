//! `canary serve --state`: the trials survive the process.

mod common;

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use common::{
    run,
    serving::{PATIENT, Serving},
    start,
};
use rustix::process::Signal;
use serde_json::{Value, json};
use testkit::eventually;

/// A service that answers at once: one of four answers is the canary's. Returns its address.
fn service() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            thread::spawn(move || answer(client));
        }
    });
    url
}

/// The answers of all connections.
static ANSWERED: AtomicU64 = AtomicU64::new(0);

fn answer(mut client: TcpStream) -> Option<()> {
    let lines = BufReader::new(client.try_clone().ok()?).lines();
    for _ in lines.map_while(Result::ok).filter(String::is_empty) {
        let number = ANSWERED.fetch_add(1, Ordering::Relaxed);
        let (release, pod) = match number % 4 {
            0 => ("canary", "appinfo-canary-c66665c44-x2z4v"),
            _ => ("stable", "appinfo-567b989978-vvzlg"),
        };
        let head = format!("x-release: {release}\r\nx-served-by: {pod}\r\ncontent-length: 2");
        write!(client, "HTTP/1.1 200 OK\r\n{head}\r\n\r\n{{}}").ok()?;
    }
    Some(())
}

fn number(value: &Value) -> u64 {
    value.as_u64().expect("a number")
}

/// What was counted of both sides: judged, and waiting.
fn accounted(verdict: &Value) -> u64 {
    let of = |verdict: &Value| number(&verdict["canary"]["answers"]) + number(&verdict["stable"]["answers"]);
    of(verdict) + of(&verdict["waiting"])
}

fn files(folder: &Path, ending: &str) -> Vec<String> {
    let names = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("a file").file_name());
    names.filter_map(|name| name.into_string().ok()).filter(|name| name.ends_with(ending)).collect()
}

/// The head of the file.
fn head(path: &Path) -> Option<Value> {
    serde_json::from_slice(fs::read(path).ok()?.split(|byte| *byte == b'\n').next()?).ok()
}

#[test]
fn after_kill_9_at_any_moment_the_trials_go_on_from_the_last_write() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("state");
    let flag = format!("--state={}", path.display());
    let url = service();
    let begin = || Serving::start(&url, &["--rate=400", PATIENT, &flag]);
    let (mut least, mut most, mut trial_began) = (0, 0, Value::Null);
    let mut measured = Instant::now();
    let rounds = std::env::var("KILLS").map_or(12, |text| text.parse().expect("a number"));
    for round in 0..rounds {
        let mut serving = begin();
        let first = serving.get("/v1/verdict").json();
        assert!(files(folder.path(), ".aside").is_empty(), "round {round}: the file can always be read");
        assert_eq!(number(&first["requests"]), accounted(&first), "round {round}: {first}");
        if least > 0 {
            assert!(number(&first["requests"]) >= least, "round {round}: {first} has less than {least}");
            assert_eq!((&first["trial"], &first["trial_began"]), (&json!("c66665c44"), &trial_began));
            let since = first["not_seen"]["since"].as_str().expect("a time").to_owned();
            let sentence = first["sentence"].as_str().expect("a text");
            assert!(sentence.contains("Nothing was seen between ") && sentence.contains(&since[11..19]));
            // those since then are not known of, but there are no more than the rate allows
            let own = 400 * (measured.elapsed().as_secs() + 2);
            assert!(number(&first["requests"]) <= most + own, "round {round}: {first} has more than {most}");
        }
        // of two writes, the second has begun after this moment
        eventually("a canary", || serving.get("/v1/verdict").json()["trial"] == "c66665c44");
        let counted = serving.get("/v1/verdict").json();
        (least, trial_began) = (number(&counted["requests"]), counted["trial_began"].clone());
        for _ in 0..2 {
            let written = head(&path);
            eventually("a write", || head(&path) != written);
        }
        thread::sleep(Duration::from_micros(fastrand::u64(0..1_100_000)));
        measured = Instant::now();
        most = number(&serving.get("/v1/verdict").json()["requests"]);
        serving.signal(Signal::KILL);
        assert_eq!(serving.end(), None, "it was killed");
    }
    assert!(most > 0);
}

#[test]
fn an_orderly_end_keeps_every_answer() {
    let folder = tempfile::tempdir().expect("a folder");
    let flag = format!("--state={}", folder.path().join("state").display());
    let url = service();
    let mut serving = Serving::start(&url, &["--rate=400", PATIENT, &flag]);
    let promoted = |serving: &Serving| serving.get("/v1/verdict").json()["decision"] == "promote";
    eventually("a promotion", || promoted(&serving));
    let before = number(&serving.get("/v1/verdict").json()["requests"]);
    let counting_since = serving.get("/v1/verdict").json()["counting_since"].clone();
    serving.signal(Signal::INT);
    assert_eq!(serving.end(), Some(0));
    let serving = Serving::start(&url, &["--rate=1", PATIENT, &flag]);
    let verdict = serving.get("/v1/verdict").json();
    assert!(number(&verdict["requests"]) >= before, "{verdict}");
    assert_eq!((&verdict["decision"], &verdict["counting_since"]), (&json!("promote"), &counting_since));
    let metrics = serving.get("/metrics").body;
    assert!(metrics.contains("\ncanary_state_write_failures_total 0\n"), "{metrics}");
    assert!(metrics.contains("canary_decision{decision=\"promote\"} 1"), "{metrics}");
}

#[test]
fn a_second_process_may_not_use_the_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let flag = format!("--state={}", folder.path().join("state").display());
    let url = service();
    let _first = Serving::start(&url, &[&flag]);
    let (code, _, messages) = run(&["serve", &url, "--listen=127.0.0.1:0", &flag]);
    assert_eq!(code, Some(3), "{messages}");
    assert!(messages.contains("another canary uses it"), "{messages}");
}

#[test]
fn a_link_to_the_file_is_the_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path().canonicalize().expect("it exists");
    std::os::unix::fs::symlink("state", folder.join("link")).expect("a link");
    let flag = |name: &str| format!("--state={}", folder.join(name).display());
    let url = service();
    let mut first = Serving::start(&url, &[&flag("link")]);
    for name in ["state", "link"] {
        let (code, _, messages) = run(&["serve", &url, "--listen=127.0.0.1:0", &flag(name)]);
        assert_eq!(code, Some(3), "{messages}");
        assert!(messages.contains("another canary uses it"), "{name}: {messages}");
    }
    eventually("a write", || head(&folder.join("state")).is_some());
    first.signal(Signal::INT);
    assert_eq!(first.end(), Some(0));
    let kind = fs::symlink_metadata(folder.join("link")).expect("it is there").file_type();
    assert!(kind.is_symlink(), "it is not replaced");
}

#[test]
fn a_folder_is_refused_before_anything_is_served() {
    let folder = tempfile::tempdir().expect("a folder");
    let flag = format!("--state={}", folder.path().display());
    let (code, _, messages) = run(&["serve", "http://127.0.0.1:1", "--listen=127.0.0.1:0", &flag]);
    assert_eq!(code, Some(3), "{messages}");
    assert!(messages.contains("it exists, and it is not a regular file"), "{messages}");
    assert!(!messages.contains("serving on"), "{messages}");
}

#[test]
fn of_other_terms_the_flags_that_differ_are_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let flag = format!("--state={}", folder.path().join("state").display());
    let url = format!("{}/path", service());
    let mut first = Serving::start(&url, &[&flag, "--alpha=0.01", "--release-from=body:/version"]);
    first.signal(Signal::INT);
    assert_eq!(first.end(), Some(0));
    let mut second = start(&["serve", &url, "--listen=127.0.0.1:0", &flag, "--max-failure-rate=2%"]);
    let messages = BufReader::new(second.stderr.take().expect("a pipe")).lines().map_while(Result::ok);
    let told: Vec<_> = messages.take_while(|line| !line.contains("serving on")).collect();
    second.kill().expect("it runs");
    second.wait().expect("it ran");
    let told = told.join("\n");
    for part in [
        "--alpha 0.01, now 0.05",
        "--max-failure-rate 0.01, now 0.02",
        "--release-from body:/version, now x-release",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    for part in ["--max-ratio", "--timeout", "Naming", "Header", "the service"] {
        assert!(!told.contains(part), "{part}: {told}");
    }
}

#[test]
fn a_file_that_cannot_be_used_is_set_aside_with_a_message() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("state");
    let flag = format!("--state={}", path.display());
    let url = service();
    let once = |flags: &[&str]| {
        let mut serving = Serving::start(&url, &[&[flag.as_str()], flags].concat());
        serving.get("/v1/verdict");
        serving.signal(Signal::INT);
        assert_eq!(serving.end(), Some(0));
    };
    once(&[]);
    once(&["--rate=20"]);
    assert_eq!(files(folder.path(), ".aside").len(), 0, "the rate decides nothing");
    once(&["--alpha=0.01"]);
    assert_eq!(files(folder.path(), ".aside").len(), 1, "evidence holds for its own alpha");
    once(&["--alpha=0.01"]);
    let mut bytes = fs::read(&path).expect("a file");
    *bytes.last_mut().expect("not empty") ^= 1;
    fs::write(&path, &bytes).expect("a file");
    once(&["--alpha=0.01"]);
    assert_eq!(files(folder.path(), ".aside").len(), 2, "damaged");
    for (number, version) in [1, 999].into_iter().enumerate() {
        let other = format!("{{\"canary_state\":{version},\"any\":[]}}\n\0");
        fs::write(&path, &other).expect("a file");
        once(&["--alpha=0.01"]);
        let aside = files(folder.path(), ".aside");
        assert_eq!(aside.len(), 3 + number, "of another form");
        let is_kept =
            |name: &String| fs::read(folder.path().join(name)).is_ok_and(|text| text == other.as_bytes());
        assert!(aside.iter().any(is_kept), "nothing of it is lost");
    }
}

#[test]
fn a_file_that_cannot_be_written_does_not_stop_the_judge_and_is_written_later() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("state");
    let serving = Serving::start(&service(), &["--rate=100", &format!("--state={}", path.display())]);
    let metric = |name: &str| -> f64 {
        let text = serving.get("/metrics").body;
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name} "))).expect("a metric");
        line.parse().expect("a number")
    };
    eventually("a write", || path.exists());
    // a folder of this name cannot be written to
    let new = folder.path().join("state.new");
    eventually("a folder in its place", || fs::create_dir(&new).is_ok());
    eventually("a failure", || metric("canary_state_write_failures_total") > 1.0);
    let requests = || number(&serving.get("/v1/verdict").json()["requests"]);
    let before = requests();
    eventually("more requests", || requests() > before);
    fs::remove_dir(&new).expect("it is empty");
    let (written, failures) = (head(&path), metric("canary_state_write_failures_total"));
    eventually("another write", || head(&path) != written);
    assert!(metric("canary_state_write_failures_total") <= failures + 1.0);
}
