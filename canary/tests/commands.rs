//! `canary watch` and `canary judge`, as processes, against real appinfo servers.

mod common;

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    process::Command,
    sync::atomic::Ordering,
    thread,
    time::{Duration, Instant},
};

use common::{Fleet, Version, canary, json_lines, run, start};
use rustix::process::Signal;
use serde_json::{Value, json};
use testkit::{eventually, free_port};

/// The time-out of requests that a server answers, however busy the machine is.
const PATIENT: &str = "--timeout=60s";

#[test]
fn watch_writes_the_counts_of_each_second_and_a_summary() {
    let fleet = Fleet::with_canary(Version::Broken);
    let (code, output, messages) = run(&["watch", &fleet.url(), "--count=400", "--rate=100", PATIENT]);
    assert_eq!(code, Some(0), "{messages}");
    let lines = json_lines(&output);
    let (summary, seconds) = lines.split_last().expect("lines");
    assert_eq!(summary["type"], "summary");
    assert!(seconds.iter().all(|line| line["type"] == "second"), "{output}");
    assert!(!seconds.is_empty(), "four seconds pass");
    assert!(
        seconds.iter().all(|line| line["requests"].as_u64() < Some(400)),
        "a line counts only its own second"
    );

    assert_eq!(
        (&summary["requests"], &summary["success"], &summary["failure"]),
        (&json!(400), &json!(300), &json!(100))
    );
    let expected = |success: u64, failure: u64, share: f64| {
        json!({
            "success": success, "failure": failure, "slow": 0, "share": share, "expected_share": share,
        })
    };
    assert_eq!(
        summary["releases"],
        json!({"stable": expected(300, 0, 0.75), "canary": expected(0, 100, 0.25)})
    );
    assert_eq!(summary["no_answer"], json!({"count": 0, "causes": {}}));
    assert_eq!(summary["pods"].as_object().expect("pods").len(), 4);
    assert_eq!(
        summary["pods"]["appinfo-canary-1"],
        json!({"release": "canary", "namespace": "", "labels": {}, "success": 0, "failure": 100, "slow": 0})
    );
    assert_eq!(summary["verdict"]["decision"], "roll_back");
    let (median, tail) = (&summary["latency_ms"]["p50"], &summary["latency_ms"]["p99"]);
    assert!(median.as_f64() > Some(0.0) && median.as_f64() <= tail.as_f64(), "{median} {tail}");
    assert!(summary["price"]["failed_requests"].as_f64() > Some(0.0), "{summary}");
    assert!(messages.starts_with("canary: asking http://"), "{messages}");
}

#[test]
fn a_share_that_is_given_is_the_expected_one_and_decides_nothing() {
    let fleet = Fleet::with_canary(Version::Broken);
    for (share, [canary, stable]) in [("1%", [0.01, 0.99]), ("0.25", [0.25, 0.75])] {
        let (code, output, messages) =
            run(&["watch", &fleet.url(), "--count=200", "--rate=200", PATIENT, "--share", share]);
        assert_eq!(code, Some(0), "{messages}");
        let summary = json_lines(&output).pop().expect("a summary");
        assert_eq!(summary["releases"]["canary"]["expected_share"], canary, "{summary}");
        assert_eq!(summary["releases"]["stable"]["expected_share"], stable, "{summary}");
        assert_eq!(summary["verdict"]["decision"], "roll_back");
    }
    let not_between = "does not lie strictly between 0 and 1 (0 % and 100 %)";
    for (share, cause) in [
        ("0", format!("0 {not_between}")),
        ("100%", format!("1 {not_between}")),
        ("1", format!("1 {not_between}: write 1% or 0.01")),
        ("-1%", format!("-0.01 {not_between}")),
        ("a tenth", "\"a tenth\" is not a number".to_owned()),
    ] {
        let (code, _, messages) = run(&["watch", &format!("--share={share}")]);
        assert_eq!(code, Some(3), "{share}");
        let wanted = format!("error: invalid value '{share}' for '--share <SHARE>': {cause}\n");
        assert!(messages.starts_with(&wanted), "{messages}");
    }
}

#[test]
fn each_request_has_its_own_connection() {
    let fleet = Fleet::with_canary(Version::WithNamespace);
    let (code, ..) = run(&["watch", &fleet.url(), "--count=60", "--rate=200", PATIENT]);
    assert_eq!((code, fleet.connections.load(Ordering::Relaxed)), (Some(0), 60));
}

#[test]
fn watch_can_send_300_requests_per_second() {
    let fleet = Fleet::with_canary(Version::WithNamespace);
    // a machine that is busy at first has another try
    eventually("three seconds' worth in less than six", || {
        let (code, output, _) = run(&["watch", &fleet.url(), "--count=900", "--rate=300", PATIENT]);
        let summary = json_lines(&output).pop().expect("a summary");
        assert_eq!((code, &summary["success"]), (Some(0), &json!(900)), "{summary}");
        summary["seconds"].as_f64() < Some(6.0)
    });
}

/// A server that answers each connection after `delay` with these bytes. Returns its URL.
fn server(delay: Duration, answer: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("its address"));
    thread::spawn(move || {
        for mut client in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || {
                let _ = client.read(&mut [0; 1024]);
                thread::sleep(delay);
                let _ = client.write_all(answer.as_bytes());
            });
        }
    });
    url
}

#[test]
fn requests_overlap_if_answers_are_slow() {
    let slow = server(Duration::from_secs(1), "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    let began = Instant::now();
    let (code, output, _) = run(&["watch", &slow, "--count=100", "--rate=100", PATIENT]);
    let took = began.elapsed();
    let summary = json_lines(&output).pop().expect("a summary");
    assert_eq!((code, &summary["success"]), (Some(0), &json!(100)), "{summary}");
    assert!(took < Duration::from_secs(60), "one after the other they would take 100 s; took {took:?}");
    assert!(summary["latency_ms"]["p50"].as_f64() >= Some(1000.0), "{summary}");
}

#[test]
fn requests_wait_if_the_limit_of_open_files_is_low() {
    let slow = server(Duration::from_millis(50), "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    let binary = env!("CARGO_BIN_EXE_canary");
    let script = format!("ulimit -n 80; exec {binary} watch {slow} --count=40 --rate=400 {PATIENT}");
    let output = Command::new("sh").args(["-c", &script]).output().expect("it runs");
    let summary = json_lines(&String::from_utf8(output.stdout).expect("UTF-8")).pop().expect("a summary");
    assert_eq!((&summary["success"], &summary["unsent"]), (&json!(40), &json!(0)), "{summary}");
}

fn summary_of(url: &str) -> Value {
    summary_within(url, PATIENT)
}

fn summary_within(url: &str, timeout: &str) -> Value {
    let (_, output, _) = run(&["watch", url, "--count=3", "--rate=100", timeout]);
    json_lines(&output).pop().expect("a summary")
}

#[test]
fn requests_without_an_answer_are_counted_by_cause() {
    let refused = format!("http://{}", free_port());
    let hangs = server(Duration::from_secs(3600), "");
    let closes = server(Duration::ZERO, "");
    let no_http = server(Duration::ZERO, "220 smtp.example.com ESMTP\r\n");
    for (url, cause) in [
        (refused.as_str(), "refused"),
        (&hangs, "timed-out"),
        (&closes, "broke-off"),
        (&no_http, "broke-off"),
        ("http://no-such-name.invalid", "unknown-name"),
    ] {
        let summary = summary_within(url, if cause == "timed-out" { "--timeout=1s" } else { PATIENT });
        assert_eq!(summary["no_answer"], json!({"count": 3, "causes": {cause: 3}}), "{url}: {summary}");
        assert_eq!((&summary["requests"], &summary["failure"]), (&json!(3), &json!(3)), "{summary}");
        assert!(summary["trouble"].is_string(), "{summary}");
    }
}

#[test]
fn failures_are_attributed_to_the_release_and_pod_in_the_headers() {
    let head = "HTTP/1.1 200 OK\r\nx-release: canary\r\nx-served-by: one\r\ncontent-length: 9\r\n\r\n";
    let broken_off = summary_of(&server(Duration::ZERO, head));
    assert_eq!(broken_off["releases"]["canary"]["failure"], 3, "{broken_off}");
    assert_eq!(broken_off["pods"]["one"]["failure"], 3, "{broken_off}");
    let proxy = summary_of(&server(Duration::ZERO, "HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n"));
    assert_eq!(proxy["unnamed"], json!({"success": 0, "failure": 3, "slow": 0}), "{proxy}");
    let moved = summary_of(&server(
        Duration::ZERO,
        "HTTP/1.1 302 Found\r\nx-release: stable\r\nlocation: /\r\ncontent-length: 0\r\n\r\n",
    ));
    assert_eq!(moved["releases"]["stable"]["failure"], 3, "{moved}");
}

#[test]
fn release_and_pod_come_from_the_body_if_there_are_no_headers() {
    let summary = summary_of(&server(
        Duration::ZERO,
        "HTTP/1.1 200 OK\r\ncontent-length: 89\r\n\r\n\
         {\"PodName\":\"one\",\"AppName\":\"appinfo\",\"Namespace\":\"space\",\"Release\":\"canary\",\"Labels\":{}}\n",
    ));
    assert_eq!(summary["releases"]["canary"]["success"], 3, "{summary}");
    assert_eq!(summary["pods"]["one"]["namespace"], "space", "{summary}");
}

#[test]
fn what_cannot_be_written_is_named() {
    let input = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(input.path(), "{\"release\":\"canary\",\"failed\":true}\n").expect("a file");
    let input = format!("--input={}", input.path().display());
    let url = server(Duration::ZERO, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    for arguments in [
        &["judge", &input][..],
        &["judge", &input, "--output=json"],
        &["judge", &url, "--count=3", "--rate=100"],
        &["judge", &url, "--count=3", "--rate=100", "--output=json"],
        &["watch", &url, "--count=3", "--rate=100"],
        &["rehearse", "--script", "--listen=127.0.0.1:0"],
        &["judge", "--help"],
    ] {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("Linux has it");
        let output = canary(arguments).stdout(full).output().expect("it runs");
        let messages = String::from_utf8(output.stderr).expect("UTF-8");
        assert_eq!(output.status.code(), Some(6), "{arguments:?}: {messages}");
        let told = "canary: cannot write standard output: No space left on device";
        assert!(messages.contains(told), "{arguments:?}: {messages}");
    }
}

#[test]
fn a_rehearsal_without_room_for_its_files_names_the_folder() {
    let folder = tempfile::tempdir().expect("a folder");
    let rehearse = |folder: &str, limit: &str| {
        let script = format!("trap '' XFSZ; {limit} exec \"$@\"");
        let mut command = Command::new("sh");
        command.args(["-c", &script, "sh", env!("CARGO_BIN_EXE_canary"), "rehearse", "--script"]);
        let output = command.arg("--listen=127.0.0.1:0").env("TMPDIR", folder).output().expect("it runs");
        (output.status.code(), String::from_utf8(output.stderr).expect("UTF-8"))
    };
    let path = folder.path().to_str().expect("UTF-8");
    let (code, messages) = rehearse(&format!("{path}/none"), "");
    assert_eq!(code, Some(6), "{messages}");
    assert!(messages.contains("cannot make a folder for the pods' labels: "), "{messages}");
    assert!(messages.contains(&format!("{path}/none")), "{messages}");
    // no file may have a byte
    let (code, messages) = rehearse(path, "ulimit -f 0;");
    assert_eq!(code, Some(6), "{messages}");
    assert!(messages.contains(&format!("cannot write a pod's labels to {path}/")), "{messages}");
}

#[test]
fn very_long_words_are_not_echoed_whole() {
    let long = "a".repeat(10_000);
    for arguments in [
        vec![long.clone()],
        vec!["judge".to_owned(), format!("deployment/{long}")],
        vec!["judge".to_owned(), format!("deployment/A{long}")],
        vec!["judge".to_owned(), format!("--alpha={long}")],
        vec!["judge".to_owned(), format!("--{long}")],
        vec!["judge".to_owned(), format!("--input={long}")],
        vec!["serve".to_owned(), format!("--token-file={long}")],
    ] {
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        let (code, _, messages) = run(&arguments);
        assert!(matches!(code, Some(3 | 6)), "{code:?}: {messages}");
        assert!(messages.contains("aaa…") && messages.len() < 4000, "{messages}");
    }
}

#[test]
fn host_names_are_resolved() {
    let fleet = Fleet::with_canary(Version::WithNamespace);
    let summary = summary_of(&format!("http://localhost:{}", fleet.address.port()));
    assert_eq!(summary["success"], 3, "{summary}");
}

#[test]
fn usage_errors_name_the_cause_and_have_their_own_exit_code() {
    for (arguments, cause) in [
        (&["watch", "ftp://127.0.0.1"][..], "want http://HOST:PORT"),
        (&["watch", "https://a b"], "want http://HOST:PORT"),
        (&["watch", "http://me:secret@127.0.0.1"], "password"),
        (&["watch", "http://127.0.0.1:99999"], "not a number from 1 to 65535"),
        (&["watch", "--alpha=1"], "between 0 and 1"),
        (&["watch", "--max-failure-rate=many"], "not a number"),
        (&["watch", "--traffic=0"], "positive"),
        (&["watch", "--rate=0"], "from 0.01 to 2000"),
        (&["watch", "--for=0"], "more than no time"),
        (&["watch", "--count=0"], "not in 1.."),
        (&["rehearse", "--listen=8080"], "invalid socket address"),
        (&["rehearse", "--fault-percent=5%"], "want a number from 0 to 100"),
        (&["rehearse", "--fault-delay-ms=1s"], "want a number of milliseconds from 0 to 60000"),
        (&["dance"], "unrecognized subcommand"),
        (&[], "Usage"),
    ] {
        let (code, output, messages) = run(arguments);
        assert_eq!((code, output.as_str()), (Some(3), ""), "{arguments:?}: {messages}");
        assert!(messages.contains(cause), "{arguments:?}: {messages}");
    }
}

#[test]
fn watch_has_its_own_exit_code_if_no_request_was_answered() {
    let (code, ..) = run(&["watch", "http://127.0.0.1:1", "--count=3", "--rate=100"]);
    assert_eq!(code, Some(4));
}

#[test]
fn a_picture_needs_a_terminal() {
    for arguments in [&["watch", "--output=picture"][..], &["rehearse", "--listen=127.0.0.1:0"]] {
        let (code, output, messages) = run(arguments);
        assert_eq!((code, output.as_str()), (Some(6), ""), "{messages}");
        assert!(messages.contains("terminal"), "{messages}");
    }
}

#[test]
fn ctrl_c_ends_a_watch_with_its_summary_and_a_judge_without_a_verdict() {
    let fleet = Fleet::with_canary(Version::WithNamespace);
    for (arguments, signal, expected) in [
        (["watch", &fleet.url(), "--output=json"], Signal::INT, 0),
        (["watch", &fleet.url(), "--output=json"], Signal::TERM, 143),
        (["judge", &fleet.url(), "--output=json"], Signal::INT, 130),
        (["judge", &fleet.url(), "--output=json"], Signal::TERM, 143),
    ] {
        let mut process = start(&arguments);
        let mut lines = BufReader::new(process.stdout.take().expect("its output")).lines();
        lines.next().expect("a line of the first second").expect("text");
        testkit::signal(&process, signal);
        let last = lines.last().expect("more lines").expect("text");
        assert!(last.starts_with("{\"type\":\"summary\""), "{last}");
        assert_eq!(process.wait().expect("its end").code(), Some(expected), "{arguments:?} {signal:?}");
    }
}

#[test]
fn watch_ends_when_the_reader_of_its_output_is_gone() {
    let fleet = Fleet::with_canary(Version::WithNamespace);
    let mut process = start(&["watch", &fleet.url()]);
    drop(process.stdout.take());
    assert_eq!(process.wait().expect("its end").code(), Some(141));
}
