//! Helpers that the integration tests share.
#![allow(dead_code, unreachable_pub, reason = "each test crate uses only some of the helpers")]

pub mod http;
pub mod manifests;
pub mod process;
pub mod swaps;
#[path = "../../canary/src/rehearse/volume.rs"]
pub mod volume;

use std::{
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;
use volume::LabelVolume;

/// How long to wait for a condition; long enough for a very busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The maximum memory of one connection. The manifests' memory limit depends on it.
pub const KIB_PER_CONNECTION: u64 = 24;

/// The label file of the README's example.
pub const LABELS: &str = "app=\"appinfo\"\npod-template-hash=\"1236545534\"\nrelease=\"stable\"";

/// Waits for a condition.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "timed out waiting for: {what}");
        pause(Duration::from_millis(5));
    }
}

/// Sleeps, either between two checks of a condition or because a test depends on the time itself.
pub fn pause(time: Duration) {
    thread::sleep(time);
}

/// A downward-API volume in a temporary directory.
pub struct LabelDir {
    _directory: TempDir,
    volume: LabelVolume,
}

impl LabelDir {
    pub fn new(text: impl AsRef<[u8]>) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let volume = LabelVolume::new(directory.path().join("volume"), text).expect("a volume");
        Self { _directory: directory, volume }
    }

    /// The file that the process reads.
    pub fn file(&self) -> PathBuf {
        self.volume.file()
    }

    /// Replaces the labels as the kubelet does.
    pub fn swap(&self, text: impl AsRef<[u8]>) {
        self.volume.swap(text).expect("a swap");
    }
}
