//! `canary judge --input`.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    io::Write as _,
    process::Stdio,
    time::{Duration, Instant},
};

use fastrand::Rng;
use rustix::process::Signal;
use serde_json::json;
use testkit::eventually;

use crate::{
    Judged,
    common::{canary, json_lines, run, run_with_input},
};

/// Random outcomes. `share` is the canary's share of requests, `stable` and `canary` are the failure rates.
fn outcomes(seed: u64, requests: usize, share: f64, stable: f64, canary: f64) -> String {
    let mut rng = Rng::with_seed(seed);
    let mut lines = String::new();
    for _ in 0..requests {
        let (release, rate) = if rng.f64() < share { ("canary", canary) } else { ("stable", stable) };
        let failed = rng.f64() < rate;
        writeln!(lines, "{{\"release\":\"{release}\",\"failed\":{failed}}}").expect("a string");
    }
    lines
}

fn judged(input: &str, arguments: &[&str]) -> Judged {
    let arguments = [&["judge", "--input=-", "--output=json"], arguments].concat();
    let (code, output, messages) = run_with_input(&arguments, input.as_bytes());
    assert_eq!(json_lines(&output).len(), 1, "the summary alone: {output}{messages}");
    Judged::new((code, output, messages))
}

#[test]
fn each_verdict_has_its_exit_code() {
    let good = judged(&outcomes(1, 20_000, 0.25, 0.001, 0.001), &[]);
    assert_eq!(good.agreed(), (0, "promote"));
    assert_eq!(good.summary["verdict"]["reason"], "limit");
    // both fail more than the limit, and the canary no more than twice as often
    let no_worse = judged(&outcomes(2, 60_000, 0.25, 0.03, 0.02), &[]);
    assert_eq!(no_worse.agreed(), (0, "promote"));
    assert_eq!(no_worse.summary["verdict"]["reason"], "ratio");
    let bad = judged(&outcomes(3, 20_000, 0.25, 0.001, 0.2), &[]);
    assert_eq!(bad.agreed(), (1, "roll_back"));
    assert_eq!(judged(&outcomes(4, 400, 0.25, 0.0, 0.0), &[]).agreed(), (2, "not_yet"));
    assert_eq!(judged(&outcomes(5, 4_000, 0.25, 0.2, 0.2), &["--max-ratio=1"]).agreed(), (7, "hold"));
    for (share, unseen) in [(0.0, "canary"), (1.0, "stable")] {
        let one_sided = judged(&outcomes(6, 1000, share, 0.0, 0.0), &[]);
        assert_eq!(one_sided.code, 5, "{one_sided:?}");
        let message = format!("canary: no outcome in standard input named the release {unseen}\n");
        assert_eq!(one_sided.messages, message);
    }
}

#[test]
fn a_verdict_ends_the_reading_and_requests_is_the_number_of_outcomes_read() {
    // a canary that gets one request in four and always fails; the bad line comes after the verdict
    let turn = r#"{"release":"stable","failed":false}
{"release":"stable","failed":false}
{"release":"stable","failed":false}
{"release":"canary","failed":true}
"#;
    let all = judged(&(turn.repeat(20) + "nonsense\n"), &[]);
    assert_eq!(all.agreed(), (1, "roll_back"), "{all:?}");
    let requests = all.summary["requests"].as_u64().expect("a number");
    assert!((8..80).contains(&requests), "{all:?}");
    // this number is enough for a verdict, and half of it is not
    let count = |count: u64| judged(&turn.repeat(20), &[&format!("--count={count}")]);
    assert_eq!(count(requests).agreed(), (1, "roll_back"));
    assert_eq!(count(requests).summary["requests"], requests);
    let clear_after = &all.summary["verdict"]["clear_after"];
    assert_eq!(clear_after["canary"]["answers"], requests / 4, "{all:?}");
    let few = count(requests / 2);
    assert_eq!((few.agreed().0, few.summary["requests"].as_u64()), (2, Some(requests / 2)), "{few:?}");
}

#[test]
fn exit_code_decision_and_sentence_agree_for_all_inputs() {
    let rates = [0.0, 0.003, 0.01, 0.02, 0.05, 0.2, 1.0];
    let sizes = [(300, 0.25), (300, 0.05), (6000, 0.25), (6000, 0.05)];
    let mut seen = BTreeSet::new();
    for ((stable, canary), case) in
        rates.iter().flat_map(|stable| rates.map(|canary| (*stable, canary))).zip(0..)
    {
        let (requests, share) = sizes[case % sizes.len()];
        let judged = judged(&outcomes(12, requests, share, stable, canary), &[]);
        seen.insert(judged.agreed().0);
    }
    assert_eq!(Vec::from_iter(seen), [0, 1, 2, 7], "the cases cover all exit codes");
}

#[test]
fn a_file_and_standard_input_give_the_same_verdict() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("outcomes.jsonl");
    let input = outcomes(7, 3000, 0.25, 0.01, 0.05);
    std::fs::write(&file, &input).expect("a file");
    let file = file.to_str().expect("UTF-8");
    let (code, from_file, _) = run(&["judge", "--input", file]);
    let (_, from_pipe, _) = run_with_input(&["judge", "--input=-"], input.as_bytes());
    assert!(matches!(code, Some(0..=2)) && !from_file.is_empty(), "{from_file}");
    assert_eq!(from_file, from_pipe);
}

#[test]
fn the_summary_has_pods_and_latencies_if_the_lines_have_them() {
    let input = r#"{"release":"stable","failed":false,"ms":10,"pod":"one"}
{"release":"canary","failed":false,"ms":310,"pod":"two"}
{"release":"canary","failed":true,"ms":20,"pod":"two"}
{"release":null,"failed":true}
{"release":null,"failed":false}
"#;
    let judged = judged(input, &["--max-latency=300ms"]);
    assert_eq!(judged.agreed(), (2, "not_yet"), "{judged:?}");
    let counts = |success: u64, failure: u64, slow: u64, release: &str| json!({"success": success, "failure": failure, "slow": slow, "release": release, "namespace": "", "labels": {}});
    assert_eq!(
        judged.summary["pods"],
        json!({"one": counts(1, 0, 0, "stable"), "two": counts(0, 2, 1, "canary")})
    );
    assert_eq!(judged.summary["unnamed"], json!({"success": 1, "failure": 1, "slow": 0}));
    assert_eq!(judged.summary["latency_ms"], json!({"p50": 20.0, "p99": 310.0}));
    assert_eq!(judged.summary["verdict"]["unattributed"], 1);
    assert!(judged.text().contains("1 failure names neither stable nor the canary"), "{judged:?}");
    assert!(judged.text().contains("slower than 300ms count as failures: 1 of the canary's"), "{judged:?}");
}

/// Outcomes without failures. The latencies of the releases are uniform, from half of this many milliseconds on.
fn timed(seed: u64, requests: usize, stable: f64, canary: f64) -> String {
    let mut rng = Rng::with_seed(seed);
    let mut lines = String::new();
    for _ in 0..requests {
        let (release, ms) = if rng.f64() < 0.25 { ("canary", canary) } else { ("stable", stable) };
        let ms = ms * (0.5 + rng.f64());
        writeln!(lines, "{{\"release\":\"{release}\",\"failed\":false,\"ms\":{ms}}}").expect("a string");
    }
    lines
}

#[test]
fn latencies_decide_only_with_a_tolerance_and_only_if_they_differ_by_more() {
    let slower = timed(1, 2000, 20.0, 40.0);
    let promoted = judged(&slower, &[]);
    assert_eq!(promoted.agreed(), (0, "promote"), "{promoted:?}");
    assert!(promoted.text().contains(" Slower: "), "{promoted:?}");
    assert!(promoted.text().contains(" This decides nothing."), "{promoted:?}");
    let rolled_back = judged(&slower, &["--slower-by=20%"]);
    assert_eq!(rolled_back.agreed(), (1, "roll_back"), "{rolled_back:?}");
    assert!(rolled_back.text().contains(" is more than 20 % slower than stable "), "{rolled_back:?}");

    let alike = timed(2, 2000, 20.0, 20.0);
    let silent = judged(&alike, &[]);
    assert!(silent.text().contains(" Its latency decides nothing."), "{silent:?}");
    for (canary, tolerance, end) in [
        (20.0, "0", " It is not shown to be slower than stable."),
        (24.0, "0.3", " It is not shown to be more than 30 % slower than stable."),
        (40.0, "110%", " It is not shown to be more than 110 % slower than stable."),
    ] {
        let judged = judged(&timed(3, 2000, 20.0, canary), &["--slower-by", tolerance]);
        assert_eq!(judged.agreed(), (0, "promote"), "{judged:?}");
        assert!(judged.text().contains(end), "{judged:?}");
        assert_eq!(judged.summary["verdict"]["latency"]["decides"], true, "{judged:?}");
    }
}

/// The releases are alike on each path, but the canary's clients use the slow one more.
#[test]
fn latencies_are_compared_within_a_path() {
    let mut rng = Rng::with_seed(4);
    let mut lines = String::new();
    for _ in 0..4000 {
        let (release, slow) = if rng.f64() < 0.25 { ("canary", 0.6) } else { ("stable", 0.1) };
        let (path, ms) = if rng.f64() < slow { ("/report", 300.0) } else { ("/", 10.0) };
        let ms = ms * (0.5 + rng.f64());
        let line = json!({"release": release, "failed": false, "ms": ms, "path": path});
        writeln!(lines, "{line}").expect("a string");
    }
    let flags = ["--slower-by=20%", "--max-failure-rate=0.5%"];
    let pooled = judged(&lines, &flags);
    assert_eq!(pooled.agreed(), (1, "roll_back"), "{pooled:?}");
    let divided = judged(&lines, &[&flags[..], &["--by=path"]].concat());
    assert_eq!(divided.agreed(), (0, "promote"), "{divided:?}");
    assert!(
        divided.text().contains(" It is not shown to be more than 20 % slower than stable."),
        "{divided:?}"
    );
}

#[test]
fn a_tolerance_that_is_no_share_is_refused_with_what_to_write() {
    for (given, told) in [("20", "write 20% or 0.2"), ("-1", "-1"), ("fast", "is not a number")] {
        let (code, _, messages) = run(&["judge", &format!("--slower-by={given}")]);
        assert!(code == Some(3) && messages.contains(told), "{code:?}: {messages}");
    }
}

#[test]
fn counters_of_intervals_can_be_judged() {
    let line = |stable_failed: u64, canary_failed: u64, unattributed: u64| {
        let line = json!({
            "stable": {"requests": 30, "failed": stable_failed},
            "canary": {"requests": 10, "failed": canary_failed},
            "unattributed": {"failed": unattributed},
        });
        format!("{line}\n")
    };
    let bad = judged(&line(0, 3, 0).repeat(100), &[]);
    assert_eq!(bad.agreed(), (1, "roll_back"), "{bad:?}");
    let good = judged(&line(0, 0, 0).repeat(100), &[]);
    assert_eq!(good.agreed(), (0, "promote"), "{good:?}");
    assert_eq!(good.summary["requests"], 40 * 35, "345 answers of the canary are in 35 intervals");
    let unattributed = judged(&line(0, 0, 1).repeat(100), &[]);
    assert_eq!(unattributed.agreed(), (2, "not_yet"), "{unattributed:?}");
    assert_eq!(unattributed.summary["verdict"]["unattributed"], 100, "{unattributed:?}");
    let outage = judged(&(line(0, 0, 0) + &line(30, 10, 0).repeat(10)), &[]);
    assert_eq!(outage.agreed(), (7, "hold"), "{outage:?}");
}

#[test]
fn large_counters_are_judged_quickly() {
    let line = r#"{"stable":{"requests":900000000,"failed":18000000},"canary":{"requests":1000000000,"failed":20000000}}"#;
    let began = Instant::now();
    let judged = judged(&format!("{line}\n").repeat(100), &["--max-ratio=1"]);
    assert_eq!(judged.agreed(), (7, "hold"), "{judged:?}");
    assert_eq!(judged.summary["requests"], 190_000_000_000_u64);
    // 0.2 s in a release build; a sum over all possible tables would take hours
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
}

#[test]
fn a_bad_line_is_refused_with_its_number_and_cause() {
    let good = outcomes(8, 4, 0.5, 0.0, 0.0);
    for (bad, cause) in [
        (&b"oops"[..], "expected value"),
        (b"{\"release\":\"canary\",\"failed\":tr", "its JSON is not complete"),
        (b"[\"canary\",false]", "invalid type: sequence"),
        (b"{\"release\":\"canary\",\"failed\":\"\xff\"}", "not UTF-8 at byte 31"),
        (b"{\"stable\":{\"requests\":1,\"failed\":2}}", "stable has failed 2 of 1 requests"),
        (&b"7".repeat(2 << 20), "longer than 1048576 bytes"),
    ] {
        let input = [good.as_bytes(), b"\n", bad, b"\n"].concat();
        let (code, output, messages) = run_with_input(&["judge", "--input=-"], &input);
        assert_eq!((code, output.as_str()), (Some(3), ""), "{messages}");
        assert!(messages.starts_with("canary: standard input, line 6: "), "{messages}");
        assert!(messages.contains(cause), "{cause}: {messages}");
    }
}

#[test]
fn an_empty_input_gives_a_message() {
    for input in ["", "\n\r\n"] {
        let (code, output, messages) = run_with_input(&["judge", "--input=-"], input.as_bytes());
        assert_eq!((code, output.as_str()), (Some(5), ""), "{messages}");
        assert_eq!(messages, "canary: standard input has no outcomes\n");
    }
}

#[test]
fn the_message_names_an_input_that_cannot_be_read() {
    let (code, output, messages) = run(&["judge", "--input=/no/such/file"]);
    assert_eq!((code, output.as_str()), (Some(6), ""));
    assert_eq!(messages, "canary: cannot open /no/such/file: No such file or directory (os error 2)\n");
    let (code, output, messages) = run(&["judge", "--input=/"]);
    assert_eq!((code, output.as_str()), (Some(6), ""));
    assert_eq!(messages, "canary: cannot read /: Is a directory (os error 21)\n");
}

#[test]
fn flags_for_sending_requests_are_refused_with_input() {
    for argument in ["http://127.0.0.1:1", "--rate=10", "--for=5m", "--timeout=2s"] {
        let (code, output, messages) = run(&["judge", "--input=-", argument]);
        assert_eq!((code, output.as_str()), (Some(3), ""), "{argument}: {messages}");
        assert!(messages.contains("cannot be used with"), "{argument}: {messages}");
    }
}

#[test]
fn a_signal_ends_the_wait_for_a_pipe_with_a_summary() {
    for (signal, expected) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let mut process = canary(&["judge", "--input=-", "--output=json"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut input = process.stdin.take().expect("its input");
        let lines = outcomes(9, 40, 0.25, 0.0, 0.0);
        input.write_all(lines.as_bytes()).expect("it reads");
        let id = process.id();
        eventually("it waits for the pipe", || is_waiting(id));
        testkit::signal(&process, signal);
        let output = process.wait_with_output().expect("its end");
        assert_eq!(output.status.code(), Some(expected));
        let summary = json_lines(&String::from_utf8(output.stdout).expect("UTF-8")).pop().expect("a summary");
        assert_eq!(summary["requests"], 40, "{summary}");
        drop(input);
    }
}

/// Whether a thread of the process is blocked in a read from an empty pipe.
fn is_waiting(process: u32) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{process}/task")).expect("it runs");
    threads.flatten().any(|thread| {
        let blocked_in = std::fs::read_to_string(thread.path().join("wchan"));
        blocked_in.is_ok_and(|place| place.contains("pipe_read") || place.contains("pipe_wait"))
    })
}
