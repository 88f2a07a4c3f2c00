//! A pod's labels, as Kubernetes' downward API writes them to a file: one label per line, `key="value"`.
//!
//! - `parser`: [`Labels`], from the bytes of the file.
//! - `file`: [`LabelFile`] reads it, and keeps the labels while it is unchanged. `watch`: whether it has changed.

mod file;
mod parser;
mod watch;

pub use self::{
    file::{LabelFile, LabelsError},
    parser::Labels,
};
