//! The label file, as Kubernetes' downward API writes it: one label a line, `key="value"`.
//!
//! [`Labels::parse`] is pure; [`LabelFile`] reads.

use std::{
    collections::BTreeMap,
    fs::{self, File, Metadata},
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
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

/// How often to look before a file counts as missing. The kubelet points a link at a new directory and
/// removes the old one; who has just followed the link to the old one finds nothing there, but will when it
/// looks again.
const ATTEMPTS: u32 = 8;

/// How long ago a file must have changed for its time stamps to tell whether it changes again: longer than
/// the ticks they count in (4 ms on most file systems, 2 s on the coarsest, FAT).
const SETTLED: Duration = Duration::from_secs(3);

/// A label file, always told as it is: a changed label shows in the very next answer. What was read is kept
/// while the file has provably not changed.
#[derive(Debug)]
pub struct LabelFile {
    path: PathBuf,
    last: Mutex<Option<(Stamp, Arc<Labels>)>>,
}

impl LabelFile {
    /// The label file at `path`. It need not exist yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), last: Mutex::default() }
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The labels as they are now: the same `Arc` while the file has provably not changed.
    ///
    /// # Errors
    /// If there is no such file, it may not be read, is no regular file, or is larger than 2 MiB.
    pub fn read(&self) -> Result<Arc<Labels>, LabelsError> {
        let mut labels = self.look();
        for _ in 1..ATTEMPTS {
            match &labels {
                Err(error) if error.kind() == io::ErrorKind::NotFound => labels = self.look(),
                _ => break,
            }
        }
        labels.map_err(|cause| LabelsError { path: self.path.clone(), cause })
    }

    fn look(&self) -> io::Result<Arc<Labels>> {
        let metadata = fs::metadata(&self.path)?;
        if metadata.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        if !metadata.is_file() {
            // opening a pipe would wait for its writer, and every request with it
            return Err(io::Error::other("not a regular file"));
        }
        if let Some((stamp, labels)) = &*self.last()
            && *stamp == Stamp::of(&metadata)
        {
            return Ok(Arc::clone(labels));
        }
        // the clock first, then the stamp, then the text: what changes after any of them changes the stamp,
        // too
        let now = SystemTime::now();
        let mut file = File::open(&self.path)?;
        let stamp = Stamp::of(&file.metadata()?);
        let labels = Arc::new(Labels::parse(&read_all(&mut file)?));
        *self.last() = stamp.is_settled(now).then(|| (stamp, Arc::clone(&labels)));
        Ok(labels)
    }

    fn last(&self) -> MutexGuard<'_, Option<(Stamp, Arc<Labels>)>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read_all(file: &mut File) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut text)?;
    if text.len() as u64 > MAX_BYTES {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "larger than 2 MiB"));
    }
    Ok(text)
}

/// Which file it is, and when it last changed. Nobody but the clock can set the time of the last change
/// (ctime).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    /// Seconds and nanoseconds since 1970.
    changed: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.size(),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Whether another change, now or later, would be told by another stamp.
    fn is_settled(&self, now: SystemTime) -> bool {
        let Ok(now) = now.duration_since(UNIX_EPOCH) else { return false };
        let Ok(changed) = u64::try_from(self.changed.0) else { return false };
        now.as_secs().checked_sub(changed).is_some_and(|seconds| seconds > SETTLED.as_secs())
    }
}

/// The label file could not be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read labels from {}: {cause}", path.display())]
pub struct LabelsError {
    path: PathBuf,
    cause: io::Error,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(release: &str) -> String {
        format!("app=\"appinfo\"\nrelease=\"{release}\"")
    }

    fn release(file: &LabelFile) -> String {
        file.read().expect("labels").get("release").expect("a release").to_owned()
    }

    /// Makes the file look as if it had not changed for long, to whoever looks at the kept stamp alone.
    fn settle(file: &LabelFile) {
        let stamp = Stamp::of(&fs::metadata(file.path()).expect("metadata"));
        let labels = file.read().expect("labels");
        *file.last() = Some((stamp, labels));
    }

    #[test]
    fn a_file_that_just_changed_is_not_kept() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = LabelFile::new(directory.path().join("labels"));
        fs::write(file.path(), labels("a")).expect("written");
        let (one, two) = (file.read().expect("labels"), file.read().expect("labels"));
        assert!(!Arc::ptr_eq(&one, &two), "the stamp of a change that recent proves nothing");
        assert!(file.last().is_none());
    }

    #[test]
    fn a_settled_file_is_kept_until_it_changes() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = LabelFile::new(directory.path().join("labels"));
        fs::write(file.path(), labels("a")).expect("written");
        settle(&file);
        let (one, two) = (file.read().expect("labels"), file.read().expect("labels"));
        assert!(Arc::ptr_eq(&one, &two));

        // in place, of the same length; a stamp counts in ticks, so wait for the next
        let stamp = Stamp::of(&fs::metadata(file.path()).expect("metadata"));
        while Stamp::of(&fs::metadata(file.path()).expect("metadata")) == stamp {
            fs::write(file.path(), labels("b")).expect("written");
        }
        assert_eq!(release(&file), "b");

        // another file in its place, though its modification time is older
        settle(&file);
        let other = directory.path().join("other");
        fs::write(&other, labels("c")).expect("written");
        File::options()
            .append(true)
            .open(&other)
            .and_then(|file| file.set_modified(UNIX_EPOCH))
            .expect("set");
        fs::rename(&other, file.path()).expect("renamed");
        assert_eq!(release(&file), "c");

        settle(&file);
        fs::remove_file(file.path()).expect("removed");
        assert!(file.read().is_err(), "a file that is gone is not told from memory");
    }

    #[test]
    fn a_stamp_is_settled_once_the_coarsest_clock_has_moved_on() {
        let stamp = Stamp { device: 1, inode: 1, bytes: 1, changed: (1000, 999_999_999) };
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        assert!(!stamp.is_settled(at(1000)) && !stamp.is_settled(at(1003)) && stamp.is_settled(at(1004)));
        assert!(!stamp.is_settled(at(999)), "the clock was set back, or the file comes from the future");
    }
}
