//! The label file, with its labels cached while it is unchanged.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::{Duration, Instant},
};

use super::{Labels, watch::Watch};

/// The maximum size of a label file. No pod's labels reach it: Kubernetes stores no object above 1.5 MiB (etcd's
/// request limit).
const MAX_BYTES: u64 = 2 << 20;

/// How many times to try before a file counts as missing. For each change, the kubelet points a link at a new
/// directory and removes the old one. A reader that followed the link just before finds no file, but its next attempt
/// finds the new one.
const ATTEMPTS: u32 = 8;

/// The maximum age of cached labels. The kernel reports no event for a write through mapped memory (`mmap(2)`), nor
/// for a file system that is mounted over an item on the path.
const MAX_AGE: Duration = Duration::from_secs(1);

/// The minimum time between two starts of a watch; in between, the file is only read. Watching a file that changes
/// all the time would cost more than it saves.
const WATCH_INTERVAL: Duration = Duration::from_millis(100);

/// A label file. Labels are cached while the kernel reports no change. The first reading after a change returns the
/// new labels. Only two kinds of change may take one second to show: a write through mapped memory, and a file system
/// that is mounted over the file.
#[derive(Debug)]
pub struct LabelFile {
    path: PathBuf,
    cache: RwLock<Option<Cached>>,
    /// When a watch was last started. The holder of the lock starts one; other threads only read the file.
    watched: Mutex<Option<Instant>>,
}

#[derive(Debug)]
struct Cached {
    labels: Arc<Labels>,
    since: Instant,
    /// Started before the labels were read.
    watch: Watch,
}

impl LabelFile {
    /// The label file at `path`. It does not need to exist yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), cache: RwLock::default(), watched: Mutex::default() }
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The current labels. Returns the same `Arc` for as long as the file is known to be unchanged.
    ///
    /// # Errors
    /// If the file does not exist, is not readable, is not a regular file, or is larger than 2 MiB.
    pub fn read(&self) -> Result<Arc<Labels>, LabelsError> {
        if let Some(labels) = self.cached() {
            return Ok(labels);
        }
        let mut labels = self.load();
        for _ in 1..ATTEMPTS {
            match &labels {
                Err(error) if error.kind() == io::ErrorKind::NotFound => labels = self.load(),
                _ => break,
            }
        }
        labels.map_err(|cause| LabelsError { path: self.path.clone(), cause: Arc::new(cause) })
    }

    /// The cached labels, if the file is unchanged.
    fn cached(&self) -> Option<Arc<Labels>> {
        let cache = self.cache.read().unwrap_or_else(PoisonError::into_inner);
        let cached = cache.as_ref()?;
        (cached.since.elapsed() < MAX_AGE && cached.watch.is_quiet()).then(|| Arc::clone(&cached.labels))
    }

    /// Reads the file. Caches its labels, unless a watch was started a moment ago or cannot be started.
    fn load(&self) -> io::Result<Arc<Labels>> {
        let parse = || Ok(Arc::new(Labels::parse(&self.text()?)));
        let Ok(mut watched) = self.watched.try_lock() else { return parse() };
        if watched.is_some_and(|last| last.elapsed() < WATCH_INTERVAL) {
            return parse();
        }
        let since = Instant::now();
        *watched = Some(since);
        let watch = self.watch();
        let labels = parse()?;
        let cached = watch.map(|watch| Cached { labels: Arc::clone(&labels), since, watch });
        *self.cache.write().unwrap_or_else(PoisonError::into_inner) = cached;
        Ok(labels)
    }

    /// Starts a watch, if the system supports it. Renews the present watch if possible: that needs no new file
    /// descriptor.
    fn watch(&self) -> Option<Watch> {
        let cached = self.cache.write().unwrap_or_else(PoisonError::into_inner).take();
        let renewed = cached.map(|cached| cached.watch).filter(|watch| watch.renew(&self.path).is_ok());
        renewed.or_else(|| Watch::new(&self.path).ok())
    }

    fn text(&self) -> io::Result<Vec<u8>> {
        let metadata = fs::metadata(&self.path)?;
        if metadata.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        if !metadata.is_file() {
            // opening a pipe would block every request until the pipe has a writer
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
#[derive(Clone, Debug, thiserror::Error)]
#[error("cannot read labels from {}: {cause}", path.display())]
pub struct LabelsError {
    path: PathBuf,
    cause: Arc<io::Error>,
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::{
        mem,
        os::unix::fs::{PermissionsExt, symlink},
    };

    use testkit::labels::LabelVolume;

    use super::*;

    /// The volume of a pod with the label `release="one"`. The file `other/labels` in it has `release="two"`.
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

        /// The directory of the current version.
        fn version(&self) -> io::Result<PathBuf> {
            fs::read_link(self.path("..data")).map(|version| self.path(version))
        }
    }

    fn release(file: &LabelFile) -> Result<String, LabelsError> {
        file.read().map(|labels| labels.get("release").expect("a release").to_owned())
    }

    /// A label file whose labels are cached. It may take several attempts, since other processes change files in
    /// `/tmp`, too.
    fn cached(path: impl AsRef<Path>) -> LabelFile {
        for _ in 0..1000 {
            let file = LabelFile::new(path.as_ref());
            file.read().expect("labels");
            if file.cached().is_some() {
                return file;
            }
        }
        panic!("the labels are never cached");
    }

    #[test]
    fn changes_of_other_files_keep_the_labels_cached() {
        let fixture = Fixture::new();
        let cached = (0..100).any(|round| {
            let file = cached(fixture.volume.file());
            let before = file.read().expect("labels");
            fs::write(fixture.path("other/labels"), round.to_string()).expect("written");
            Arc::ptr_eq(&before, &file.read().expect("labels"))
        });
        assert!(cached);
    }

    #[test]
    fn every_kind_of_change_shows_in_the_next_reading() {
        type Change = fn(&Fixture) -> io::Result<()>;
        let changes: [(&str, Change); 8] = [
            ("written in place with the same length", |fixture| {
                fs::write(fixture.path("..data/labels"), "release=\"two\"")
            }),
            ("replaced by renaming another file over it", |fixture| {
                fs::rename(fixture.path("other/labels"), fixture.path("..data/labels"))
            }),
            ("a link replaced by a rename, as the kubelet does", |fixture| {
                fixture.volume.swap("release=\"two\"")
            }),
            ("a link removed and created again", |fixture| {
                fs::remove_file(fixture.path("labels"))?;
                symlink("other/labels", fixture.path("labels"))
            }),
            ("a directory moved away and replaced by another", |fixture| {
                let version = fixture.version()?;
                fs::rename(&version, fixture.path("old"))?;
                fs::rename(fixture.path("other"), version)
            }),
            ("a file moved away while it is open", |fixture| {
                let version = fixture.version()?;
                mem::forget(File::open(version.join("labels"))?);
                fs::rename(version.join("labels"), version.join("old"))?;
                fs::copy(fixture.path("other/labels"), version.join("labels")).map(drop)
            }),
            ("a file removed while it is open", |fixture| {
                let version = fixture.version()?;
                mem::forget(File::open(version.join("labels"))?);
                fs::remove_file(version.join("labels"))?;
                fs::copy(fixture.path("other/labels"), version.join("labels")).map(drop)
            }),
            ("written through a hard link", |fixture| {
                fs::hard_link(fixture.path("..data/labels"), fixture.path("other name"))?;
                fs::write(fixture.path("other name"), "release=\"two\"")
            }),
        ];
        for (what, change) in changes {
            let fixture = Fixture::new();
            let file = cached(fixture.volume.file());
            assert_eq!(release(&file).expect("labels"), "one");
            change(&fixture).expect(what);
            assert_eq!(release(&file).expect("labels"), "two", "{what}");
        }
    }

    #[test]
    fn each_of_several_changes_shows_although_labels_are_cached_in_between() {
        let Fixture { volume, directory: _directory } = Fixture::new();
        let file = LabelFile::new(volume.file());
        for expected in ["two", "one", "two", "one"] {
            let patience = Instant::now() + Duration::from_secs(60);
            while file.read().is_ok() && file.cached().is_none() {
                assert!(Instant::now() < patience, "the labels are not cached again");
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
    fn a_file_that_becomes_unreadable_is_an_error_despite_cached_labels() {
        let fixture = Fixture::new();
        let file = cached(fixture.volume.file());
        fs::remove_file(fixture.path("..data/labels")).expect("removed");
        release(&file).expect_err("gone");

        let file = cached(fixture.path("other/labels"));
        fs::set_permissions(file.path(), fs::Permissions::from_mode(0o000)).expect("set");
        assert!(file.cached().is_none(), "this user may have lost the permission");
    }

    #[test]
    fn a_file_that_changes_all_the_time_is_not_watched() {
        let fixture = Fixture::new();
        let began = Instant::now();
        let file = cached(fixture.volume.file());
        fs::write(fixture.path("..data/labels"), "release=\"two\"").expect("written");
        release(&file).expect("labels");
        let watched_again = file.cached().is_some();
        assert!(!watched_again || began.elapsed() >= WATCH_INTERVAL, "a watch was started a moment ago");
    }
}
