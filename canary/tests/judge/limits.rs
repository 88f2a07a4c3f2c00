//! Slow answers count as failures with `--max-latency`, and are compared with stable's.

use std::time::Duration;

use crate::{
    Judged,
    common::{Fate, Fleet, Version},
};

/// Three stable pods that answer at once, and a canary that takes two seconds, so that it is the slower one on a busy
/// machine, too.
fn with_slow_canary() -> Fleet {
    let mut fleet = Fleet::new();
    for number in 1..=3 {
        fleet.add(&format!("appinfo-{number}"), "release=\"stable\"", Version::Baseline);
    }
    let slow = |_| (Fate::Succeed, Duration::from_secs(2));
    fleet.add_planned("appinfo-canary-1", "canary", slow);
    fleet
}

#[test]
fn a_slow_canary_is_rolled_back_and_the_sentence_says_how_many_answers_were_slow() {
    let fleet = with_slow_canary();
    let judged = Judged::of_service(&fleet.url(), &["--rate=50", "--max-latency=1s", "--timeout=60s"]);
    assert_eq!(judged.agreed(), (1, "roll_back"), "{judged:?}");
    let slow = |release: &str| judged.summary["verdict"][release]["slow"].as_u64().expect("a number");
    let sentence = format!(
        "Answers slower than 1s count as failures: {} of the canary's, {} of stable's",
        slow("canary"),
        slow("stable")
    );
    assert!(judged.text().contains(&sentence), "{judged:?}");
    let canary = &judged.summary["releases"]["canary"];
    assert!(canary["slow"].as_u64() >= Some(slow("canary")) && slow("canary") > 0, "{judged:?}");
    assert_eq!((&canary["success"], &canary["failure"]), (&0.into(), &canary["slow"]), "{judged:?}");
}

#[test]
fn without_the_limit_a_slow_canary_is_promoted() {
    let fleet = with_slow_canary();
    let judged = Judged::of_service(&fleet.url(), &["--rate=100", "--for=10m", "--timeout=60s"]);
    assert_eq!(judged.agreed(), (0, "promote"), "{judged:?}");
    assert_eq!(judged.summary["failure"], 0, "{judged:?}");
    let slower = " Slower: 100 % of its answers take more than ";
    assert!(judged.text().contains(slower), "{judged:?}");
    assert!(judged.text().contains(" This decides nothing."), "{judged:?}");
    let latency = &judged.summary["verdict"]["latency"];
    assert_eq!((&latency["decides"], &latency["rolled_back"]), (&false.into(), &false.into()), "{judged:?}");
    assert!(latency["p_value"].as_f64() < Some(0.001), "{judged:?}");
    assert!(latency["canary"]["p50_ms"].as_f64() > Some(1900.0), "{judged:?}");
    assert!(latency["stable"]["p50_ms"].as_f64() < Some(1900.0), "{judged:?}");
}

#[test]
fn with_a_tolerance_a_slow_canary_is_rolled_back_and_the_sentence_says_by_how_much() {
    let fleet = with_slow_canary();
    let judged = Judged::of_service(&fleet.url(), &["--rate=100", "--slower-by=20%", "--timeout=60s"]);
    assert_eq!(judged.agreed(), (1, "roll_back"), "{judged:?}");
    let start = "Roll back: the canary is more than 20 % slower than stable (clear after ";
    assert!(judged.text().starts_with(start), "{judged:?}");
    assert!(judged.text().contains(" Slower: 100 % of its answers take more than "), "{judged:?}");
    assert_eq!(judged.summary["verdict"]["latency"]["rolled_back"], true, "{judged:?}");
    assert_eq!(judged.summary["verdict"]["canary"]["failures"], 0, "{judged:?}");
}
