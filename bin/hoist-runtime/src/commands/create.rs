//! `create` and `run`.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use model::{Clock, SystemClock};
use oci_runtime::spec::Spec;
use oci_runtime::{Container, CreateOptions, Created, GateKind, Stdio};

use super::run::{self, Ending};
use super::{Context, Failure};

/// The first descriptor after the standard streams.
const FIRST_PRESERVED: i32 = 3;

/// Sets a container up; `start` starts it.
pub(super) fn create(context: &Context<'_>) -> Result<u8, Failure> {
    secure()?;
    let (_, created) = build(context, GateKind::Fifo, false)?;
    finish(context, &created)?;
    Ok(0)
}

/// Sets a container up, starts it, and unless detached waits for its end and removes it.
pub(super) fn run(context: &Context<'_>) -> Result<u8, Failure> {
    secure()?;
    let detach = context.parsed.flags.on(&["detach", "d"]);
    let (spec, created) = build(context, GateKind::Socket, !detach)?;
    let container = Container::load(&context.root, context.id()?)?;
    let status = start(context, &container, &created, detach, &spec);
    if !detach && !context.parsed.flags.on(&["keep"]) || status.is_err() {
        container.delete(true)?;
    }
    status
}

fn start(
    context: &Context<'_>,
    container: &Container,
    created: &Created,
    detach: bool,
    spec: &Spec,
) -> Result<u8, Failure> {
    finish(context, created)?;
    run::open(created)?;
    if spec.hooks.is_some() {
        container.started()?;
    }
    if detach {
        return Ok(0);
    }
    Ending::of(created)?.wait()
}

pub(super) fn secure() -> Result<(), Failure> {
    crate::guard::secure()
        .map_err(|error| Failure::Usage(format!("protect the runtime's own file: {error}")))
}

fn build(
    context: &Context<'_>,
    gate: GateKind,
    foreground: bool,
) -> Result<(Spec, Created), Failure> {
    let flags = &context.parsed.flags;
    let bundle = bundle(flags.value(&["bundle", "b"]))?;
    let spec = read_spec(&bundle.join("config.json"))?;
    let terminal = spec
        .process
        .as_ref()
        .is_some_and(|process| process.terminal);
    let stdio = stdio(terminal, flags.value(&["console-socket"]), foreground)?;
    let options = CreateOptions {
        id: context.id()?,
        bundle: &bundle,
        state_root: &context.root,
        rootfs: &[],
        rootfs_in_host: false,
        stdio,
        gate,
        clone_parent: false,
        no_pivot: flags.on(&["no-pivot"]),
        no_new_keyring: flags.on(&["no-new-keyring"]),
        systemd_cgroup: context.parsed.global.on(&["systemd-cgroup"]),
        preserved_fds: preserved(flags.value(&["preserve-fds"]))?,
        created: SystemClock.now(),
    };
    let created = oci_runtime::create(&spec, options)?;
    Ok((spec, created))
}

fn bundle(flag: Option<&str>) -> Result<PathBuf, Failure> {
    let path = Path::new(flag.filter(|path| !path.is_empty()).unwrap_or("."));
    path.canonicalize()
        .map_err(|error| Failure::file("open bundle", path, error))
}

fn read_spec(path: &Path) -> Result<Spec, Failure> {
    let text = std::fs::read(path).map_err(|error| Failure::file("read", path, error))?;
    Spec::from_slice(&text).map_err(|error| {
        Failure::Usage(format!("read {}: {}", path.display(), model::chain(&error)))
    })
}

/// The streams of the process: ours, or a terminal that goes to the console socket.
pub(super) fn stdio(
    terminal: bool,
    socket: Option<&str>,
    foreground: bool,
) -> Result<Stdio, Failure> {
    match (terminal, socket) {
        (true, Some(_)) => Ok(Stdio::Terminal),
        (true, None) if foreground => Ok(Stdio::Terminal),
        (true, None) => Err(Failure::Usage(
            "cannot allocate tty if runc will detach without setting console socket".to_owned(),
        )),
        (false, Some(_)) => Err(Failure::Usage(
            "cannot use console socket if runc will not detach or allocate tty".to_owned(),
        )),
        (false, None) => {
            let copy = |fd: std::os::fd::BorrowedFd<'_>| {
                rustix::io::fcntl_dupfd_cloexec(fd, FIRST_PRESERVED)
                    .map_err(|error| Failure::Usage(format!("copy a standard stream: {error}")))
            };
            Ok(Stdio::Fds([
                copy(rustix::stdio::stdin())?,
                copy(rustix::stdio::stdout())?,
                copy(rustix::stdio::stderr())?,
            ]))
        }
    }
}

/// The descriptors that the caller wants the process to have.
pub(super) fn preserved(flag: Option<&str>) -> Result<Vec<OwnedFd>, Failure> {
    let Some(flag) = flag else {
        return Ok(Vec::new());
    };
    let count: i32 = flag
        .parse()
        .map_err(|_| Failure::Usage(format!("--preserve-fds: {flag:?} is no number")))?;
    (FIRST_PRESERVED..FIRST_PRESERVED + count)
        .map(|number| {
            std::fs::File::open(format!("/dev/fd/{number}"))
                .map(OwnedFd::from)
                .map_err(|error| {
                    Failure::Usage(format!("--preserve-fds: descriptor {number}: {error}"))
                })
        })
        .collect()
}

/// Writes the pid file and hands the terminal over.
pub(super) fn finish(context: &Context<'_>, created: &Created) -> Result<(), Failure> {
    let flags = &context.parsed.flags;
    if let (Some(path), Some(console)) = (flags.value(&["console-socket"]), &created.console) {
        let path = Path::new(path);
        let socket = std::os::unix::net::UnixStream::connect(path)
            .map_err(|error| Failure::file("connect to", path, error))?;
        sys::fdpass::send(&socket, b"/dev/ptmx", &[console.as_fd()])
            .map_err(|error| Failure::file("send the terminal to", path, error))?;
    }
    if let Some(path) = flags.value(&["pid-file"]) {
        let path = Path::new(path);
        std::fs::write(path, created.pid.to_string())
            .map_err(|error| Failure::file("write", path, error))?;
    }
    Ok(())
}
