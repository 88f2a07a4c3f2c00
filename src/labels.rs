//! A pod's labels, as Kubernetes' downward API writes them to a file: one label per line, `key="value"`.
//!
//! This module has the parser. [`LabelFile`] reads the file.

mod file;
#[cfg(test)]
#[allow(dead_code, unreachable_pub, reason = "only some of it is used here")]
#[path = "../canary/src/rehearse/volume.rs"]
mod volume; // writes the file as the kubelet does
mod watch;

use std::collections::BTreeMap;

pub use file::{LabelFile, LabelsError};

/// U+FEFF in UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// A pod's labels by key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels(BTreeMap<String, String>);

impl Labels {
    /// Parses the text of a label file.
    ///
    /// Parsing never fails. A line without `=`, or with no key before it, is ignored. The key is the trimmed text
    /// before the first `=`. The value is the trimmed text after it, without any `"`. If a key is repeated, its last
    /// value wins. Bytes that are not UTF-8 become U+FFFD. A byte-order mark at the beginning of the text, as some
    /// editors write it, is removed.
    pub fn parse(text: &[u8]) -> Self {
        let label = |line: &str| {
            let (key, value) = line.split_once('=')?;
            let key = key.trim();
            (!key.is_empty()).then(|| (key.to_owned(), value.trim().replace('"', "")))
        };
        let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
        Self(String::from_utf8_lossy(text).split('\n').filter_map(label).collect())
    }

    /// The value of a label.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// All labels, sorted by key.
    pub fn as_map(&self) -> &BTreeMap<String, String> {
        &self.0
    }
}
