//! `--episodes`, from the command line to the exit code.

use std::fmt::Write as _;

use crate::common::{json_lines, run, run_with_input};

/// Twenty requests a second in turn to three pods of stable and the canary's only one, for so many seconds. Those fail of
/// which `fails` says so: by the pod and the second.
fn lines(seconds: u32, fails: impl Fn(&str, u32) -> bool) -> String {
    let pods = [("stable", "old-1"), ("stable", "old-2"), ("stable", "old-3"), ("canary", "new")];
    let mut lines = String::new();
    for second in 0..seconds {
        for (number, (release, pod)) in pods.iter().cycle().take(20).enumerate() {
            let (failed, sent) = (fails(pod, second), f64::from(second) + 0.05 * number as f64);
            writeln!(lines, r#"{{"release":"{release}","failed":{failed},"pod":"{pod}","sent":{sent:.2}}}"#)
                .expect("a string");
        }
    }
    lines
}

/// Each pod hiccups once, and the canary is the first one.
fn hiccups(seconds: u32) -> String {
    lines(seconds, |pod, second| second == if pod == "new" { 9 } else { 200 })
}

#[test]
fn one_hiccup_of_the_canary_is_one_event_with_the_flag() {
    let judged = |flags: &[&str]| {
        let (code, output, messages) =
            run_with_input(&[&["judge", "--input=-"], flags].concat(), hiccups(60).as_bytes());
        (code, output + &messages)
    };
    let (code, said) = judged(&[]);
    assert_eq!(code, Some(1), "{said}");
    let (code, said) = judged(&["--episodes=2s"]);
    assert_eq!(code, Some(2), "{said}");
    let told = "but not clearly more episodes of them: its pods have failed in 1 of 29 spans of 2s, and stable's in 0 of 90. \
                The canary has one pod, and a bad pod or node looks like a bad release: two pods would tell.";
    assert!(said.contains(told), "{said}");
    let (_, said) = judged(&["--episodes=2s", "--output=json"]);
    let verdict = &json_lines(&said)[0]["verdict"];
    assert_eq!(verdict["episodes"]["canary"], serde_json::json!({"pods": 1, "spans": 29, "failing": 1}));
    assert_eq!(verdict["settings"]["episodes_ms"], 2000.0);
}

#[test]
fn a_dead_canary_is_rolled_back_with_the_flag_within_twenty_seconds() {
    let input = lines(20, |pod, _| pod == "new");
    let (code, output, messages) = run_with_input(&["judge", "--input=-", "--episodes=2s"], input.as_bytes());
    assert_eq!(code, Some(1), "{output}{messages}");
    assert!(output.starts_with("Roll back: the canary is worse than stable"), "{output}");
    assert!(output.contains("two pods would tell"), "{output}");
}

#[test]
fn single_requests_with_their_times_are_needed() {
    let (code, _, told) = run_with_input(
        &["judge", "--input=-", "--episodes=2s"],
        b"{\"release\":\"canary\",\"failed\":true}\n",
    );
    assert_eq!(code, Some(3), "{told}");
    assert!(told.contains("line 1: has no key sent, which --episodes needs"), "{told}");
    let counters = b"{\"stable\":{\"requests\":1,\"failed\":0}}\n";
    let (code, _, told) = run_with_input(&["judge", "--input=-", "--episodes=2s"], counters);
    assert_eq!(code, Some(3), "{told}");
    assert!(told.contains("has counters: --episodes needs outcomes"), "{told}");
    let (code, _, told) = run(&["judge", "--input=-", "--episodes=20ms"]);
    assert_eq!(code, Some(3), "{told}");
    assert!(told.contains("--episodes"), "{told}");
}

/// A record of counters that were scraped every 15 s: three pods of stable and the canary's only one, and the canary hiccups
/// for a second in one window.
fn record(settings: &str, windows: u32) -> String {
    let mut record = format!(
        "{{\"canary_record\":{{\"version\":1,\"settings\":{{\"alpha\":0.05,\"max_failure_rate\":0.0001,\"max_ratio\":2,\
         \"max_latency_ms\":null{settings}}},\"price\":{{\"coverage\":\"counted\",\"traffic\":null,\"slo\":0.999}}}}}}\n"
    );
    for round in 0..windows {
        let pods = [("stable", "old-1"), ("stable", "old-2"), ("stable", "old-3"), ("canary", "new")];
        let window = |(number, (release, pod)): (u32, (&str, &str))| {
            let (since, failed) = (15 * round + number, if pod == "new" && round == 5 { 20 } else { 0 });
            let until = since + 15;
            format!(
                r#"{{"release":"{release}","pod":"{pod}","since":{since},"until":{until},"requests":300,"failed":{failed}}}"#
            )
        };
        let all: Vec<_> = (0..).zip(pods).map(window).collect();
        let at = 15 * (round + 1) + 4;
        writeln!(
            record,
            r#"{{"canary_record":{{"at":{at},"sent":{at},"clock":{at},"began":0,"windows":[{}]}}}}"#,
            all.join(",")
        )
        .expect("a string");
    }
    record
}

#[test]
fn one_hiccup_between_two_scrapes_is_one_event_with_the_flag() {
    let judged = |settings| {
        let record = record(settings, 30);
        let (code, output, messages) =
            run_with_input(&["judge", "--input=-", "--output=json"], record.as_bytes());
        (code, json_lines(&output).pop().expect("a summary"), messages)
    };
    let (code, said, told) = judged("");
    assert_eq!(code, Some(1), "{said}{told}");
    let (code, said, told) = judged(r#","episodes_ms":2000"#);
    assert_eq!(code, Some(2), "{said}{told}");
    let text = said["verdict_text"].as_str().expect("a text");
    let expected = "but not clearly more episodes of them: its pods have failed in 1 of 30 spans of 15s, and stable's in 0 of \
                    90. The canary has one pod, and a bad pod or node looks like a bad release: two pods would tell.";
    assert!(text.contains(expected), "{text}");
    let episodes = &said["verdict"]["episodes"];
    assert_eq!((&episodes["span_ms"], &episodes["decide"]), (&15_000.0.into(), &true.into()), "{episodes}");
}
