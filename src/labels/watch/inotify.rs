//! Detects changes of a file with one cheap system call (`ioctl`, about 0.2 µs). Looking the path up again would
//! take six times as long.

use std::{
    fs, io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{
        inotify::{self, CreateFlags, WatchFlags},
        statfs,
    },
    io::{Errno, ioctl_fionread},
};

/// The maximum number of symbolic links in a path; the kernel has the same limit.
const MAX_LINKS: u32 = 40;

/// File systems that change only through system calls on this machine: tmpfs, ext2 to ext4, XFS, Btrfs, overlayfs
/// (`linux/magic.h`). On other file systems, another machine may write without an event here.
const LOCAL: [u64; 5] = [0x0102_1994, 0xef53, 0x5846_5342, 0x9123_683e, 0x794c_7630];

/// Detects whether the file at a path may have been changed or replaced.
///
/// It watches every directory, link and file on the path for changes to that item itself. This is enough: another
/// file can replace an item only if the item is moved, unlinked or exchanged. The kernel queues each event before
/// the system call that caused it returns (`inotify(7)`). (For a directory, the kernel also reports changed
/// attributes of the files in it. Such an event only causes one more reading.)
#[derive(Debug)]
pub(in crate::labels) struct Watch(OwnedFd);

impl Watch {
    /// Starts to watch.
    ///
    /// # Errors
    /// If there is no file at the path, an item on the path is not readable or not on a local file system, or this
    /// user has reached the limit of inotify instances (`/proc/sys/fs/inotify/max_user_instances`).
    pub(in crate::labels) fn new(path: &Path) -> io::Result<Self> {
        must_be_local(path)?; // the most likely error; checked first, since closing an inotify instance is slow
        let watch = Self(inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?);
        watch.renew(path)?;
        Ok(watch)
    }

    /// Drops all pending events and starts to watch again.
    ///
    /// # Errors
    /// As for [`Watch::new`].
    pub(in crate::labels) fn renew(&self, path: &Path) -> io::Result<()> {
        let mut events = [0; 4096];
        while rustix::io::read(&self.0, &mut events).is_ok_and(|bytes| bytes > 0) {}
        self.follow(&mut PathBuf::new(), path, &mut 0)?;
        self.add(path, WatchFlags::MODIFY)
    }

    /// Whether no event has occurred since [`Watch::new`] or [`Watch::renew`].
    pub(in crate::labels) fn is_quiet(&self) -> bool {
        ioctl_fionread(&self.0).is_ok_and(|bytes| bytes == 0)
    }

    /// Watches every item on `path`, which is relative to `place`; `place` itself has no links. Each item is watched
    /// before it is read, so that a change in between causes an event.
    fn follow(&self, place: &mut PathBuf, path: &Path, links: &mut u32) -> io::Result<()> {
        for component in path.components() {
            place.push(component);
            must_be_local(place)?;
            let changes_of_the_item = WatchFlags::ATTRIB | WatchFlags::MOVE_SELF | WatchFlags::DELETE_SELF;
            self.add(place, changes_of_the_item | WatchFlags::DONT_FOLLOW)?;
            match fs::read_link(&*place) {
                Ok(target) => {
                    *links += 1;
                    if *links > MAX_LINKS {
                        return Err(Errno::LOOP.into());
                    }
                    place.pop();
                    self.follow(place, &target, links)?;
                }
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => {} // not a link
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn add(&self, place: &Path, events: WatchFlags) -> io::Result<()> {
        inotify::add_watch(&self.0, place, events | WatchFlags::MASK_ADD)?;
        Ok(())
    }
}

fn must_be_local(path: &Path) -> io::Result<()> {
    let kind = statfs(path)?.f_type;
    if u64::try_from(kind).is_ok_and(|kind| LOCAL.contains(&kind)) {
        Ok(())
    } else {
        Err(io::ErrorKind::Unsupported.into())
    }
}
