//! Being told of out-of-memory kills.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::inotify;

use super::error::{Error, Result};

/// A descriptor that becomes readable when something may have happened.
#[derive(Debug)]
pub struct OomSource {
    fd: OwnedFd,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    /// An eventfd registered for `memory.oom_control`; the control file is held, closing it ends nothing.
    Eventfd,
    /// An inotify watch of `memory.events`, and the number of kills seen so far.
    Inotify { events: PathBuf, kills: u64 },
}

impl OomSource {
    /// Registers with a memory cgroup of version 1.
    pub(crate) fn v1(folder: &Path) -> Result<Self> {
        let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|error| Error::file("make an eventfd for", folder, error))?;
        let control_path = folder.join("memory.oom_control");
        let control = std::fs::File::open(&control_path)
            .map_err(|error| Error::file("open", &control_path, error))?;
        use std::os::fd::AsRawFd;
        let line = format!("{} {}", fd.as_raw_fd(), control.as_raw_fd());
        let listener = folder.join("cgroup.event_control");
        std::fs::write(&listener, &line)
            .map_err(|error| Error::file(format!("register {line} with"), listener, error))?;
        Ok(Self {
            fd,
            kind: Kind::Eventfd,
        })
    }

    /// Watches `memory.events` of a cgroup of version 2.
    pub(crate) fn v2(folder: &Path) -> Result<Self> {
        let events = folder.join("memory.events");
        let watch = || -> io::Result<OwnedFd> {
            let fd = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
            inotify::add_watch(&fd, &events, inotify::WatchFlags::MODIFY)?;
            Ok(fd)
        };
        let fd = watch().map_err(|error| Error::file("watch", &events, error))?;
        let kills = kills(&events);
        Ok(Self {
            fd,
            kind: Kind::Inotify { events, kills },
        })
    }

    /// Reads what has come and says whether a process was killed since the last call. Never blocks.
    ///
    /// A removed cgroup of version 1 also makes the descriptor readable: false then.
    pub fn occurred(&mut self) -> bool {
        let mut buffer = [0; 4096];
        let read = rustix::io::read(&self.fd, &mut buffer).unwrap_or(0);
        match &mut self.kind {
            Kind::Eventfd => read == 8,
            Kind::Inotify {
                events,
                kills: seen,
            } => {
                let now = kills(events);
                let more = now > *seen;
                *seen = now.max(*seen);
                more
            }
        }
    }
}

fn kills(events: &Path) -> u64 {
    std::fs::read_to_string(events)
        .ok()
        .and_then(|text| super::stats::flat(&text).get("oom_kill").copied())
        .unwrap_or(0)
}

impl AsFd for OomSource {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
