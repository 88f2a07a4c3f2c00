//! `canary judge --aa`.

use std::fmt::Write as _;

use crate::common::{Fate, Fleet, Version, json_lines, run, run_with_input};

fn lines(requests: usize, failed: impl Fn(usize) -> bool) -> String {
    let mut lines = String::new();
    for number in 0..requests {
        let pod = number * 7 / 3 % 4;
        let failed = failed(pod) && number % 5 == 0;
        writeln!(lines, "{{\"release\":\"stable\",\"failed\":{failed},\"pod\":\"pod-{pod}\"}}")
            .expect("a string");
    }
    lines
}

#[test]
fn the_pods_of_a_service_are_compared_and_the_failing_one_is_named() {
    let mut fleet = Fleet::with_canary(Version::Broken);
    fleet.add_planned("appinfo-4", "stable", |_| (Fate::Fail, std::time::Duration::ZERO));
    let url = fleet.url();
    let (code, output, messages) =
        run(&["judge", &url, "--aa", "--rate=200", "--for=5m", "--max-failure-rate=1%"]);
    assert_eq!(code, Some(1), "{output}{messages}");
    assert!(output.starts_with("Not fit: two halves of stable's pods differ"), "{output}");
    assert!(output.contains("appinfo-4") && !output.contains("appinfo-canary-1"), "{output}");
    assert!(!output.contains("oll back") && !output.contains("romote"), "{output}");
}

#[test]
fn either_half_may_be_the_worse_one() {
    for bad in 0..4 {
        let (code, output, messages) = run_with_input(
            &["judge", "--aa", "--input=-", "--output=json"],
            lines(4000, |pod| pod == bad).as_bytes(),
        );
        assert_eq!(code, Some(1), "{output}{messages}");
        assert_eq!(json_lines(&output)[0]["aa"], "not_fit");
    }
}

#[test]
fn alike_pods_are_fit_and_few_answers_are_not_decided() {
    let input = lines(8000, |_| false);
    let (code, output, messages) = run_with_input(&["judge", "--aa", "--input=-"], input.as_bytes());
    assert_eq!((code, &output[..4]), (Some(0), "Fit:"), "{output}{messages}");
    let (code, output, _) = run_with_input(&["judge", "--aa", "--input=-", "--count=50"], input.as_bytes());
    assert_eq!((code, &output[..7]), (Some(2), "Not yet"), "{output}");
}

#[test]
fn without_two_named_pods_nothing_is_compared() {
    for input in [
        "{\"release\":\"stable\",\"failed\":false}\n".repeat(50),
        "{\"release\":\"stable\",\"failed\":false,\"pod\":\"one\"}\n".repeat(50),
        "{\"stable\":{\"requests\":30,\"failed\":1},\"canary\":{\"requests\":10,\"failed\":0}}\n".to_owned(),
    ] {
        let (code, output, messages) = run_with_input(&["judge", "--aa", "--input=-"], input.as_bytes());
        assert_eq!(code, Some(5), "{output}{messages}");
        assert!(messages.contains("--aa needs two pods of stable"), "{messages}");
    }
}

#[test]
fn flags_about_a_canary_are_refused() {
    for flag in ["--share=5%", "--max-burn=2", "--soak=1m", "--warm-up=1s", "--episodes=2s"] {
        let (code, _, messages) = run(&["judge", "--aa", flag]);
        assert_eq!(code, Some(3), "{messages}");
        assert!(messages.contains("cannot be used with"), "{messages}");
    }
}
