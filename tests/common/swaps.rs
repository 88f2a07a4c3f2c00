//! Label swaps under load.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
};

use appinfo::app_info::AppInfo;
use testkit::{http::Client, labels::LabelDir};

/// The labels of one version. Each label depends on the round, so that an answer that mixes two versions is detected.
fn text(round: usize) -> String {
    format!("app=\"{round}\"\nfiller=\"{}\"\nrelease=\"{round}\"", "x".repeat(round % 97))
}

/// Swaps the labels `swaps` times while `clients` send requests, each on its own connection. Calls `then` with the
/// number of each swap. Returns the number of answers. Panics if an answer failed, was stale, or mixed two versions.
pub fn under_load(
    server: SocketAddr,
    labels: &LabelDir,
    clients: usize,
    swaps: usize,
    mut then: impl FnMut(usize),
) -> usize {
    let (newest, answers, done) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicBool::new(false));
    labels.swap(text(0));
    thread::scope(|scope| {
        for _ in 0..clients {
            scope.spawn(|| {
                let mut client = Client::connect(server).expect("a connection");
                while !done.load(Ordering::Relaxed) {
                    let at_least = newest.load(Ordering::SeqCst);
                    let answer = client.get("/v1/appinfo").expect("an answer");
                    assert_eq!(answer.status, 200, "{answer:?}");
                    let info: AppInfo = serde_json::from_str(&answer.body).expect("JSON");
                    let round: usize = info.release.parse().expect("a number");
                    assert!(round >= at_least, "stale: {round} after {at_least}");
                    assert_eq!(info.app_name, info.release, "a mixture");
                    assert_eq!(info.labels["filler"].len(), round % 97, "a mixture");
                    assert_eq!(answer.header("x-release"), Some(info.release.as_str()), "a mixture");
                    answers.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for round in 1..=swaps {
            labels.swap(text(round));
            newest.store(round, Ordering::SeqCst);
            then(round);
        }
        done.store(true, Ordering::Relaxed);
    });
    answers.into_inner()
}
