//! Opening the gate, and waiting in the foreground: signals go to the process, its terminal to ours.

use std::os::fd::{AsFd, OwnedFd};

use oci_runtime::{Created, Gate};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{WaitId, WaitIdOptions, waitid};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};

use super::Failure;

/// Bytes copied at once between terminals.
const CHUNK_BYTES: usize = 16 * 1024;

const SIGCHLD: i32 = 17;
const SIGURG: i32 = 23;
const SIGWINCH: i32 = 28;

/// Lets the process go on to the user's program.
pub(super) fn open(created: &Created) -> Result<(), Failure> {
    if let Some(gate) = &created.gate {
        gate.open()
            .map_err(|error| Failure::Usage(format!("start the process: {error}")))?;
        Gate::wait(gate)?;
    }
    Ok(())
}

/// The end of a process, waited for in the foreground.
pub(super) struct Ending<'a> {
    created: &'a Created,
    signals: OwnedFd,
    /// What our own terminal was like.
    before: Option<Termios>,
}

fn failed(error: impl Into<std::io::Error>) -> Failure {
    Failure::Usage(format!("wait for the process: {}", error.into()))
}

impl<'a> Ending<'a> {
    pub(super) fn of(created: &'a Created) -> Result<Self, Failure> {
        let mut ending = Self {
            created,
            signals: sys::process::signal_descriptor().map_err(failed)?,
            before: None,
        };
        if let (Some(console), Ok(before)) = (&created.console, tcgetattr(rustix::stdio::stdin())) {
            let mut raw = before.clone();
            raw.make_raw();
            tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &raw).map_err(failed)?;
            ending.before = Some(before);
            resize(console);
        }
        Ok(ending)
    }

    /// Waits; the answer is the status as a shell tells it.
    pub(super) fn wait(self) -> Result<u8, Failure> {
        let mut input = self.created.console.is_some();
        loop {
            let mut fds = vec![
                PollFd::from_borrowed_fd(self.created.pidfd.as_fd(), PollFlags::IN),
                PollFd::from_borrowed_fd(self.signals.as_fd(), PollFlags::IN),
            ];
            if let Some(console) = &self.created.console {
                fds.push(PollFd::from_borrowed_fd(console.as_fd(), PollFlags::IN));
                if input {
                    fds.push(PollFd::from_borrowed_fd(
                        rustix::stdio::stdin(),
                        PollFlags::IN,
                    ));
                }
            }
            match poll(&mut fds, None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(failed(error)),
            }
            let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
            self.forward_signals();
            if let Some(console) = &self.created.console {
                if ready[2] {
                    copy(console, rustix::stdio::stdout());
                }
                if input && ready[3] {
                    input = copy(rustix::stdio::stdin(), console);
                }
            }
            if ready[0] {
                return self.reap();
            }
        }
    }

    fn forward_signals(&self) {
        while let Some(number) = sys::process::next_signal(self.signals.as_fd()) {
            match (number, &self.created.console) {
                (SIGCHLD | SIGURG, _) => {}
                (SIGWINCH, Some(console)) => resize(console),
                // It may have ended just now.
                _ => drop(sys::pidfd::send_signal(self.created.pidfd.as_fd(), number)),
            }
        }
    }

    fn reap(&self) -> Result<u8, Failure> {
        if let Some(console) = &self.created.console {
            while copy(console, rustix::stdio::stdout()) {}
        }
        let pidfd = self.created.pidfd.as_fd();
        let status = waitid(WaitId::PidFd(pidfd), WaitIdOptions::EXITED)
            .map_err(failed)?
            .ok_or_else(|| Failure::Usage("wait for the process: it is gone".to_owned()))?;
        let code = status
            .exit_status()
            .or_else(|| status.terminating_signal().map(|signal| 128 + signal));
        Ok(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(255))
    }
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            let _ignored = tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, before);
        }
    }
}

fn resize(console: &OwnedFd) {
    if let Ok(size) = tcgetwinsize(rustix::stdio::stdin()) {
        let _ignored = tcsetwinsize(console, size);
    }
}

/// Copies what is there; false at the end.
fn copy(from: impl AsFd, to: impl AsFd) -> bool {
    let mut buffer = [0; CHUNK_BYTES];
    // The master of a terminal whose other end is closed answers EIO.
    let Ok(length) = rustix::io::read(&from, &mut buffer) else {
        return false;
    };
    let mut rest = &buffer[..length];
    while !rest.is_empty() {
        match rustix::io::write(&to, rest) {
            Ok(written) => rest = &rest[written..],
            Err(_) => return false,
        }
    }
    length > 0
}
