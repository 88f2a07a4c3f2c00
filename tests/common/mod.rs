//! Helpers that the tests of appinfo share. `testkit` has those that the tests of canary use, too.
#![allow(dead_code, unreachable_pub, reason = "each test crate uses only some of the helpers")]

pub mod manifests;
pub mod process;
pub mod swaps;

/// The maximum memory of one connection. The manifests' memory limit depends on it.
pub const KIB_PER_CONNECTION: u64 = 24;

/// The label file of the README's example.
pub const LABELS: &str = "app=\"appinfo\"\npod-template-hash=\"1236545534\"\nrelease=\"stable\"";
