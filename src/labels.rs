//! The label file, as Kubernetes' downward API writes it: one label a line, `key="value"`.
//!
//! [`Labels::parse`] is pure; [`LabelFile`] reads.

#[cfg(target_os = "linux")]
mod watch;

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::{Duration, Instant},
};

use watch::Watch;

/// Elsewhere nobody is asked, and the file is read for each request.
#[cfg(not(target_os = "linux"))]
mod watch {
    use std::{io, path::Path};

    #[derive(Debug)]
    pub(super) enum Watch {}

    impl Watch {
        pub(super) fn new(_: &Path) -> io::Result<Self> {
            Err(io::ErrorKind::Unsupported.into())
        }

        pub(super) fn renew(&self, _: &Path) -> io::Result<()> {
            match *self {}
        }

        pub(super) fn is_quiet(&self) -> bool {
            match *self {}
        }
    }
}

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

/// What was read is kept for so long at most. The kernel tells what is done to the files that a path leads
/// through, but not what is written by way of mapped memory (`mmap(2)`), nor that a whole file system is mounted
/// over one of them.
const KEEP_FOR: Duration = Duration::from_secs(1);

/// A file that has changed is just read for so long: watching one that changes all the time costs more than it
/// saves.
const WATCH_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// A label file, always told as it is: a changed label shows in the very next answer. (Only what is written
/// through mapped memory, or a file system mounted over the file, may take a second.) What was read is kept
/// while the kernel says that nothing has changed.
#[derive(Debug)]
pub struct LabelFile {
    path: PathBuf,
    kept: RwLock<Option<Kept>>,
    /// When it was last begun to watch. Who holds the lock does so, while others just read.
    watched: Mutex<Option<Instant>>,
}

#[derive(Debug)]
struct Kept {
    labels: Arc<Labels>,
    since: Instant,
    /// Began before the labels were read.
    watch: Watch,
}

impl LabelFile {
    /// The label file at `path`. It need not exist yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), kept: RwLock::default(), watched: Mutex::default() }
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
        if let Some(labels) = self.unchanged() {
            return Ok(labels);
        }
        let mut labels = self.look();
        for _ in 1..ATTEMPTS {
            match &labels {
                Err(error) if error.kind() == io::ErrorKind::NotFound => labels = self.look(),
                _ => break,
            }
        }
        labels.map_err(|cause| LabelsError { path: self.path.clone(), cause })
    }

    fn unchanged(&self) -> Option<Arc<Labels>> {
        let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
        let kept = kept.as_ref()?;
        (kept.since.elapsed() < KEEP_FOR && kept.watch.is_quiet()).then(|| Arc::clone(&kept.labels))
    }

    fn look(&self) -> io::Result<Arc<Labels>> {
        let just_read = || Ok(Arc::new(Labels::parse(&self.text()?)));
        let Ok(mut watched) = self.watched.try_lock() else { return just_read() };
        if watched.is_some_and(|last| last.elapsed() < WATCH_AGAIN_AFTER) {
            return just_read();
        }
        let since = Instant::now();
        *watched = Some(since);
        let watch = self.watch();
        let labels = just_read()?;
        let kept = watch.map(|watch| Kept { labels: Arc::clone(&labels), since, watch });
        *self.kept.write().unwrap_or_else(PoisonError::into_inner) = kept;
        Ok(labels)
    }

    /// Watches from now on, if the kernel can: if possible with the watch there is, which takes a few system
    /// calls and no file.
    fn watch(&self) -> Option<Watch> {
        let kept = self.kept.write().unwrap_or_else(PoisonError::into_inner).take();
        let renewed = kept.map(|kept| kept.watch).filter(|watch| watch.renew(&self.path).is_ok());
        renewed.or_else(|| Watch::new(&self.path).ok())
    }

    fn text(&self) -> io::Result<Vec<u8>> {
        let metadata = fs::metadata(&self.path)?;
        if metadata.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        if !metadata.is_file() {
            // opening a pipe would wait for its writer, and every request with it
            return Err(io::Error::other("not a regular file"));
        }
        let mut text = Vec::new();
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

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::{
        mem,
        os::unix::fs::{PermissionsExt, symlink},
    };

    use super::*;

    /// `labels -> ..data/labels`, `..data -> ..1`, as in a downward-API volume; and `..2`, another version.
    fn volume() -> tempfile::TempDir {
        let directory = tempfile::tempdir().expect("a directory");
        for (version, release) in [("..1", "one"), ("..2", "two")] {
            let version = directory.path().join(version);
            fs::create_dir(&version).expect("a directory");
            fs::write(version.join("labels"), format!("release=\"{release}\"")).expect("a file");
        }
        symlink("..1", directory.path().join("..data")).expect("a link");
        symlink("..data/labels", directory.path().join("labels")).expect("a link");
        directory
    }

    fn release(file: &LabelFile) -> Result<String, LabelsError> {
        file.read().map(|labels| labels.get("release").expect("a release").to_owned())
    }

    /// A reader that keeps what it has read. Others, too, change what is in `/tmp`, which makes it look again.
    fn keeping(path: impl AsRef<Path>) -> LabelFile {
        for _ in 0..1000 {
            let file = LabelFile::new(path.as_ref());
            file.read().expect("labels");
            if file.unchanged().is_some() {
                return file;
            }
        }
        panic!("it never keeps what it has read");
    }

    #[test]
    fn what_happens_to_other_files_does_not_matter() {
        let volume = volume();
        let kept = (0..100).any(|round| {
            let file = keeping(volume.path().join("labels"));
            let before = file.read().expect("labels");
            fs::write(volume.path().join("..2/labels"), round.to_string()).expect("written");
            Arc::ptr_eq(&before, &file.read().expect("labels"))
        });
        assert!(kept);
    }

    #[test]
    fn every_kind_of_change_shows_in_the_next_reading() {
        type Change = fn(&Path) -> io::Result<()>;
        let changes: [(&str, Change); 8] = [
            ("written in place, as long as before", |volume| {
                fs::write(volume.join("..1/labels"), "release=\"two\"")
            }),
            ("another file renamed over it", |volume| {
                fs::rename(volume.join("..2/labels"), volume.join("..1/labels"))
            }),
            ("a link renamed over, as the kubelet does it", |volume| {
                symlink("..2", volume.join("..data_tmp"))?;
                fs::rename(volume.join("..data_tmp"), volume.join("..data"))
            }),
            ("a link removed and made anew", |volume| {
                fs::remove_file(volume.join("labels"))?;
                symlink("..2/labels", volume.join("labels"))
            }),
            ("a directory moved away, and another into its place", |volume| {
                fs::rename(volume.join("..1"), volume.join("..old"))?;
                fs::rename(volume.join("..2"), volume.join("..1"))
            }),
            ("a file moved away while somebody has it open", |volume| {
                mem::forget(File::open(volume.join("..1/labels"))?);
                fs::rename(volume.join("..1/labels"), volume.join("..1/old"))?;
                fs::copy(volume.join("..2/labels"), volume.join("..1/labels")).map(drop)
            }),
            ("a file removed while somebody has it open", |volume| {
                mem::forget(File::open(volume.join("..1/labels"))?);
                fs::remove_file(volume.join("..1/labels"))?;
                fs::copy(volume.join("..2/labels"), volume.join("..1/labels")).map(drop)
            }),
            ("written through another name of the same file", |volume| {
                fs::hard_link(volume.join("..1/labels"), volume.join("other name"))?;
                fs::write(volume.join("other name"), "release=\"two\"")
            }),
        ];
        for (what, change) in changes {
            let volume = volume();
            let file = keeping(volume.path().join("labels"));
            assert_eq!(release(&file).expect("labels"), "one");
            change(volume.path()).expect(what);
            assert_eq!(release(&file).expect("labels"), "two", "{what}");
        }
    }

    #[test]
    fn changes_show_again_and_again() {
        let volume = volume();
        let file = LabelFile::new(volume.path().join("labels"));
        for (version, expected) in [("..2", "two"), ("..1", "one"), ("..2", "two"), ("..1", "one")] {
            let patience = Instant::now() + Duration::from_mins(1);
            while file.read().is_ok() && file.unchanged().is_none() {
                assert!(Instant::now() < patience, "it is not watched again");
                std::thread::sleep(Duration::from_millis(1));
            }
            symlink(version, volume.path().join("..data_tmp")).expect("a link");
            fs::rename(volume.path().join("..data_tmp"), volume.path().join("..data")).expect("renamed");
            assert_eq!(release(&file).expect("labels"), expected);
        }
    }

    #[test]
    fn each_of_many_changes_within_milliseconds_shows() {
        let volume = volume();
        let file = LabelFile::new(volume.path().join("labels"));
        for round in 0..2000 {
            let text = format!("{round:04}");
            fs::write(volume.path().join("..1/labels"), format!("release=\"{text}\"")).expect("written");
            assert_eq!(release(&file).expect("labels"), text);
        }
    }

    #[test]
    fn a_file_that_can_no_longer_be_read_is_not_told_from_memory() {
        let volume = volume();
        let file = keeping(volume.path().join("labels"));
        fs::remove_file(volume.path().join("..1/labels")).expect("removed");
        release(&file).expect_err("gone");

        let file = keeping(volume.path().join("..2/labels"));
        fs::set_permissions(file.path(), fs::Permissions::from_mode(0o000)).expect("set");
        assert!(file.unchanged().is_none(), "the permission may be gone");
    }

    #[test]
    fn a_file_that_changes_all_the_time_is_not_watched() {
        let volume = volume();
        let began = Instant::now();
        let file = keeping(volume.path().join("labels"));
        fs::write(volume.path().join("..1/labels"), "release=\"two\"").expect("written");
        release(&file).expect("labels");
        let watched_again = file.unchanged().is_some();
        assert!(!watched_again || began.elapsed() >= WATCH_AGAIN_AFTER, "it was watched a moment ago");
    }
}
