//! A pod's labels, as Kubernetes' downward API writes them into a file: one label a line, `key="value"`.
//!
//! The pure parser is here. [`LabelFile`] reads the file, and [`LabelVolume`] writes it, as the kubelet does.

mod file;
mod volume;
mod watch;

use std::collections::BTreeMap;

pub use file::{LabelFile, LabelsError};
pub use volume::{LabelVolume, to_text};

/// U+FEFF in UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// A pod's labels by key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels(BTreeMap<String, String>);

impl Labels {
    /// Reads labels from the text of a label file.
    ///
    /// There is no malformed text, only lines that say nothing: one without `=` or with nothing before it is
    /// passed over. The key is what stands before the first `=`, trimmed; the value is what follows, trimmed,
    /// then without any `"`. The last of a repeated key wins. Bytes that are not UTF-8 become U+FFFD. A
    /// byte-order mark at the beginning, as some editors write it, is no part of the first key.
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
