//! Moving bytes between a process and its streams without ever waiting.
//!
//! A relay reads only while it holds nothing: a reader that is slow or absent holds up the process that writes, never
//! the loop.

use crate::sink::LogFile;
use crate::state::{ProcessKey, now};
use rustix::io::Errno;
use shim_protocol::log::Lines;
use std::cell::RefCell;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use sys::poll::{Interest, Poller};

/// Bytes moved in one turn of the loop, so that one process cannot keep the others waiting.
const TURN_BYTES_MAX: usize = 256 << 10;

/// Where bytes go.
#[derive(Debug)]
pub(crate) enum Sink {
    /// A fifo, pipe or terminal, non-blocking.
    Stream(OwnedFd),
    /// A regular file.
    File(Rc<File>),
    /// Nowhere: read so that the process is not held up.
    Nothing,
    /// A log in CRI's form.
    Log(Rc<RefCell<LogFile>>, Lines),
}

/// Whether a relay goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flow {
    /// It waits for one of its ends.
    Open,
    /// Its source ended or its sink is gone.
    Ended,
}

/// One stream of one process.
#[derive(Debug)]
pub(crate) struct Relay {
    /// The process.
    pub(crate) key: ProcessKey,
    /// Leads into the process.
    pub(crate) input: bool,
    source: OwnedFd,
    sink: Sink,
    token: u64,
    held: Vec<u8>,
}

impl Relay {
    /// Starts to wait for the source, which must not block, under `token`; the sink gets `token + 1`.
    pub(crate) fn start(
        key: ProcessKey,
        input: bool,
        source: OwnedFd,
        sink: Sink,
        poller: &Poller,
        token: u64,
    ) -> io::Result<Self> {
        poller.add(&source, token, Interest::READ)?;
        Ok(Self {
            key,
            input,
            source,
            sink,
            token,
            held: Vec::new(),
        })
    }

    /// Moves what can be moved; `scratch` is shared by all relays.
    pub(crate) fn pump(&mut self, poller: &Poller, scratch: &mut [u8]) -> io::Result<Flow> {
        if !self.held.is_empty() {
            let held = std::mem::take(&mut self.held);
            let taken = self.put(&held)?;
            if taken < held.len() {
                self.held = held[taken..].to_vec();
                return Ok(Flow::Open);
            }
            self.resume(poller)?;
        }
        let mut moved = 0;
        while moved < TURN_BYTES_MAX {
            let count = match rustix::io::read(&self.source, &mut *scratch) {
                // EIO is how a terminal's master says that the last process has closed it.
                Ok(0) | Err(Errno::IO) => return self.finish().map(|()| Flow::Ended),
                Ok(count) => count,
                Err(Errno::AGAIN | Errno::INTR) => return Ok(Flow::Open),
                Err(error) => return Err(error.into()),
            };
            moved += count;
            let taken = self.put(&scratch[..count])?;
            if taken < count {
                self.held = scratch[taken..count].to_vec();
                self.pause(poller)?;
                return Ok(Flow::Open);
            }
        }
        Ok(Flow::Open)
    }

    /// Forgets both ends; must come before the descriptors are closed, since duplicates may live on.
    pub(crate) fn stop(&self, poller: &Poller) {
        // Ends that are not registered at present are no concern.
        let _source = poller.remove(&self.source).is_err();
        if let Sink::Stream(fd) = &self.sink {
            let _sink = poller.remove(fd).is_err();
        }
    }

    /// Opens the log anew if the sink is one.
    pub(crate) fn reopen(&self) -> io::Result<()> {
        match &self.sink {
            Sink::Log(log, _) => log.borrow_mut().reopen(),
            Sink::Stream(_) | Sink::File(_) | Sink::Nothing => Ok(()),
        }
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.sink {
            Sink::Stream(fd) => {
                let mut taken = 0;
                while taken < bytes.len() {
                    match rustix::io::write(&*fd, &bytes[taken..]) {
                        Ok(count) => taken += count,
                        Err(Errno::INTR) => {}
                        Err(Errno::AGAIN) => break,
                        Err(error) => return Err(error.into()),
                    }
                }
                Ok(taken)
            }
            Sink::Nothing => Ok(bytes.len()),
            Sink::File(file) => file.as_ref().write_all(bytes).map(|()| bytes.len()),
            Sink::Log(log, lines) => {
                let mut out = Vec::new();
                lines.push(bytes, now(), &mut out);
                log.borrow_mut().write(&out)?;
                Ok(bytes.len())
            }
        }
    }

    fn finish(&mut self) -> io::Result<()> {
        if let Sink::Log(log, lines) = &mut self.sink {
            let mut out = Vec::new();
            lines.finish(now(), &mut out);
            log.borrow_mut().write(&out)?;
        }
        Ok(())
    }

    /// The sink is full: wait for it and for nothing else.
    fn pause(&self, poller: &Poller) -> io::Result<()> {
        poller.remove(&self.source)?;
        if let Sink::Stream(fd) = &self.sink {
            poller.add(fd, self.token + 1, Interest::WRITE)?;
        }
        Ok(())
    }

    fn resume(&self, poller: &Poller) -> io::Result<()> {
        if let Sink::Stream(fd) = &self.sink {
            poller.remove(fd)?;
        }
        poller.add(&self.source, self.token, Interest::READ)
    }
}
