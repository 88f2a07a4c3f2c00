//! `canary serve` and callers that do not come from loopback. The test runs itself again in a network namespace of its
//! own, which has one more address. So nothing listens outside of the namespace.

mod common;

use std::{
    env,
    net::SocketAddr,
    process::{Command, Stdio},
};

use common::{Fleet, Version, serving::Serving};
use serde_json::json;
use testkit::{
    eventually,
    http::{Answer, send},
};

/// The address in the namespace. A connection to it also comes from it, and not from 127.0.0.1.
const ELSEWHERE: &str = "10.77.7.1";
/// Set in the namespace.
const INSIDE: &str = "CANARY_TEST_NETWORK";

/// Runs this test again in a network namespace of its own. `true` in the namespace.
fn is_in_a_network_of_its_own(test: &str) -> bool {
    if env::var_os(INSIDE).is_some() {
        let script = format!("ip link set lo up && ip address add {ELSEWHERE}/24 dev lo");
        assert!(Command::new("sh").args(["-c", &script]).status().expect("sh runs").success());
        return true;
    }
    let unshare = |command: &[&str]| {
        let mut unshare = Command::new("unshare");
        unshare.arg("--net").args(command);
        unshare
    };
    let mut may = unshare(&["ip", "link", "set", "lo", "up"]);
    if !may.stderr(Stdio::null()).status().is_ok_and(|status| status.success()) {
        println!("skipped: this user may not make a network namespace, or `ip` is not installed");
        return false;
    }
    let program = env::current_exe().expect("this test");
    let mut again = unshare(&[program.to_str().expect("UTF-8"), "--exact", test, "--nocapture"]);
    assert!(again.env(INSIDE, "1").status().expect("it runs").success());
    false
}

fn post(judge: SocketAddr, path: &str, body: &str) -> Answer {
    let head = format!("POST {path} HTTP/1.1\r\nhost: {judge}\r\ncontent-type: application/json\r\n");
    let request = format!("{head}content-length: {}\r\nconnection: close\r\n\r\n{body}", body.len());
    send(judge, &request).expect("an answer")
}

fn get(judge: SocketAddr, path: &str, host: &str) -> Answer {
    send(judge, format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n"))
        .expect("an answer")
}

#[test]
fn a_stranger_undoes_no_roll_back_and_hides_no_new_version() {
    if !is_in_a_network_of_its_own("a_stranger_undoes_no_roll_back_and_hides_no_new_version") {
        return;
    }
    let mut fleet = Fleet::new();
    fleet.add("appinfo-567b989978-vvzlg", "release=\"stable\"", Version::Baseline);
    fleet.add("appinfo-c66665c44-x2z4v", "release=\"canary\"", Version::Broken);
    let judge = Serving::start_on("0.0.0.0:0", &fleet.url(), &["--rate=300"]);
    let from_outside = SocketAddr::new(ELSEWHERE.parse().expect("an address"), judge.address.port());
    let ask = |version: &str| {
        let answer = get(from_outside, &format!("/v1/verdict?version={version}"), &from_outside.to_string());
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    };
    eventually("a roll-back", || ask("c66665c44")["decision"] == "roll_back");

    // anyone may ask, and nobody but this machine resets
    for body in ["{}", r#"{"trial":"c66665c44"}"#, r#"{"namespace":"flag","name":"appinfo"}"#] {
        let refused = post(from_outside, "/v1/reset", body);
        assert_eq!(refused.status, 403, "{body}: {refused:?}");
        assert!(refused.body.contains("--allow-reset"), "{refused:?}");
    }
    let call =
        json!({"name": "appinfo", "namespace": "flag", "phase": "Progressing", "checksum": "6669b9d759"});
    let hook = |name: &str| post(from_outside, &format!("/flagger/{name}"), &call.to_string());
    eventually("Flagger's roll-back", || hook("rollback").status == 200);
    for name in ["post-rollout", "confirm-rollout", "pre-rollout"] {
        assert!(hook(name).body.contains("once this canary has not answered for 30 s"), "{name}");
        assert_eq!(hook("rollback").status, 200, "after {name}, it is still rolled back");
    }
    assert_eq!(ask("c66665c44")["decision"], "roll_back");
    assert_eq!(get(from_outside, "/v1/verdict", "evil.example").status, 421);

    // invented names take no place from a version that answers
    for number in 0..200 {
        ask(&format!("x{number}"));
        get(from_outside, &format!("/v1/verdict?trial=x{number}"), &from_outside.to_string());
    }
    fleet.add("appinfo-744f96dc75-x2z4v", "release=\"canary\"", Version::Broken);
    eventually("the new version is judged", || ask("744f96dc75")["decision"] == "roll_back");

    assert_eq!(post(judge.address, "/v1/reset", r#"{"trial":"c66665c44"}"#).status, 200, "from this machine");
}
