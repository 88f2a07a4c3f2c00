//! What the tests of the whole share: patience, and a label directory as the kubelet keeps it.
#![allow(dead_code, unreachable_pub, reason = "each test crate uses its part")]

pub mod http;
pub mod manifests;
pub mod process;
pub mod swaps;

use std::{
    fs,
    os::unix::fs::symlink,
    path::PathBuf,
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

/// Long enough for anything that happens at all, on the busiest machine.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// What a connection may take at its worst; the manifests' memory limit rests on it.
pub const KIB_PER_CONNECTION: u64 = 24;

/// The label file of the README's example.
pub const LABELS: &str = "app=\"appinfo\"\npod-template-hash=\"1236545534\"\nrelease=\"stable\"";

/// Waits for a condition.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        pause(Duration::from_millis(5));
    }
}

/// Lets time pass: between two looks at a condition, or because the time itself is what is tested.
pub fn pause(time: Duration) {
    thread::sleep(time);
}

/// A downward-API volume: `labels -> ..data/labels`, `..data -> ..<some time stamp>`.
pub struct LabelDir {
    directory: TempDir,
    versions: AtomicU64,
}

impl LabelDir {
    pub fn new(text: impl AsRef<[u8]>) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let new = Self { directory, versions: AtomicU64::new(0) };
        new.swap(text);
        symlink("..data/labels", new.file()).expect("a link");
        new
    }

    /// The file that the process reads.
    pub fn file(&self) -> PathBuf {
        self.directory.path().join("labels")
    }

    /// Replaces the labels as the kubelet does: a new directory, then `..data` renamed over.
    pub fn swap(&self, text: impl AsRef<[u8]>) {
        let root = self.directory.path();
        let version = format!("..{:09}", self.versions.fetch_add(1, Ordering::Relaxed));
        fs::create_dir(root.join(&version)).expect("a directory");
        fs::write(root.join(&version).join("labels"), text).expect("a label file");
        let data = root.join("..data");
        let old = fs::read_link(&data);
        symlink(&version, root.join("..data_tmp")).expect("a link");
        fs::rename(root.join("..data_tmp"), &data).expect("a swap");
        if let Ok(old) = old {
            fs::remove_dir_all(root.join(old)).expect("the old directory");
        }
    }
}
