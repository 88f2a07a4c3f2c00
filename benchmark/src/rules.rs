//! See `rule.rs`.

pub mod argo;
pub mod fair_oracle;
pub mod flagger;
pub mod kayenta;
pub mod of_thumb;
pub mod oracle;
pub mod ours;
pub mod robbins;
pub mod safe_2x2;
pub mod z_test;

/// The error probability of each rule that has one.
pub const ALPHA: f64 = 0.05;
