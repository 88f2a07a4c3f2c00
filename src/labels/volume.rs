//! A downward-API volume, written as the kubelet writes it. The service does not use this: it is what the
//! rehearsal and the tests put in front of the service in place of a kubelet.

use std::{
    collections::BTreeMap,
    fmt::Write,
    fs, io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

/// A directory with the label file of a pod: `labels` is a link to `..data/labels`, and `..data` is a link to
/// the directory of the present version.
///
/// So does the kubelet: `pkg/volume/util/atomic_writer.go` in <https://github.com/kubernetes/kubernetes>.
#[derive(Debug)]
pub struct LabelVolume {
    directory: PathBuf,
    /// How many versions there have been. No name is used twice: a reader that still has the name of an old
    /// version must find nothing, not the half of a new one.
    versions: AtomicU64,
}

impl LabelVolume {
    /// Makes a volume of a directory that does not exist yet, with this text as the label file. The text of
    /// real labels comes from [`to_text`]; any other bytes are a damaged file.
    ///
    /// # Errors
    /// If the directory exists, or if it or something in it cannot be made.
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

    /// Replaces the label file in one step, so that no reader ever sees half of it: writes a new directory,
    /// renames a link to it over `..data`, and removes the old directory. Only one swap may run at a time.
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

/// The label file of these labels: one label a line, sorted by key, the value quoted, without a last newline.
///
/// So does the kubelet: `FormatMap` in `pkg/fieldpath/fieldpath.go` of <https://github.com/kubernetes/kubernetes>.
pub fn to_text(labels: &BTreeMap<String, String>) -> String {
    let mut text = String::new();
    for (key, value) in labels {
        let separator = if text.is_empty() { "" } else { "\n" };
        let _ = write!(text, "{separator}{key}={value:?}"); // writing to a string cannot fail
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{super::LabelFile, *};

    #[test]
    fn the_service_reads_what_was_swapped_in_and_nothing_old_stays() {
        let mut labels = BTreeMap::from([("app".to_owned(), "appinfo".to_owned())]);
        let directory = tempfile::tempdir().expect("a directory");
        let volume = LabelVolume::new(directory.path().join("volume"), to_text(&labels)).expect("a volume");
        let file = LabelFile::new(volume.file());
        assert_eq!(file.read().expect("labels").as_map(), &labels);
        labels.insert("newlabel".to_owned(), "realtime".to_owned());
        volume.swap(to_text(&labels)).expect("a swap");
        assert_eq!(file.read().expect("labels").as_map(), &labels);
        assert_eq!(
            fs::read_to_string(volume.file()).expect("text"),
            "app=\"appinfo\"\nnewlabel=\"realtime\""
        );
        let entries = fs::read_dir(&volume.directory).expect("a directory").count();
        assert_eq!(entries, 3, "two links and the directory of the present version");
    }
}
