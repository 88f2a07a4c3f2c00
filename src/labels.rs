//! The label file, as Kubernetes' downward API writes it: one label a line, `key="value"`.
//!
//! [`Labels::parse`] is pure; [`LabelFile`] reads.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

/// A pod's labels by key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels(BTreeMap<String, String>);

impl Labels {
    /// Reads labels from the text of a label file.
    ///
    /// There is no malformed text, only lines that say nothing: one without `=` or with nothing before it is
    /// passed over. The key is what stands before the first `=`, trimmed; the value is what follows, trimmed,
    /// then without any `"`. The last of a repeated key wins. Bytes that are not UTF-8 become U+FFFD.
    pub fn parse(text: &[u8]) -> Self {
        let label = |line: &str| {
            let (key, value) = line.split_once('=')?;
            let key = key.trim();
            (!key.is_empty()).then(|| (key.to_owned(), value.trim().replace('"', "")))
        };
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

/// More than any pod's labels can take: Kubernetes stores no object above 1.5 MiB (etcd's request limit).
const MAX_BYTES: u64 = 2 << 20;

/// How often to look before a file counts as missing. The kubelet points a link at a new directory and removes the
/// old one; who has just followed the link to the old one finds nothing there, but will when it looks again.
const ATTEMPTS: u32 = 8;

/// A label file that is read anew for each question, so that a changed label shows in the very next answer.
#[derive(Clone, Debug)]
pub struct LabelFile {
    path: PathBuf,
}

impl LabelFile {
    /// The label file at `path`. It need not exist yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the labels as they are now.
    ///
    /// # Errors
    /// If there is no such file, it may not be read, is no regular file, or is larger than 2 MiB.
    pub fn read(&self) -> Result<Labels, LabelsError> {
        let mut text = self.read_bytes();
        for _ in 1..ATTEMPTS {
            match &text {
                Err(error) if error.kind() == io::ErrorKind::NotFound => text = self.read_bytes(),
                _ => break,
            }
        }
        text.map(|text| Labels::parse(&text)).map_err(|cause| LabelsError { path: self.path.clone(), cause })
    }

    fn read_bytes(&self) -> io::Result<Vec<u8>> {
        let metadata = fs::metadata(&self.path)?;
        if metadata.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        if !metadata.is_file() {
            // opening a pipe would wait for its writer, and every request with it
            return Err(io::Error::other("not a regular file"));
        }
        let mut text = Vec::with_capacity(usize::try_from(metadata.len().min(MAX_BYTES)).unwrap_or(0));
        File::open(&self.path)?.take(MAX_BYTES + 1).read_to_end(&mut text)?;
        if text.len() as u64 > MAX_BYTES {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "larger than 2 MiB"));
        }
        Ok(text)
    }
}

/// The label file could not be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read labels from {}: {cause}", path.display())]
pub struct LabelsError {
    path: PathBuf,
    cause: io::Error,
}
