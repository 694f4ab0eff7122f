//! Waiting for many descriptors at once.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::{Timespec, epoll};

/// Events taken in one turn.
pub const EVENTS_MAX: usize = 32;

/// What to wait for on a descriptor. The end and errors of a peer are always reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interest {
    /// Wait until reading does not block.
    pub read: bool,
    /// Wait until writing does not block.
    pub write: bool,
}

impl Interest {
    /// Reading only.
    pub const READ: Self = Self {
        read: true,
        write: false,
    };
    /// Writing only.
    pub const WRITE: Self = Self {
        read: false,
        write: true,
    };

    fn flags(self) -> epoll::EventFlags {
        let mut flags = epoll::EventFlags::empty();
        flags.set(epoll::EventFlags::IN, self.read);
        flags.set(epoll::EventFlags::OUT, self.write);
        flags
    }
}

/// A descriptor is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ready {
    /// The number given when it was added.
    pub token: u64,
    /// Reading does not block: there is something, or the end.
    pub read: bool,
    /// Writing does not block.
    pub write: bool,
    /// The peer is gone or the descriptor is broken.
    pub closed: bool,
}

/// An epoll instance: level-triggered.
#[derive(Debug)]
pub struct Poller {
    fd: OwnedFd,
}

impl Poller {
    /// Makes an instance, closed on exec.
    ///
    /// # Errors
    /// Those of `epoll_create1`.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            fd: epoll::create(epoll::CreateFlags::CLOEXEC)?,
        })
    }

    /// Adds a descriptor under a number of the caller's.
    ///
    /// # Errors
    /// Those of `epoll_ctl`: `EPERM` for a regular file, `EEXIST` for a descriptor that was added before.
    pub fn add(&self, fd: impl AsFd, token: u64, interest: Interest) -> io::Result<()> {
        Ok(epoll::add(
            &self.fd,
            fd,
            epoll::EventData::new_u64(token),
            interest.flags(),
        )?)
    }

    /// Changes what is waited for.
    ///
    /// # Errors
    /// Those of `epoll_ctl`.
    pub fn modify(&self, fd: impl AsFd, token: u64, interest: Interest) -> io::Result<()> {
        Ok(epoll::modify(
            &self.fd,
            fd,
            epoll::EventData::new_u64(token),
            interest.flags(),
        )?)
    }

    /// Forgets a descriptor. Must come before it is closed if duplicates of it live on.
    ///
    /// # Errors
    /// Those of `epoll_ctl`.
    pub fn remove(&self, fd: impl AsFd) -> io::Result<()> {
        Ok(epoll::delete(&self.fd, fd)?)
    }

    /// Waits until something is ready or `limit` has passed; appends to `ready`. A signal ends the wait early.
    ///
    /// # Errors
    /// Those of `epoll_wait` except `EINTR`.
    pub fn wait(&self, limit: Option<Duration>, ready: &mut Vec<Ready>) -> io::Result<()> {
        let mut buffer = [MaybeUninit::<epoll::Event>::uninit(); EVENTS_MAX];
        let limit = limit
            .map(Timespec::try_from)
            .transpose()
            .map_err(io::Error::other)?;
        let events = match epoll::wait(&self.fd, &mut buffer, limit.as_ref()) {
            Ok((events, _)) => events,
            Err(rustix::io::Errno::INTR) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        ready.extend(events.iter().map(|event| {
            let flags = event.flags;
            let closed = flags.intersects(epoll::EventFlags::HUP | epoll::EventFlags::ERR);
            Ready {
                token: event.data.u64(),
                read: closed || flags.contains(epoll::EventFlags::IN),
                write: closed || flags.contains(epoll::EventFlags::OUT),
                closed,
            }
        }));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn data_and_end_are_told() {
        let (reader, mut writer) = io::pipe().unwrap();
        let poller = Poller::new().unwrap();
        poller.add(&reader, 7, Interest::READ).unwrap();
        let mut ready = Vec::new();
        poller.wait(Some(Duration::ZERO), &mut ready).unwrap();
        assert!(ready.is_empty());
        writer.write_all(b"x").unwrap();
        poller.wait(None, &mut ready).unwrap();
        assert_eq!(
            ready,
            [Ready {
                token: 7,
                read: true,
                write: false,
                closed: false
            }]
        );
        drop(writer);
        ready.clear();
        poller.wait(None, &mut ready).unwrap();
        assert!(ready[0].closed);
    }
}
