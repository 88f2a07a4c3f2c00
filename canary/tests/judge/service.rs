//! Decisions and messages for real appinfo servers.

use std::{sync::atomic::Ordering, time::Duration};

use serde_json::json;

use crate::{
    Judged,
    common::{Fate, Fleet, Version, run},
};

/// The time-out of requests that a pod answers, however busy the machine is.
const PATIENT: &str = "--timeout=60s";

#[test]
fn a_broken_canary_is_rolled_back_quickly() {
    let fleet = Fleet::with_canary(Version::Broken);
    // so few a second that hardly any is sent while the verdict is on its way
    let (code, output, messages) = run(&["judge", &fleet.url(), "--rate=20", "--for=60s"]);
    assert_eq!(code, Some(1), "{output}{messages}");
    assert!(output.starts_with("Roll back: "), "{output}");
    assert!(output.contains("failed requests"), "the price: {output}");
    let asked = fleet.connections.load(Ordering::Relaxed);
    assert!(asked < 200, "it took {asked} requests");
}

#[test]
fn a_canary_that_never_fails_is_promoted_after_345_answers() {
    let fleet = Fleet::with_canary(Version::WithNamespace);
    let judged = Judged::of_service(&fleet.url(), &["--rate=150", "--for=10m", PATIENT]);
    assert_eq!(judged.agreed(), (0, "promote"), "{judged:?}");
    let answers = judged.summary["verdict"]["clear_after"]["canary"]["answers"].as_u64();
    // the README says about 350; the decision comes at the end of a batch, which has about two answers of the
    // canary, or some more if a busy machine opens connections in another order
    assert!((345..=365).contains(&answers.expect("a number")), "{judged:?}");
}

#[test]
fn too_few_answers_give_no_decision() {
    let fleet = Fleet::with_canary(Version::WithNamespace);
    let (code, output, _) = run(&["judge", &fleet.url(), "--count=40", "--rate=100", PATIENT]);
    assert_eq!(code, Some(2), "{output}");
    assert!(output.starts_with("Not yet: ") && output.contains("335 more answers of the canary"), "{output}");
}

#[test]
fn the_message_names_an_address_without_an_answer_and_the_cause() {
    let (code, output, messages) = run(&["judge", "http://127.0.0.1:1", "--timeout=100ms"]);
    assert_eq!((code, output.as_str()), (Some(4), ""), "{messages}");
    assert!(
        messages.contains("canary: no answer from http://127.0.0.1:1/v1/appinfo: Connection refused"),
        "{messages}"
    );
}

#[test]
fn the_message_names_a_release_that_was_never_seen() {
    let mut fleet = Fleet::new();
    fleet.add("appinfo-1", "release=\"stable\"", Version::Baseline);
    let (code, _, messages) = run(&["judge", &fleet.url(), "--count=20", "--rate=100"]);
    assert_eq!(code, Some(5), "{messages}");
    assert!(messages.contains("/v1/appinfo named the release canary\n"), "{messages}");

    let mut fleet = Fleet::new();
    fleet.add("appinfo-canary-1", "release=\"canary\"", Version::WithNamespace);
    let (code, _, messages) = run(&["judge", &fleet.url(), "--count=1000", "--rate=500"]);
    assert_eq!(code, Some(5), "without stable, a good canary cannot be promoted: {messages}");
    assert!(messages.contains("/v1/appinfo named the release stable\n"), "{messages}");
    assert!(messages.contains("a promotion takes 100 answers of stable to compare with"), "{messages}");
}

#[test]
fn all_keys_of_the_verdict_in_json_are_documented() {
    let fleet = Fleet::with_canary(Version::Broken);
    let judged = Judged::of_service(&fleet.url(), &["--rate=50", "--traffic=1000", "--slo=99%"]);
    assert_eq!(judged.agreed(), (1, "roll_back"), "{judged:?}");
    assert_eq!(judged.summary["type"], "summary");
    let verdict = judged.summary["verdict"].as_object().expect("a verdict");
    let keys: Vec<_> = verdict.keys().map(String::as_str).collect();
    let documented = include_str!("../../../docs/canary.md");
    for key in keys {
        assert!(documented.contains(&format!("`{key}`")), "docs/canary.md does not document {key}");
    }
}

#[test]
fn a_forecast_says_how_long_a_promotion_takes_and_whether_the_limits_allow_it() {
    let fleet = Fleet::with_canary(Version::WithNamespace);
    for (arguments, allowance) in [
        (&["--for=1h", "--count=2000"][..], "at 200 a second. --for 1h and --count 2000 allow it\n"),
        (&["--for=1h", "--count=200"], "at 200 a second. --count 200 ends before that\n"),
        (&["--for=4s"], "at 200 a second. --for 4s ends before that\n"),
    ] {
        let (_, _, messages) = run(&[&["judge", &fleet.url(), "--rate=200", PATIENT], arguments].concat());
        let forecasts: Vec<_> =
            messages.lines().filter(|line| line.contains("a promotion takes about")).collect();
        assert_eq!(forecasts.len(), 1, "{messages}");
        assert!(messages.contains(allowance), "{messages}");
        // 325 more answers of a canary that gets about one request in four: 1,300, by chance more or less
        let (_, about) = forecasts[0].split_once("a promotion takes about ").expect("a number");
        let (about, _) = about.split_once(" more requests").expect("a number");
        let about: u32 = about.replace(',', "").parse().expect("a number");
        assert!((700..3000).contains(&about), "{messages}");
    }
}

#[test]
fn the_verdict_names_the_failing_pod() {
    let mut fleet = Fleet::new();
    for number in 1..=4 {
        fleet.add(&format!("appinfo-{number}"), "release=\"stable\"", Version::Baseline);
        let version = if number == 3 { Version::Broken } else { Version::WithNamespace };
        fleet.add(&format!("appinfo-canary-{number}"), "release=\"canary\"", version);
    }
    // with this small α, the roll-back comes after the pod is found
    let judged = Judged::of_service(&fleet.url(), &["--rate=200", "--alpha=0.000000001", PATIENT]);
    assert_eq!(judged.agreed(), (1, "roll_back"), "{judged:?}");
    let named = "The canary pod appinfo-canary-3 fails more often than the others: ";
    assert!(judged.text().contains(named), "{judged:?}");
    let failing = &judged.summary["verdict"]["failing_pods"];
    assert_eq!(failing["canary"].as_array().map(Vec::len), Some(1), "{judged:?}");
    assert_eq!((&failing["canary"][0]["pod"], &failing["stable"]), (&json!("appinfo-canary-3"), &json!([])));
    let pods = judged.summary["pods"].as_object().expect("pods");
    assert_eq!(pods.len(), 8);
    for (name, pod) in pods {
        assert_eq!(pod["failure"] != 0, name == "appinfo-canary-3", "{name}: {pod}");
        assert!(pod["success"] != 0 || name == "appinfo-canary-3", "{name}: {pod}");
    }
}

#[test]
fn an_outage_of_both_releases_does_not_roll_back_the_canary() {
    let mut fleet = Fleet::new();
    let outage = |request| {
        let fate = if (50..100).contains(&request) { Fate::Fail } else { Fate::Succeed };
        (fate, Duration::ZERO)
    };
    for number in 1..=3 {
        fleet.add_planned(&format!("appinfo-{number}"), "stable", outage);
    }
    fleet.add_planned("appinfo-canary-1", "canary", outage);
    let judged = Judged::of_service(&fleet.url(), &["--rate=300", "--count=1200", "--timeout=20s"]);
    assert!([2, 7].contains(&judged.agreed().0), "{judged:?}");
    assert!(judged.summary["verdict"]["canary"]["failures"].as_u64() >= Some(49), "{judged:?}");
}
