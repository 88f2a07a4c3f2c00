//! A pod's labels, as Kubernetes' downward API writes them to a file: one label per line, `key="value"`.
//!
//! - `parser`: [`Labels`], from the bytes of the file.
//! - `file`: [`LabelFile`] reads it, and keeps the labels while it is unchanged. `watch`: whether it has changed.

mod file;
mod parser;
#[cfg(test)]
#[allow(dead_code, unreachable_pub, reason = "only some of it is used here")]
#[path = "../canary/src/rehearse/volume.rs"]
mod volume; // writes the file as the kubelet does
mod watch;

pub use self::{
    file::{LabelFile, LabelsError},
    parser::Labels,
};
