//! The daemon's side: start a worker for each layer, watch it, do for it what it has no right to.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use model::Digest;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use sys::beneath::open_beneath;
use sys::fdpass;
use sys::sealed::SealedImage;
use sys::spawn::{self, Helper};

use crate::apply::{Deletions, Progress};
use crate::limits::{Limits, PARENTS_MAX};
use crate::wire::{MESSAGE_BYTES_MAX, Message, Start};
use crate::{Error, Target};

/// Time without progress after which a worker is killed, unless set otherwise.
const STALL_DEFAULT: Duration = Duration::from_secs(120);
/// Time a worker has to end after its answer.
const END_TIME: Duration = Duration::from_secs(5);

/// How durable a layer is when `apply` answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// Not: whoever commits the snapshot makes it durable.
    #[default]
    None,
    /// On the disk: write-back starts while the layer is read, and the target's file system is synced at the end.
    ///
    /// `syncfs` and not `fsync` for each file: on a journal the latter costs a flush of the disk for each file of the
    /// layer. The price is that it waits for what others wrote to that file system.
    Sync,
}

/// One layer to apply.
#[expect(
    missing_debug_implementations,
    reason = "holds a closure, which has nothing to show"
)]
pub struct ApplyRequest<'a> {
    /// The layer as it was downloaded: a file, pipe or socket, read to its end.
    pub layer: OwnedFd,
    /// Where it goes.
    pub target: Target,
    /// What it may cost.
    pub limits: Limits,
    /// When it is on the disk.
    pub durability: Durability,
    /// Leave out device nodes, for a daemon inside a user namespace, which can't make them.
    pub skip_devices: bool,
    /// Hears of progress, from the calling thread.
    pub progress: Option<&'a mut dyn FnMut(Progress)>,
}

/// An applied layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// Digest of the tar stream, to be compared with the image's configuration.
    pub diff_id: Digest,
    /// Bytes of the tar stream.
    pub tar_size: u64,
    /// SHA-256 of the bytes that came in, to be compared with the descriptor.
    pub layer_digest: Digest,
    /// Bytes that came in.
    pub layer_size: u64,
    /// Entries in the archive.
    pub entries: u64,
    /// Attributes and devices that were left out.
    pub skipped: u64,
    /// The version of Landlock that held the worker; `None` where the kernel has none.
    pub landlock: Option<u32>,
}

/// Starts workers from one sealed copy of their program.
#[derive(Debug, Clone)]
pub struct Unpacker {
    image: Arc<SealedImage>,
    stall: Duration,
}

/// The workers of one image: canceled together, each layer in a process of its own.
#[derive(Debug, Clone)]
pub struct Session {
    image: Arc<SealedImage>,
    stall: Duration,
    state: Arc<Mutex<State>>,
}

/// Ends a session from another thread.
#[derive(Debug, Clone)]
pub struct Canceller {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    canceled: bool,
    next: u64,
    running: HashMap<u64, OwnedFd>,
}

impl Unpacker {
    /// Runs workers from an image that is already sealed.
    pub fn new(image: SealedImage) -> Self {
        Self {
            image: Arc::new(image),
            stall: STALL_DEFAULT,
        }
    }

    /// Seals the program at `path` and runs workers from the copy.
    ///
    /// # Errors
    /// [`Error::Io`] when the program can't be read or sealed.
    pub fn from_path(path: &Path) -> Result<Self, Error> {
        SealedImage::from_path(path)
            .map(Self::new)
            .map_err(Error::io("seal", path.as_os_str().as_encoded_bytes()))
    }

    /// Sets the time without progress after which a worker is killed.
    #[must_use]
    pub fn stall_timeout(mut self, stall: Duration) -> Self {
        self.stall = stall;
        self
    }

    /// Begins a session, most often for one image.
    ///
    /// # Errors
    /// None today; starting resources for a session may fail.
    pub fn session(&self) -> Result<Session, Error> {
        Ok(Session {
            image: self.image.clone(),
            stall: self.stall,
            state: Arc::default(),
        })
    }
}

impl Canceller {
    /// Kills the session's workers; their layers and all later ones answer [`Error::Canceled`].
    pub fn cancel(&self) {
        let mut state = lock(&self.state);
        state.canceled = true;
        for pidfd in state.running.values() {
            // A worker that can't be signaled has ended.
            drop(spawn::kill(pidfd.as_fd()));
        }
    }
}

fn lock(state: &Mutex<State>) -> std::sync::MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes a worker out of the list of those that `cancel` kills.
struct Registration<'a> {
    state: &'a Mutex<State>,
    id: u64,
}

impl Drop for Registration<'_> {
    fn drop(&mut self) {
        lock(self.state).running.remove(&self.id);
    }
}

impl Session {
    /// A handle that can cancel this session.
    pub fn canceller(&self) -> Canceller {
        Canceller {
            state: self.state.clone(),
        }
    }

    /// Applies one layer and waits for it; several threads may do so at once.
    ///
    /// # Errors
    /// What the worker told ([`Error::Worker`]), or how it ended. Whatever the answer, the worker has ended and the
    /// target may hold a part of the layer.
    pub fn apply(&self, request: ApplyRequest<'_>) -> Result<Applied, Error> {
        if request.target.parents().len() > PARENTS_MAX {
            return Err(Error::Limit {
                what: "layers below",
                limit: PARENTS_MAX as u64,
            });
        }
        let failed = || Error::io("start", b"unpack worker");
        let (ours, theirs) = fdpass::pair().map_err(failed())?;
        let mut helper = spawn::spawn(
            self.image.as_fd(),
            OsStr::new("hoist-unpack"),
            &[theirs.as_fd()],
        )
        .map_err(failed())?;
        drop(theirs);
        let registration = self.register(&helper)?;
        let outcome = Conversation {
            socket: &ours,
            stall: self.stall,
        }
        .hold(request);
        let outcome = match outcome {
            Ok(done) => {
                helper.wait_or_kill(END_TIME).map_err(failed())?;
                Ok(done)
            }
            Err(error) => Err(buried(&mut helper, error)?),
        };
        drop(registration);
        if lock(&self.state).canceled {
            return Err(Error::Canceled);
        }
        let (applied, target, durability) = outcome?;
        if durability == Durability::Sync {
            rustix::fs::syncfs(target.root())
                .map_err(io::Error::from)
                .map_err(Error::io("sync file system of", b"target"))?;
        }
        Ok(applied)
    }

    fn register(&self, helper: &Helper) -> Result<Registration<'_>, Error> {
        let pidfd = helper.pidfd().try_clone_to_owned();
        let pidfd = pidfd.map_err(Error::io("watch", b"unpack worker"))?;
        let mut state = lock(&self.state);
        if state.canceled {
            return Err(Error::Canceled);
        }
        let id = state.next;
        state.next += 1;
        state.running.insert(id, pidfd);
        Ok(Registration {
            state: &self.state,
            id,
        })
    }
}

/// Ends the worker after a failed conversation; a closed socket means that its own end is the story.
fn buried(helper: &mut Helper, error: Error) -> Result<Error, Error> {
    let failed = || Error::io("end", b"unpack worker");
    if !matches!(error, Error::Died { .. }) {
        helper.kill().map_err(failed())?;
        helper.wait().map_err(failed())?;
        return Ok(error);
    }
    let status = helper.wait_or_kill(END_TIME).map_err(failed())?;
    Ok(Error::Died {
        status: spawn::describe(status),
        output: helper.stderr(),
    })
}

struct Conversation<'a> {
    socket: &'a OwnedFd,
    stall: Duration,
}

impl Conversation<'_> {
    fn hold(&self, request: ApplyRequest<'_>) -> Result<(Applied, Target, Durability), Error> {
        self.begin(&request)?;
        let ApplyRequest {
            layer,
            target,
            durability,
            mut progress,
            ..
        } = request;
        // The worker has its own: ours would keep a pipe open.
        drop(layer);
        let mut buffer = vec![0u8; MESSAGE_BYTES_MAX];
        loop {
            match self.receive(&mut buffer)? {
                Message::Progress(now) => {
                    if let Some(progress) = &mut progress {
                        progress(now);
                    }
                }
                Message::Opaque(path) => {
                    let errno = mark_opaque(&target, &path)
                        .err()
                        .map_or(0, Errno::raw_os_error);
                    self.send(&Message::Marked(errno).encode(), &[])?;
                }
                Message::Failed(kind, message) => return Err(Error::Worker { kind, message }),
                Message::Done(done) => {
                    let applied = Applied {
                        diff_id: Digest::from_sha256(done.diff_id),
                        tar_size: done.tar_size,
                        layer_digest: Digest::from_sha256(done.layer_digest),
                        layer_size: done.layer_size,
                        entries: done.entries,
                        skipped: done.skipped,
                        landlock: (done.landlock > 0).then_some(done.landlock),
                    };
                    return Ok((applied, target, durability));
                }
                Message::Marked(_) => {
                    return Err(Error::Protocol {
                        reason: "worker sent an answer",
                    });
                }
            }
        }
    }

    fn begin(&self, request: &ApplyRequest<'_>) -> Result<(), Error> {
        let parents = request.target.parents();
        let start = Start {
            limits: request.limits,
            deletions: request.target.deletions(),
            skip_devices: request.skip_devices,
            write_back: request.durability == Durability::Sync,
            parents: parents.len() as u32,
        };
        let fds = [request.layer.as_fd(), request.target.root()];
        self.send(&start.encode(), &fds)?;
        for some in parents.chunks(fdpass::FDS_MAX) {
            let fds: Vec<BorrowedFd<'_>> = some.iter().map(AsFd::as_fd).collect();
            self.send(&[0], &fds)?;
        }
        Ok(())
    }

    fn send(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Result<(), Error> {
        fdpass::send(self.socket, bytes, fds).map_err(|error| match error.kind() {
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => died(),
            _ => Error::io("send to", b"unpack worker")(error),
        })
    }

    fn receive(&self, buffer: &mut [u8]) -> Result<Message, Error> {
        let failed = || Error::io("receive from", b"unpack worker");
        let timeout = Timespec::try_from(self.stall).ok();
        loop {
            match poll(
                &mut [PollFd::new(self.socket, PollFlags::IN)],
                timeout.as_ref(),
            ) {
                Err(Errno::INTR) => {}
                Ok(0) => {
                    return Err(Error::Stalled {
                        seconds: self.stall.as_secs(),
                    });
                }
                other => {
                    other.map_err(io::Error::from).map_err(failed())?;
                    break;
                }
            }
        }
        match fdpass::receive(self.socket, buffer) {
            Ok((0, _)) => Err(died()),
            Ok((length, _)) => Message::decode(&buffer[..length]),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Err(died()),
            Err(error) => Err(failed()(error)),
        }
    }
}

fn died() -> Error {
    Error::Died {
        status: String::new(),
        output: String::new(),
    }
}

/// Sets what needs CAP_SYS_ADMIN. The worker is not trusted: the path is resolved anew below the target, without links.
fn mark_opaque(target: &Target, path: &[u8]) -> Result<(), Errno> {
    if target.deletions() != Deletions::Overlay {
        return Err(Errno::PERM);
    }
    let path = if path.is_empty() {
        b".".as_slice()
    } else {
        path
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let errno = |error: io::Error| Errno::from_io_error(&error).unwrap_or(Errno::IO);
    let folder = open_beneath(target.root(), path, flags, Mode::empty()).map_err(errno)?;
    sys::xattr::set(&folder, b"trusted.overlay.opaque", b"y").map_err(errno)
}
