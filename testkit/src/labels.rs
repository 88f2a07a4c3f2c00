//! The label file of a pod, written as the kubelet writes it.

use std::{
    fs, io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use tempfile::TempDir;

/// A downward-API volume: a directory in which `labels` is a link to `..data/labels`, and `..data` is a link to the
/// directory of the current version.
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
    /// Creates `directory` as a volume whose label file has this text.
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

/// A [`LabelVolume`] in a temporary directory, which is removed with it.
#[derive(Debug)]
pub struct LabelDir {
    _directory: TempDir,
    volume: LabelVolume,
}

impl LabelDir {
    /// A volume whose label file has this text.
    pub fn new(text: impl AsRef<[u8]>) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let volume = LabelVolume::new(directory.path().join("volume"), text).expect("a volume");
        Self { _directory: directory, volume }
    }

    /// The file that the pod reads.
    pub fn file(&self) -> PathBuf {
        self.volume.file()
    }

    /// Replaces the label file as the kubelet does.
    pub fn swap(&self, text: impl AsRef<[u8]>) {
        self.volume.swap(text).expect("a swap");
    }
}
