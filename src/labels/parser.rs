//! The parser of a label file: a pure function from bytes to labels.

use std::collections::BTreeMap;

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
