//! A downward-API volume, written as the kubelet writes it: the rehearsal and the tests of appinfo have no kubelet.

use std::{
    collections::BTreeMap,
    fmt::Write,
    fs, io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

/// A directory with the label file of a pod: `labels` is a link to `..data/labels`, and `..data` is a link to
/// the directory of the current version.
///
/// The kubelet does the same: `pkg/volume/util/atomic_writer.go` in <https://github.com/kubernetes/kubernetes>.
#[derive(Debug)]
pub struct LabelVolume {
    directory: PathBuf,
    /// The number of versions so far, which names the next one. No name is used twice, so that a reader with the
    /// name of an old version cannot find a half-written new one.
    versions: AtomicU64,
}

impl LabelVolume {
    /// Creates `directory` as a volume whose label file has this text. [`to_text`] makes the text from labels; tests
    /// also pass damaged text.
    ///
    /// # Errors
    /// If the directory exists, or if it or something in it cannot be created.
    pub fn new(directory: impl Into<PathBuf>, text: impl AsRef<[u8]>) -> io::Result<Self> {
        let new = Self { directory: directory.into(), versions: AtomicU64::new(0) };
        fs::create_dir(&new.directory)?;
        new.swap(text)?;
        symlink("..data/labels", new.file())?;
        Ok(new)
    }

    /// The file that the pod reads.
    pub fn file(&self) -> PathBuf {
        self.path("labels")
    }

    /// Replaces the label file atomically: writes a new directory, renames a link to it over `..data`, and removes
    /// the old directory. Only one swap may run at a time.
    ///
    /// # Errors
    /// If something in the volume cannot be written or removed.
    pub fn swap(&self, text: impl AsRef<[u8]>) -> io::Result<()> {
        let version = format!("..{:09}", self.versions.fetch_add(1, Ordering::Relaxed));
        fs::create_dir(self.path(&version))?;
        fs::write(self.path(&version).join("labels"), text)?;
        let old = fs::read_link(self.path("..data"));
        symlink(&version, self.path("..data_tmp"))?;
        fs::rename(self.path("..data_tmp"), self.path("..data"))?;
        if let Ok(old) = old {
            fs::remove_dir_all(self.path(old))?;
        }
        Ok(())
    }

    fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.directory.join(name)
    }
}

/// The text of a label file: one label per line, sorted by key, with quoted values and no newline at the end.
///
/// The kubelet does the same: `FormatMap` in `pkg/fieldpath/fieldpath.go` of
/// <https://github.com/kubernetes/kubernetes>.
pub fn to_text(labels: &BTreeMap<String, String>) -> String {
    let mut text = String::new();
    for (key, value) in labels {
        let separator = if text.is_empty() { "" } else { "\n" };
        let _ = write!(text, "{separator}{key}={value:?}"); // writing to a string cannot fail
    }
    text
}
