//! Outcomes count in the order of sending, and the judge waits for open requests.

use std::time::{Duration, Instant};

use crate::{
    Judged,
    common::{Fate, Fleet, Version, run},
};

/// Long enough for each answer on a busy machine.
const TIMEOUT: &str = "--timeout=30s";
const LATE: Duration = Duration::from_millis(1500);

/// Every `one_in`-th request fails after `delay`. Each pod starts at another request.
fn failing(pod: usize, one_in: usize, delay: Duration) -> impl Fn(usize) -> (Fate, Duration) {
    move |request| {
        let fails = (request + 3 * pod).is_multiple_of(one_in);
        if fails { (Fate::Fail, delay) } else { (Fate::Succeed, Duration::ZERO) }
    }
}

fn stable_pods(fleet: &mut Fleet) {
    for number in 1..=3 {
        fleet.add(&format!("appinfo-{number}"), "release=\"stable\"", Version::Baseline);
    }
}

#[test]
fn equal_releases_are_equal_even_if_stables_failures_come_late() {
    let mut fleet = Fleet::new();
    for number in 1..=3 {
        fleet.add_planned(&format!("appinfo-{number}"), "stable", failing(number, 5, LATE));
    }
    fleet.add_planned("appinfo-canary-1", "canary", failing(4, 5, Duration::ZERO));
    let judged = Judged::of_service(&fleet.url(), &["--rate=200", "--count=1600", "--max-ratio=1", TIMEOUT]);
    assert_eq!(judged.agreed(), (7, "hold"), "{judged:?}");
    let canary = &judged.summary["verdict"]["canary"];
    assert_eq!((&canary["answers"], &canary["failures"]), (&400.into(), &80.into()), "{judged:?}");
}

#[test]
fn a_canary_whose_failures_come_late_is_rolled_back() {
    let mut fleet = Fleet::new();
    stable_pods(&mut fleet);
    fleet.add_planned("appinfo-canary-1", "canary", failing(0, 3, LATE));
    let judged = Judged::of_service(&fleet.url(), &["--rate=300", TIMEOUT]);
    assert_eq!(judged.agreed(), (1, "roll_back"), "{judged:?}");
}

#[test]
fn open_requests_still_count_when_the_time_is_over() {
    let mut fleet = Fleet::new();
    stable_pods(&mut fleet);
    let delay = Duration::from_secs(6);
    fleet.add_planned("appinfo-canary-1", "canary", failing(0, 1, delay));
    let began = Instant::now();
    let judged = Judged::of_service(&fleet.url(), &["--rate=100", "--for=3s", TIMEOUT]);
    assert_eq!(judged.agreed(), (1, "roll_back"), "{judged:?}");
    assert!(began.elapsed() >= delay, "{judged:?}");
}

#[test]
fn a_canary_that_always_hangs_is_reported_as_never_named() {
    let fleet = Fleet::with_canary(Version::Hanging);
    let (code, output, messages) = run(&["judge", &fleet.url(), "--count=400", "--rate=200", "--timeout=3s"]);
    assert_eq!(code, Some(5), "{output}{messages}");
    assert!(messages.contains("named the release canary\n"), "{messages}");
}

#[test]
fn a_canary_that_hangs_half_of_the_time_is_not_promoted_and_the_sentence_counts_the_failures() {
    let mut fleet = Fleet::new();
    stable_pods(&mut fleet);
    fleet.add_planned("appinfo-canary-1", "canary", |request| {
        let fate = if request.is_multiple_of(2) { Fate::Hang } else { Fate::Succeed };
        (fate, Duration::ZERO)
    });
    let judged = Judged::of_service(&fleet.url(), &["--rate=1000", "--count=3200", "--timeout=3s"]);
    assert_eq!(judged.agreed(), (2, "not_yet"), "{judged:?}");
    let unattributed = judged.summary["verdict"]["unattributed"].as_u64().expect("a number");
    assert!(unattributed >= 400, "half of the canary's quarter hangs: {judged:?}");
    let sentence = format!(
        "{unattributed} failures name neither stable nor the canary: they count in full against a promotion"
    );
    assert!(judged.text().contains(&sentence), "{judged:?}");
    assert_eq!(judged.summary["no_answer"]["count"], unattributed, "{judged:?}");
}
