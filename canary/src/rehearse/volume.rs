//! A downward-API volume with a pod's labels, kept as the kubelet keeps it.

use std::{
    collections::BTreeMap,
    fmt::Write,
    fs, io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

/// A directory in which `labels` is a link to `..data/labels`, and `..data` one to a directory of the present
/// version.
#[derive(Debug)]
pub(super) struct LabelVolume {
    directory: PathBuf,
    version: u64,
}

impl LabelVolume {
    /// Makes a volume of a directory that is not there yet.
    pub(super) fn new(directory: PathBuf, labels: &BTreeMap<String, String>) -> io::Result<Self> {
        fs::create_dir(&directory)?;
        let mut new = Self { directory, version: 0 };
        new.swap(labels)?;
        symlink("..data/labels", new.file())?;
        Ok(new)
    }

    /// The file that the pod reads.
    pub(super) fn file(&self) -> PathBuf {
        self.path("labels")
    }

    /// Replaces the labels in one step, so that no reader ever sees half of them: a new directory, then
    /// `..data` renamed over, then the old directory removed.
    pub(super) fn swap(&mut self, labels: &BTreeMap<String, String>) -> io::Result<()> {
        self.version += 1;
        let version = format!("..{:09}", self.version);
        fs::create_dir(self.path(&version))?;
        fs::write(self.path(&version).join("labels"), text(labels))?;
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

/// A label a line, sorted by key, without a last newline.
fn text(labels: &BTreeMap<String, String>) -> String {
    let mut text = String::new();
    for (key, value) in labels {
        let separator = if text.is_empty() { "" } else { "\n" };
        let _ = write!(text, "{separator}{key}={value:?}"); // a string takes everything
    }
    text
}

#[cfg(test)]
mod tests {
    use appinfo::labels::LabelFile;

    use super::*;

    #[test]
    fn the_service_reads_what_was_swapped_in_and_nothing_old_stays() {
        let mut labels = BTreeMap::from([("app".to_owned(), "appinfo".to_owned())]);
        let directory = tempfile::tempdir().expect("a directory");
        let mut volume = LabelVolume::new(directory.path().join("volume"), &labels).expect("a volume");
        let file = LabelFile::new(volume.file());
        assert_eq!(file.read().expect("labels").as_map(), &labels);
        labels.insert("newlabel".to_owned(), "realtime".to_owned());
        volume.swap(&labels).expect("a swap");
        assert_eq!(file.read().expect("labels").as_map(), &labels);
        assert_eq!(
            fs::read_to_string(volume.file()).expect("text"),
            "app=\"appinfo\"\nnewlabel=\"realtime\""
        );
        assert_eq!(fs::read_dir(&volume.directory).expect("a directory").count(), 3, "link, link, version");
    }
}
