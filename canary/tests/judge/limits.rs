//! Slow answers count as failures with `--max-latency`.

use std::time::Duration;

use crate::{
    Judged,
    common::{Fate, Fleet, Version},
};

/// Three stable pods that answer at once, and a canary that takes 400 ms.
fn with_slow_canary() -> Fleet {
    let mut fleet = Fleet::new();
    for number in 1..=3 {
        fleet.add(&format!("appinfo-{number}"), "release=\"stable\"", Version::Baseline);
    }
    let slow = |_| (Fate::Succeed, Duration::from_millis(400));
    fleet.add_planned("appinfo-canary-1", "canary", slow);
    fleet
}

#[test]
fn a_slow_canary_is_rolled_back_and_the_sentence_says_how_many_answers_were_slow() {
    let fleet = with_slow_canary();
    let judged = Judged::of_service(&fleet.url(), &["--rate=50", "--max-latency=200ms", "--timeout=30s"]);
    assert_eq!(judged.agreed(), (1, "roll_back"), "{judged:?}");
    let slow = |release: &str| judged.summary["verdict"][release]["slow"].as_u64().expect("a number");
    let sentence = format!(
        "Answers slower than 200ms count as failures: {} of the canary's, {} of stable's",
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
    let judged = Judged::of_service(&fleet.url(), &["--rate=300", "--for=1m", "--timeout=30s"]);
    assert_eq!(judged.agreed(), (0, "promote"), "{judged:?}");
    assert_eq!(judged.summary["failure"], 0, "{judged:?}");
    assert!(!judged.text().contains("slower"), "{judged:?}");
}
