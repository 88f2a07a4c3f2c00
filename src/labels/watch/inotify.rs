//! Whether anything has happened to a file, asked of the kernel: one cheap system call (ioctl, some 0.2 µs). To
//! look the file up anew takes six times as long.

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

/// Links that are followed before a path counts as a circle; as many as the kernel follows.
const MAX_LINKS: u32 = 40;

/// File systems whose files change by this kernel's own system calls alone: tmpfs, ext2 to ext4, XFS, Btrfs,
/// overlayfs (`linux/magic.h`). On others, another machine may write without an event here.
const LOCAL: [u64; 5] = [0x0102_1994, 0xef53, 0x5846_5342, 0x9123_683e, 0x794c_7630];

/// Knows whether a path still leads to the same file with the same content.
///
/// It watches every directory, link and file that the path passes through, each for what happens to itself.
/// That is enough: another file can take one's place only after that one is moved, unlinked or exchanged. The
/// kernel queues each event before the system call that caused it returns (`inotify(7)`). (For a directory, the
/// kernel also reports changed attributes of the other files in it. That costs one more reading.)
#[derive(Debug)]
pub(in crate::labels) struct Watch(OwnedFd);

impl Watch {
    /// Watches from now on.
    ///
    /// # Errors
    /// If the path leads nowhere, passes what may not be read, or a file system that others can write to; or
    /// if this user has as many watches as it may (`/proc/sys/fs/inotify/max_user_instances`).
    pub(in crate::labels) fn new(path: &Path) -> io::Result<Self> {
        must_be_local(path)?; // the usual case of a failure, and to close an instance that watches takes long
        let watch = Self(inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?);
        watch.renew(path)?;
        Ok(watch)
    }

    /// Forgets what has happened, and watches from now on.
    ///
    /// # Errors
    /// As for [`Watch::new`].
    pub(in crate::labels) fn renew(&self, path: &Path) -> io::Result<()> {
        let mut events = [0; 4096];
        while rustix::io::read(&self.0, &mut events).is_ok_and(|bytes| bytes > 0) {}
        self.follow(&mut PathBuf::new(), path, &mut 0)?;
        self.add(path, WatchFlags::MODIFY)
    }

    /// Whether nothing has happened since.
    pub(in crate::labels) fn is_quiet(&self) -> bool {
        ioctl_fionread(&self.0).is_ok_and(|bytes| bytes == 0)
    }

    /// Adds what `path` passes through, as seen from `place`, which has no links in it. Each is watched before
    /// it is looked at: a change in between is an event.
    fn follow(&self, place: &mut PathBuf, path: &Path, links: &mut u32) -> io::Result<()> {
        for component in path.components() {
            place.push(component);
            must_be_local(place)?;
            let happens_to_itself = WatchFlags::ATTRIB | WatchFlags::MOVE_SELF | WatchFlags::DELETE_SELF;
            self.add(place, happens_to_itself | WatchFlags::DONT_FOLLOW)?;
            match fs::read_link(&*place) {
                Ok(target) => {
                    *links += 1;
                    if *links > MAX_LINKS {
                        return Err(Errno::LOOP.into());
                    }
                    place.pop();
                    self.follow(place, &target, links)?;
                }
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => {} // no link
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
