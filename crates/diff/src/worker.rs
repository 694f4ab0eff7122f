//! The worker's side: give up rights, apply one layer, answer, end.
//!
//! One process serves one layer, so Landlock can name exactly that layer's folders and nothing of one layer reaches the
//! next. Before the first byte of the layer is read the worker has:
//!
//! * mount, IPC and host-name namespaces of its own and an empty read-only root: no path leads anywhere,
//! * Landlock: filling the target and reading the layers below, by descriptor; no TCP, no signals outward,
//! * the capabilities CHOWN, FOWNER, FSETID, DAC_OVERRIDE, MKNOD and SETFCAP only, and `no_new_privs`,
//! * a seccomp list without `socket`, `execve`, `clone`, `mount`, `ptrace`, `ioctl` or `fchmodat`,
//! * limits on memory and descriptors, umask 0, no environment, no descriptor but those it was given.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use model::Kinded;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::thread::CapabilitySet;
use sys::landlock::Access;
use sys::{fdpass, sandbox};

use crate::Error;
use crate::apply::{self, Folders, Hooks, Options, Progress};
use crate::limits::PARENTS_MAX;
use crate::wire::{Done, MESSAGE_BYTES_MAX, Message, Start};

/// The descriptor of the socket to the daemon.
pub const SOCKET: i32 = 3;
/// Address space, in bytes: a zstd window of 128 MiB, its buffers, and what is remembered of millions of entries.
const ADDRESS_BYTES_MAX: u64 = 512 << 20;
/// Open descriptors: the layers below, the folders held open, and some.
const FILES_MAX: u64 = 1024;

/// System calls the worker makes once it is isolated.
const CALLS: &[libc::c_long] = &[
    libc::SYS_read,
    libc::SYS_pwrite64,
    libc::SYS_write,
    libc::SYS_sendmsg,
    libc::SYS_recvmsg,
    libc::SYS_ppoll,
    libc::SYS_close,
    libc::SYS_fcntl,
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_getdents64,
    libc::SYS_lseek,
    libc::SYS_mkdirat,
    libc::SYS_mknodat,
    libc::SYS_symlinkat,
    libc::SYS_linkat,
    libc::SYS_unlinkat,
    libc::SYS_renameat2,
    libc::SYS_readlinkat,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_fchmod,
    libc::SYS_utimensat,
    libc::SYS_ftruncate,
    libc::SYS_fsetxattr,
    libc::SYS_lsetxattr,
    libc::SYS_fgetxattr,
    libc::SYS_flistxattr,
    libc::SYS_fchdir,
    libc::SYS_sync_file_range,
    libc::SYS_brk,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_getrandom,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_tgkill,
    libc::SYS_sigaltstack,
    libc::SYS_exit_group,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
];

/// A layer with its folders, as handed over.
struct Job {
    start: Start,
    layer: OwnedFd,
    root: OwnedFd,
    parents: Vec<OwnedFd>,
}

/// Serves one layer over `socket`; answers the exit status. The process is isolated afterwards: let it end.
pub fn serve(socket: &OwnedFd) -> u8 {
    let outcome = receive(socket).and_then(|job| run(socket, job));
    let (message, status) = match outcome {
        Ok(done) => (Message::Done(Box::new(done)), 0),
        Err(error) => (Message::Failed(error.kind(), model::chain(&error)), 1),
    };
    match fdpass::send(socket, &message.encode(), &[]) {
        Ok(()) => status,
        // Nobody is left to tell.
        Err(_) => 2,
    }
}

fn receive(socket: &OwnedFd) -> Result<Job, Error> {
    let failed = || Error::io("receive from", b"daemon");
    let mut buffer = vec![0u8; MESSAGE_BYTES_MAX];
    let (length, mut fds) = fdpass::receive(socket, &mut buffer).map_err(failed())?;
    let start = Start::decode(&buffer[..length])?;
    let (Some(root), Some(layer), None) = (fds.pop(), fds.pop(), fds.pop()) else {
        return Err(Error::Protocol {
            reason: "descriptors missing",
        });
    };
    let wanted = start.parents as usize;
    if wanted > PARENTS_MAX {
        return Err(Error::Limit {
            what: "layers below",
            limit: PARENTS_MAX as u64,
        });
    }
    let mut parents = Vec::with_capacity(wanted);
    while parents.len() < wanted {
        let (_, more) = fdpass::receive(socket, &mut buffer).map_err(failed())?;
        if more.is_empty() {
            return Err(Error::Protocol {
                reason: "descriptors missing",
            });
        }
        parents.extend(more);
    }
    Ok(Job {
        start,
        layer,
        root,
        parents,
    })
}

fn run(socket: &OwnedFd, job: Job) -> Result<Done, Error> {
    let landlock = isolate(&job)?;
    let folders = Folders {
        root: job.root,
        parents: job.parents,
        deletions: job.start.deletions,
    };
    let options = Options {
        skip_devices: job.start.skip_devices,
        write_back: job.start.write_back,
    };
    let hooks = Hooks {
        opaque: &mut |path| ask_opaque(socket, path),
        progress: &mut |now| tell(socket, now),
    };
    let source = Source { fd: job.layer };
    let outcome = apply::apply(source, job.start.limits, folders, options, hooks)?;
    let totals = outcome.totals;
    Ok(Done {
        diff_id: bytes(&totals.diff_id),
        tar_size: totals.tar_size,
        layer_digest: bytes(&totals.layer_digest),
        layer_size: totals.layer_size,
        entries: outcome.entries,
        skipped: outcome.skipped,
        landlock: landlock.unwrap_or(0),
    })
}

fn bytes(digest: &model::Digest) -> [u8; 32] {
    let mut bytes = [0; 32];
    for (byte, pair) in bytes
        .iter_mut()
        .zip(digest.hex().as_bytes().chunks_exact(2))
    {
        let nibble = |digit: u8| (digit as char).to_digit(16).unwrap_or(0) as u8;
        *byte = nibble(pair[0]) << 4 | nibble(pair[1]);
    }
    bytes
}

fn isolate(job: &Job) -> Result<Option<u32>, Error> {
    let step = |step| move |source| Error::Sandbox { step, source };
    rustix::process::umask(rustix::fs::Mode::empty());
    sandbox::namespaces().map_err(step("namespaces"))?;
    sandbox::empty_root().map_err(step("empty root"))?;
    sandbox::limits(ADDRESS_BYTES_MAX, FILES_MAX).map_err(step("limits"))?;
    sandbox::no_new_privileges().map_err(step("no new privileges"))?;
    let mut trees = vec![(job.root.as_fd(), Access::Fill)];
    trees.extend(job.parents.iter().map(|fd| (fd.as_fd(), Access::Read)));
    let landlock = sys::landlock::restrict(&trees).map_err(step("landlock"))?;
    sandbox::keep_capabilities(
        CapabilitySet::CHOWN
            | CapabilitySet::FOWNER
            | CapabilitySet::FSETID
            | CapabilitySet::DAC_OVERRIDE
            | CapabilitySet::MKNOD
            | CapabilitySet::SETFCAP,
    )
    .map_err(step("capabilities"))?;
    sandbox::allow_only(CALLS).map_err(step("system calls"))?;
    Ok(landlock)
}

/// Progress is news, not history: when the daemon does not keep up it is left out.
fn tell(socket: &OwnedFd, now: Progress) -> Result<(), Error> {
    fdpass::try_send(socket, &Message::Progress(now).encode())
        .map(drop)
        .map_err(Error::io("tell", b"daemon"))
}

fn ask_opaque(socket: &OwnedFd, path: &[u8]) -> Result<(), Error> {
    let failed = || Error::io("mark opaque", path);
    fdpass::send(socket, &Message::Opaque(path.to_vec()).encode(), &[]).map_err(failed())?;
    let mut buffer = [0u8; 64];
    let (length, _) = fdpass::receive(socket, &mut buffer).map_err(failed())?;
    match Message::decode(&buffer[..length])? {
        Message::Marked(0) => Ok(()),
        Message::Marked(errno) => Err(failed()(io::Error::from_raw_os_error(errno))),
        _ => Err(Error::Protocol {
            reason: "no answer to a mark",
        }),
    }
}

/// The layer, from a file, pipe or socket, blocking or not.
struct Source {
    fd: OwnedFd,
}

impl Read for Source {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match rustix::io::read(&self.fd, &mut *buffer) {
                Err(Errno::AGAIN) => wait_readable(self.fd.as_fd())?,
                Err(Errno::INTR) => {}
                other => return Ok(other?),
            }
        }
    }
}

fn wait_readable(fd: BorrowedFd<'_>) -> io::Result<()> {
    match poll(&mut [PollFd::new(&fd, PollFlags::IN)], None) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_keep_their_bytes() {
        let digest = model::Digest::from_sha256([0xa5; 32]);
        assert_eq!(bytes(&digest), [0xa5; 32]);
        assert!(CALLS.len() <= 50, "{} calls", CALLS.len());
    }
}
