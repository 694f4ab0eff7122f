//! A process that was set up, the gate at which it waits, and how both reach the shim.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use model::{ErrorKind, Kinded, chain};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recv, recvmsg, send, sendmsg,
    socketpair,
};

use crate::error::{Error, Result};

/// Longest error text that crosses a channel, in bytes; the rest is cut.
const MESSAGE_BYTES_MAX: usize = 8192;

/// Opens the gate.
pub(crate) const OPEN: u8 = b'S';
/// First byte of a failure: kind and text follow.
const FAILED: u8 = b'E';
/// First byte of a process: pid and the presence of console and gate follow.
const CREATED: u8 = b'C';

/// A process that was set up in a container.
#[derive(Debug)]
pub struct Created {
    /// Its process id in the caller's namespace.
    pub pid: i32,
    /// Refers to the process beyond its death.
    pub pidfd: OwnedFd,
    /// The master of its pseudo terminal.
    pub console: Option<OwnedFd>,
    /// The gate at which it waits; `None` for [`crate::GateKind::Fifo`].
    pub gate: Option<Gate>,
}

/// The gate at which a process waits just before `execve`.
///
/// Dropping it unopened ends the process with status 1.
#[derive(Debug)]
pub struct Gate {
    socket: OwnedFd,
}

/// What is known after the gate was opened.
#[derive(Debug)]
pub enum Progress {
    /// Nothing yet; the descriptor becomes readable when there is.
    Pending,
    /// The user's program runs.
    Running,
    /// `execve` or a hook before it failed; the process ends.
    Failed(Error),
}

impl Gate {
    pub(crate) fn new(socket: OwnedFd) -> Self {
        Self { socket }
    }

    /// Lets the process go on to `execve`. Never blocks.
    pub fn open(&self) -> io::Result<()> {
        send(&self.socket, &[OPEN], SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// Asks what became of the process. Never blocks.
    pub fn progress(&self) -> Progress {
        self.receive(RecvFlags::DONTWAIT)
    }

    /// Waits until the user's program runs.
    pub fn wait(&self) -> Result<()> {
        match self.receive(RecvFlags::empty()) {
            Progress::Failed(error) => Err(error),
            Progress::Pending | Progress::Running => Ok(()),
        }
    }

    fn receive(&self, flags: RecvFlags) -> Progress {
        let mut buffer = [0; MESSAGE_BYTES_MAX + 2];
        match rustix::io::retry_on_intr(|| recv(&self.socket, &mut buffer, flags)) {
            Ok((0, _)) | Err(rustix::io::Errno::CONNRESET) => Progress::Running,
            Ok((length, _)) => Progress::Failed(decode_failure(&buffer[..length])),
            Err(rustix::io::Errno::AGAIN) => Progress::Pending,
            Err(error) => Progress::Failed(Error::step("ask whether the process runs", error)),
        }
    }
}

impl AsFd for Gate {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// A pair of sockets that keep messages apart, closed on exec.
pub fn channel() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?)
}

/// Sends the outcome of [`crate::create`] or [`crate::Container::exec`] to the process that forked the worker.
pub fn send_outcome(socket: BorrowedFd<'_>, outcome: &Result<Created>) -> io::Result<()> {
    match outcome {
        Err(error) => send_failure(socket, error),
        Ok(created) => {
            let mut bytes = [CREATED, 0, 0, 0, 0, 0, 0];
            bytes[1..5].copy_from_slice(&created.pid.to_ne_bytes());
            bytes[5] = u8::from(created.console.is_some());
            bytes[6] = u8::from(created.gate.is_some());
            let mut fds = vec![created.pidfd.as_fd()];
            fds.extend(created.console.as_ref().map(AsFd::as_fd));
            fds.extend(created.gate.as_ref().map(AsFd::as_fd));
            send_with(socket, &bytes, &fds)
        }
    }
}

/// Receives what [`send_outcome`] sent. `None` means that the socket is non-blocking and nothing has come yet.
pub fn receive_outcome(socket: BorrowedFd<'_>) -> Option<Result<Created>> {
    let mut buffer = [0; MESSAGE_BYTES_MAX + 2];
    let received = receive_with(socket, &mut buffer);
    Some(match received {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
        Err(error) => Err(Error::step("receive the outcome of the worker", error)),
        Ok((0, _)) => Err(Error::Reported {
            kind: ErrorKind::Internal,
            message: "the worker ended without an answer".to_owned(),
        }),
        Ok((length, fds)) if buffer[0] == CREATED && length == 7 => created(&buffer, fds),
        Ok((length, _)) => Err(decode_failure(&buffer[..length])),
    })
}

fn created(bytes: &[u8], fds: Vec<OwnedFd>) -> Result<Created> {
    let mut fds = fds.into_iter();
    let mut next = |wanted: bool| if wanted { fds.next() } else { None };
    let lost = || Error::Reported {
        kind: ErrorKind::Internal,
        message: "the worker's answer lacks a descriptor".to_owned(),
    };
    let mut pid = [0; 4];
    pid.copy_from_slice(&bytes[1..5]);
    Ok(Created {
        pid: i32::from_ne_bytes(pid),
        pidfd: next(true).ok_or_else(lost)?,
        console: next(bytes[5] == 1),
        gate: next(bytes[6] == 1).map(Gate::new),
    })
}

/// Sends bytes and descriptors as one message.
pub(crate) fn send_with(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    fds: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::other("too many descriptors for one message"));
    }
    sendmsg(
        socket,
        &[io::IoSlice::new(bytes)],
        &mut control,
        SendFlags::NOSIGNAL,
    )?;
    Ok(())
}

/// Receives one message and its descriptors, closed on exec.
pub(crate) fn receive_with(
    socket: BorrowedFd<'_>,
    bytes: &mut [u8],
) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let message = rustix::io::retry_on_intr(|| {
        recvmsg(
            socket,
            &mut [io::IoSliceMut::new(bytes)],
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        )
    })?;
    let mut fds = Vec::new();
    for part in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = part {
            fds.extend(rights);
        }
    }
    Ok((message.bytes, fds))
}

/// Sends an error as kind and text.
pub(crate) fn send_failure(socket: BorrowedFd<'_>, error: &Error) -> io::Result<()> {
    let text = chain(error);
    let mut bytes = vec![FAILED, kind_byte(error.kind())];
    bytes.extend_from_slice(&text.as_bytes()[..text.len().min(MESSAGE_BYTES_MAX)]);
    send_with(socket, &bytes, &[])
}

/// Reads what [`send_failure`] sent.
pub(crate) fn decode_failure(bytes: &[u8]) -> Error {
    match bytes {
        [FAILED, kind, text @ ..] => Error::Reported {
            kind: byte_kind(*kind),
            message: String::from_utf8_lossy(text).into_owned(),
        },
        _ => Error::Reported {
            kind: ErrorKind::Internal,
            message: "the process in the container sent something unknown".to_owned(),
        },
    }
}

const KINDS: [ErrorKind; 10] = [
    ErrorKind::Unknown,
    ErrorKind::InvalidArgument,
    ErrorKind::NotFound,
    ErrorKind::AlreadyExists,
    ErrorKind::PermissionDenied,
    ErrorKind::FailedPrecondition,
    ErrorKind::Unimplemented,
    ErrorKind::Internal,
    ErrorKind::DeadlineExceeded,
    ErrorKind::ResourceExhausted,
];

fn kind_byte(kind: ErrorKind) -> u8 {
    KINDS.iter().position(|one| *one == kind).unwrap_or(0) as u8
}

fn byte_kind(byte: u8) -> ErrorKind {
    KINDS
        .get(usize::from(byte))
        .copied()
        .unwrap_or(ErrorKind::Unknown)
}
