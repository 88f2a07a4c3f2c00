//! `--warm-up`, from the command line to the exit code.

mod common;

use std::{
    io::Write,
    process::{Output, Stdio},
};

use common::{Fleet, Version, canary};

/// Requests in turn, 40 a second, of three pods of stable and one of the canary. Stable is there from the beginning, the
/// canary after 40 s. It fails its requests of which `fails` says so: by their number, from 0.
fn lines(seconds: u32, fails: impl Fn(u32) -> bool) -> String {
    let mut of_canary = 0;
    let line = |number: u32| {
        let sent = 1_763_971_200.0 + f64::from(number) / 40.0;
        if number % 4 == 3 && number > 1600 {
            let failed = fails(of_canary);
            of_canary += 1;
            format!("{{\"release\":\"canary\",\"failed\":{failed},\"pod\":\"new\",\"sent\":{sent}}}\n")
        } else {
            format!(
                "{{\"release\":\"stable\",\"failed\":false,\"pod\":\"old-{}\",\"sent\":{sent}}}\n",
                number % 4
            )
        }
    };
    (0..40 * seconds).map(line).collect()
}

fn judged(input: &str, more: &[&str]) -> (Option<i32>, String, String) {
    let mut judge = canary(&[&["judge", "--input=-"], more].concat())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut stdin = judge.stdin.take().expect("a pipe");
    let _ = stdin.write_all(input.as_bytes()); // it may have decided before the end
    drop(stdin);
    let Output { status, stdout, stderr } = judge.wait_with_output().expect("it ends");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    (status.code(), text(stdout), text(stderr))
}

#[test]
fn a_canary_that_is_cold_at_first_is_promoted_with_the_flag_only() {
    let input = lines(120, |number| number < 200 && number % 10 < 3);
    let (code, said, _) = judged(&input, &[]);
    assert_eq!(code, Some(1), "{said}");
    let (code, said, _) = judged(&input, &["--warm-up=30s"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.starts_with("Promote: the canary has failed 0 of "), "{said}");
    let left_out =
        "Left out, because their pods had started less than 30s before: the canary has failed 60 of ";
    assert!(said.contains(left_out), "{said}");
    let (code, said, _) = judged(&input, &["--warm-up=30s", "--output=json"]);
    let json: serde_json::Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!((code, &json["verdict"]["warm_up"]["canary"]["failures"]), (Some(0), &60.into()));
    let all =
        json["releases"]["canary"]["success"].as_u64().zip(json["releases"]["canary"]["failure"].as_u64());
    let part = |key: &str| json["verdict"][key]["canary"]["answers"].as_u64().expect("a number");
    let judged = json["verdict"]["canary"]["answers"].as_u64().expect("a number");
    assert_eq!(all.map(|(good, bad)| good + bad), Some(judged + part("waiting") + part("warm_up")));
}

#[test]
fn a_canary_that_fails_all_of_its_warm_up_is_rolled_back_within_it() {
    let (code, said, _) = judged(&lines(120, |_| true), &["--warm-up=30s"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.starts_with("Roll back: the canary has failed all of its first 15"), "after 15 s: {said}");
}

#[test]
fn lines_must_tell_when_a_request_was_sent() {
    let (code, _, told) = judged("{\"release\":\"canary\",\"failed\":true}\n", &["--warm-up=30s"]);
    assert_eq!(code, Some(3), "{told}");
    assert!(told.contains("line 1: has no key sent, which --warm-up needs"), "{told}");
}

/// All pods are new to a prober that begins, so both releases are left out at first.
#[test]
fn a_prober_says_what_its_traffic_can_show_and_leaves_out_both_releases_at_first() {
    let fleet = Fleet::with_canary(Version::WithNamespace);
    let output = canary(&["judge", &fleet.url(), "--warm-up=1s", "--for=3s", "--rate=100", "--output=json"])
        .output()
        .expect("it runs");
    let told = String::from_utf8_lossy(&output.stderr);
    let outlook = "at 100 requests a second, if a quarter of them go to the canary and none fails, 3s can exclude a failure \
                   rate above 6.7 %; 1 % takes 15s, and with a half of them 8s";
    assert!(told.contains(outlook), "{told}");
    let said = String::from_utf8_lossy(&output.stdout);
    let last: serde_json::Value = serde_json::from_str(said.lines().last().expect("a line")).expect("JSON");
    for release in ["stable", "canary"] {
        let left_out = last["verdict"]["warm_up"][release]["answers"].as_u64().expect("a number");
        let judged = last["verdict"][release]["answers"].as_u64().expect("a number");
        // a busy machine may send most of them in the first second, or in the others
        assert!(left_out > 0 && judged > 0, "{release}: {left_out} and {judged} in {last}");
    }
}
