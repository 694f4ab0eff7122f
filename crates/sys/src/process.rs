//! Making processes and turning them into programs, for callers that have one thread.
#![allow(
    unsafe_code,
    reason = "clone3(2), execve(2) and friends have no safe wrapper"
)]

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// How [`clone`] makes the child.
#[derive(Debug, Clone, Copy, Default)]
pub struct CloneOptions<'a> {
    /// `CLONE_NEW…` flags.
    pub namespaces: u64,
    /// The child's parent is the caller's parent.
    pub parent_is_ours: bool,
    /// A folder of cgroup v2 into which the child is born.
    pub cgroup: Option<BorrowedFd<'a>>,
}

/// Which of the two processes goes on here.
#[derive(Debug)]
pub enum Cloned {
    /// The child.
    Child,
    /// The caller, with the child's process id and descriptor.
    Parent {
        /// In the caller's namespace.
        pid: i32,
        /// Refers to the child.
        pidfd: OwnedFd,
    },
}

#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// `CLONE_INTO_CGROUP` of `linux/sched.h`.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Makes a child that goes on from here with a copy of the memory.
///
/// # Safety
///
/// The caller has one thread only: the child gets no other, and a lock that another held would stay shut in it.
pub unsafe fn clone(options: CloneOptions<'_>) -> io::Result<Cloned> {
    let mut pidfd: libc::c_int = -1;
    let mut args = CloneArgs {
        flags: options.namespaces | libc::CLONE_PIDFD as u64,
        pidfd: (&raw mut pidfd) as u64,
        exit_signal: libc::SIGCHLD as u64,
        ..CloneArgs::default()
    };
    if options.parent_is_ours {
        args.flags |= libc::CLONE_PARENT as u64;
        // The kernel takes the caller's own signal then, and refuses another.
        args.exit_signal = 0;
    }
    if let Some(cgroup) = options.cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: without CLONE_VM the child runs on a copy of this stack; `args` and `pidfd` outlive the call, and the
    // caller promises to have one thread.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<CloneArgs>()) };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Cloned::Child),
        pid => Ok(Cloned::Parent {
            pid: pid as i32,
            // SAFETY: the kernel stored a new descriptor there that nobody else knows.
            pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) },
        }),
    }
}

/// Ends the process at once: no destructor, no buffer, no handler runs.
pub fn exit_now(status: i32) -> ! {
    // SAFETY: the call does not return and touches no memory.
    unsafe { libc::_exit(status) }
}

/// Replaces the program; returns only on failure.
pub fn exec(path: &CStr, arguments: &[CString], environment: &[CString]) -> io::Error {
    let pointers = |list: &[CString]| -> Vec<*const libc::c_char> {
        list.iter()
            .map(|text| text.as_ptr())
            .chain([std::ptr::null()])
            .collect()
    };
    let (arguments, environment) = (pointers(arguments), pointers(environment));
    // SAFETY: all strings are NUL-terminated, both lists end with a null pointer, and all outlive the call.
    unsafe { libc::execve(path.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
    io::Error::last_os_error()
}

/// Replaces the program by the one that a descriptor refers to; returns only on failure.
pub fn exec_fd(file: BorrowedFd<'_>, arguments: &[CString], environment: &[CString]) -> io::Error {
    let pointers = |list: &[CString]| -> Vec<*const libc::c_char> {
        list.iter()
            .map(|text| text.as_ptr())
            .chain([std::ptr::null()])
            .collect()
    };
    let (arguments, environment) = (pointers(arguments), pointers(environment));
    // SAFETY: as in `exec`; the empty path is NUL-terminated.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            file.as_raw_fd(),
            c"".as_ptr(),
            arguments.as_ptr(),
            environment.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    io::Error::last_os_error()
}

/// Marks all descriptors from `first` on to be closed by `execve`.
pub fn close_on_exec_from(first: u32) -> io::Result<()> {
    // SAFETY: the call takes integers only, and marking closes nothing here.
    let result = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            first,
            u32::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Closes all descriptors from `first` on except those in `keep`, which is sorted.
///
/// # Safety
///
/// No value that owns one of the closed descriptors is used or dropped any more.
pub unsafe fn close_except(first: i32, keep: &[i32]) -> io::Result<()> {
    let mut from = first.cast_unsigned();
    for number in keep.iter().map(|number| number.cast_unsigned()) {
        if number > from {
            // SAFETY: the caller promises that nobody uses these.
            unsafe { close_between(from, number - 1) }?;
        }
        from = from.max(number + 1);
    }
    // SAFETY: as above.
    unsafe { close_between(from, u32::MAX) }
}

unsafe fn close_between(first: u32, last: u32) -> io::Result<()> {
    // SAFETY: the call takes integers only; what closing means to others the caller answers for.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Makes `number` refer to what `fd` refers to and keeps it over `execve`.
///
/// # Safety
///
/// Nothing in the process owns `number`.
pub unsafe fn duplicate_onto(fd: BorrowedFd<'_>, number: i32) -> io::Result<()> {
    // SAFETY: the caller promises that the number is free.
    let result = if fd.as_raw_fd() == number {
        // SAFETY: integers only.
        unsafe { libc::fcntl(number, libc::F_SETFD, 0) }
    } else {
        // SAFETY: integers only.
        unsafe { libc::dup2(fd.as_raw_fd(), number) }
    };
    if result >= 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Gives every signal its default action and unblocks all: a program must not inherit ours.
pub fn reset_signals() -> io::Result<()> {
    // The C library refuses to touch two numbers that it keeps for itself; ignored ones are inherited all the same.
    let default = [0u64; 4];
    for number in 1..=64 {
        // SAFETY: an all-zero record is the default action, which runs no code of ours; it is as long as the largest
        // form of the kernel's record, and outlives the call. Numbers that can't be changed are refused.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                number,
                default.as_ptr(),
                std::ptr::null_mut::<u64>(),
                size_of::<u64>(),
            )
        };
    }
    // SAFETY: the set is initialised before it is read, and outlives the call.
    let result = unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut())
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Joins a new session keyring of the given name.
pub fn join_session_keyring(name: &CStr) -> io::Result<i64> {
    /// `KEYCTL_JOIN_SESSION_KEYRING` of `linux/keyctl.h`.
    const JOIN_SESSION_KEYRING: u64 = 1;
    // SAFETY: the name is NUL-terminated and outlives the call.
    let serial = unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, name.as_ptr()) };
    if serial >= 0 {
        Ok(serial)
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Adds bits to the permissions of a key of the caller.
pub fn allow_key(serial: i64, add: u32) -> io::Result<()> {
    /// `KEYCTL_SETPERM` of `linux/keyctl.h`.
    const SETPERM: u64 = 5;
    /// `KEY_POS_ALL` of `linux/key.h`: what the possessor may.
    const POSSESSOR_ALL: u32 = 0x3f00_0000;
    // SAFETY: integers only.
    let result = unsafe { libc::syscall(libc::SYS_keyctl, SETPERM, serial, POSSESSOR_ALL | add) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Loads a system call filter, given as instructions of 8 bytes each.
pub fn load_filter(program: &[u8], flags: u32) -> io::Result<()> {
    let count = u16::try_from(program.len() / 8)
        .map_err(|_| io::Error::other("the system call filter is too long"))?;
    // The kernel reads 32-bit words: the bytes must be aligned so.
    let words: Vec<u64> = program
        .chunks_exact(8)
        .map(|chunk| u64::from_ne_bytes(chunk.try_into().expect("chunks are of 8 bytes")))
        .collect();
    let filter = libc::sock_fprog {
        len: count,
        filter: words.as_ptr().cast_mut().cast(),
    };
    /// `SECCOMP_SET_MODE_FILTER` of `linux/seccomp.h`.
    const SET_MODE_FILTER: u32 = 1;
    // SAFETY: `filter` points to `count` instructions of 8 bytes which outlive the call.
    let result =
        unsafe { libc::syscall(libc::SYS_seccomp, SET_MODE_FILTER, flags, &raw const filter) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Sets the execution domain.
pub fn set_personality(persona: u32) -> io::Result<()> {
    // SAFETY: integers only.
    let result = unsafe { libc::personality(libc::c_ulong::from(persona)) };
    if result >= 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Brings the loopback interface of the network namespace up.
pub fn raise_loopback() -> io::Result<()> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
    let socket = socket_with(
        AddressFamily::INET,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    // SAFETY: an all-zero record is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (target, byte) in request.ifr_name.iter_mut().zip(b"lo") {
        *target = *byte as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: the request outlives the call and is of the kind that SIOCSIFFLAGS reads.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Sets the NIS domain name of the UTS namespace.
pub fn set_domain_name(name: &str) -> io::Result<()> {
    // SAFETY: the pointer and the length describe the same bytes.
    let result = unsafe { libc::setdomainname(name.as_ptr().cast(), name.len()) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Blocks all signals and answers a descriptor that tells of them instead.
pub fn signal_descriptor() -> io::Result<OwnedFd> {
    // SAFETY: the set is initialised before it is read, and outlives both calls.
    let fd = unsafe {
        let mut set = std::mem::zeroed();
        libc::sigfillset(&raw mut set);
        libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
        libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK)
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel made the descriptor for us just now.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The next signal of [`signal_descriptor`], if one is waiting.
pub fn next_signal(descriptor: BorrowedFd<'_>) -> Option<i32> {
    let mut buffer = [0; size_of::<libc::signalfd_siginfo>()];
    match rustix::io::read(descriptor, &mut buffer) {
        Ok(length) if length == buffer.len() => {
            let number = buffer
                .first_chunk()
                .map(|bytes| u32::from_ne_bytes(*bytes))?;
            i32::try_from(number).ok()
        }
        _ => None,
    }
}
