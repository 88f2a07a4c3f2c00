//! The label file, kept while it is unchanged.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::{Duration, Instant},
};

use super::{Labels, watch::Watch};

/// More than any pod's labels can take: Kubernetes stores no object above 1.5 MiB (etcd's request limit).
const MAX_BYTES: u64 = 2 << 20;

/// How often to look before a file counts as missing. The kubelet points a link at a new directory and
/// removes the old one. A reader that has just followed the link to the old one finds no file there, but
/// finds one when it looks again.
const ATTEMPTS: u32 = 8;

/// What was read is kept for this long at most. The kernel reports what is done to the files that a path leads
/// through. It does not report what is written through mapped memory (`mmap(2)`), nor that a file system is
/// mounted over one of them.
const KEEP_FOR: Duration = Duration::from_secs(1);

/// After a file has been watched anew, it is not for this long, only read: to watch a file that changes all the
/// time costs more than it saves.
const WATCH_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// A label file. A changed label shows in the very next reading; only what is written through mapped memory, or
/// a file system that is mounted over the file, may take a second. What was read is kept while the kernel
/// reports no change.
#[derive(Debug)]
pub struct LabelFile {
    path: PathBuf,
    kept: RwLock<Option<Kept>>,
    /// When a watch was last begun. The holder of the lock does that, while others only read the file.
    watched: Mutex<Option<Instant>>,
}

#[derive(Debug)]
struct Kept {
    labels: Arc<Labels>,
    since: Instant,
    /// Begun before the labels were read.
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

    use super::{super::LabelVolume, *};

    /// The volume of a pod whose release is `one`; beside it, `other/labels` says `two`.
    struct Fixture {
        volume: LabelVolume,
        directory: tempfile::TempDir,
    }

    impl Fixture {
        fn new() -> Self {
            let directory = tempfile::tempdir().expect("a directory");
            let volume =
                LabelVolume::new(directory.path().join("volume"), "release=\"one\"").expect("a volume");
            let new = Self { volume, directory };
            fs::create_dir(new.path("other")).expect("a directory");
            fs::write(new.path("other/labels"), "release=\"two\"").expect("a file");
            new
        }

        /// A path below the volume.
        fn path(&self, name: impl AsRef<Path>) -> PathBuf {
            self.directory.path().join("volume").join(name)
        }

        /// The directory of the present version.
        fn version(&self) -> io::Result<PathBuf> {
            fs::read_link(self.path("..data")).map(|version| self.path(version))
        }
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
        let fixture = Fixture::new();
        let kept = (0..100).any(|round| {
            let file = keeping(fixture.volume.file());
            let before = file.read().expect("labels");
            fs::write(fixture.path("other/labels"), round.to_string()).expect("written");
            Arc::ptr_eq(&before, &file.read().expect("labels"))
        });
        assert!(kept);
    }

    #[test]
    fn every_kind_of_change_shows_in_the_next_reading() {
        type Change = fn(&Fixture) -> io::Result<()>;
        let changes: [(&str, Change); 8] = [
            ("written in place, as long as before", |fixture| {
                fs::write(fixture.path("..data/labels"), "release=\"two\"")
            }),
            ("another file renamed over it", |fixture| {
                fs::rename(fixture.path("other/labels"), fixture.path("..data/labels"))
            }),
            ("a link renamed over, as the kubelet does it", |fixture| fixture.volume.swap("release=\"two\"")),
            ("a link removed and made anew", |fixture| {
                fs::remove_file(fixture.path("labels"))?;
                symlink("other/labels", fixture.path("labels"))
            }),
            ("a directory moved away, and another into its place", |fixture| {
                let version = fixture.version()?;
                fs::rename(&version, fixture.path("old"))?;
                fs::rename(fixture.path("other"), version)
            }),
            ("a file moved away while somebody has it open", |fixture| {
                let version = fixture.version()?;
                mem::forget(File::open(version.join("labels"))?);
                fs::rename(version.join("labels"), version.join("old"))?;
                fs::copy(fixture.path("other/labels"), version.join("labels")).map(drop)
            }),
            ("a file removed while somebody has it open", |fixture| {
                let version = fixture.version()?;
                mem::forget(File::open(version.join("labels"))?);
                fs::remove_file(version.join("labels"))?;
                fs::copy(fixture.path("other/labels"), version.join("labels")).map(drop)
            }),
            ("written through another name of the same file", |fixture| {
                fs::hard_link(fixture.path("..data/labels"), fixture.path("other name"))?;
                fs::write(fixture.path("other name"), "release=\"two\"")
            }),
        ];
        for (what, change) in changes {
            let fixture = Fixture::new();
            let file = keeping(fixture.volume.file());
            assert_eq!(release(&file).expect("labels"), "one");
            change(&fixture).expect(what);
            assert_eq!(release(&file).expect("labels"), "two", "{what}");
        }
    }

    #[test]
    fn changes_show_again_and_again() {
        let Fixture { volume, directory: _directory } = Fixture::new();
        let file = LabelFile::new(volume.file());
        for expected in ["two", "one", "two", "one"] {
            let patience = Instant::now() + Duration::from_secs(60);
            while file.read().is_ok() && file.unchanged().is_none() {
                assert!(Instant::now() < patience, "it is not watched again");
                std::thread::sleep(Duration::from_millis(1));
            }
            volume.swap(format!("release=\"{expected}\"")).expect("a swap");
            assert_eq!(release(&file).expect("labels"), expected);
        }
    }

    #[test]
    fn each_of_many_changes_within_milliseconds_shows() {
        let fixture = Fixture::new();
        let file = LabelFile::new(fixture.volume.file());
        for round in 0..2000 {
            let text = format!("{round:04}");
            fs::write(fixture.path("..data/labels"), format!("release=\"{text}\"")).expect("written");
            assert_eq!(release(&file).expect("labels"), text);
        }
    }

    #[test]
    fn a_file_that_can_no_longer_be_read_is_not_told_from_memory() {
        let fixture = Fixture::new();
        let file = keeping(fixture.volume.file());
        fs::remove_file(fixture.path("..data/labels")).expect("removed");
        release(&file).expect_err("gone");

        let file = keeping(fixture.path("other/labels"));
        fs::set_permissions(file.path(), fs::Permissions::from_mode(0o000)).expect("set");
        assert!(file.unchanged().is_none(), "the permission may be gone");
    }

    #[test]
    fn a_file_that_changes_all_the_time_is_not_watched() {
        let fixture = Fixture::new();
        let began = Instant::now();
        let file = keeping(fixture.volume.file());
        fs::write(fixture.path("..data/labels"), "release=\"two\"").expect("written");
        release(&file).expect("labels");
        let watched_again = file.unchanged().is_some();
        assert!(!watched_again || began.elapsed() >= WATCH_AGAIN_AFTER, "it was watched a moment ago");
    }
}
