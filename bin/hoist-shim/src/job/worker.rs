//! The inside of a worker: what runs in the forked child.

use super::{ANSWER, ANSWER_BYTES_MAX, TRAITS, Work};
use crate::state::{Process, Traits};
use crate::stdio::LoggerProcess;
use model::ErrorKind;
use oci_runtime::{CreateOptions, Created, ExecOptions, GateKind, Stdio};
use prost::Message;
use proto::containerd::task::v2::{PidsResponse, StatsResponse};
use proto::containerd::v1::types::ProcessInfo;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use spec::runtime::{Resources, Spec};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;
use ttrpc::{Response, Status};

/// Time for a logger to get ready.
const LOGGER_MAX: Duration = Duration::from_secs(30);

/// How a worker tells what it was handed apart.
#[derive(Debug, Clone, Copy)]
pub(super) struct Handed {
    stdio: bool,
    logger: bool,
    byte_means_ready: bool,
}

/// The descriptors for a worker: streams, then the logger's readiness.
pub(super) fn handed(
    process: &Process,
    stdio: Option<[OwnedFd; 3]>,
) -> Result<(Vec<OwnedFd>, Handed), Status> {
    let ready = process
        .logger
        .as_ref()
        .and_then(|logger| logger.ready.as_ref());
    let told = Handed {
        stdio: stdio.is_some(),
        logger: ready.is_some(),
        byte_means_ready: process.logger.as_ref().is_some_and(
            |LoggerProcess {
                 byte_means_ready, ..
             }| *byte_means_ready,
        ),
    };
    let mut keep: Vec<OwnedFd> = stdio.into_iter().flatten().collect();
    if let Some(ready) = ready {
        let copy = ready
            .try_clone()
            .map_err(|error| Status::new(ErrorKind::Internal, error.to_string()))?;
        keep.push(copy);
    }
    Ok((keep, told))
}

pub(super) fn unpack(mut fds: Vec<OwnedFd>, told: Handed) -> (OwnedFd, Stdio, Option<OwnedFd>) {
    let socket = fds.pop().expect("the channel is always handed over");
    let logger = if told.logger { fds.pop() } else { None };
    let stdio = match <[OwnedFd; 3]>::try_from(fds) {
        Ok(fds) if told.stdio => Stdio::Fds(fds),
        _ => Stdio::Terminal,
    };
    (socket, stdio, logger)
}

impl Handed {
    /// Waits until the logger is ready.
    pub(super) fn wait(self, ready: Option<OwnedFd>) -> Result<(), oci_runtime::Error> {
        let Some(ready) = ready else { return Ok(()) };
        let failed = |message: &str| {
            Err(oci_runtime::Error::Reported {
                kind: ErrorKind::FailedPrecondition,
                message: message.to_owned(),
            })
        };
        let limit = Timespec::try_from(LOGGER_MAX).ok();
        let mut fds = [PollFd::new(&ready, PollFlags::IN)];
        if !poll(&mut fds, limit.as_ref()).is_ok_and(|count| count > 0) {
            return failed("logging binary did not get ready in time");
        }
        let mut byte = [0];
        match rustix::io::read(&ready, &mut byte) {
            Ok(0) if self.byte_means_ready => failed("logging binary ended before it was ready"),
            Ok(_) => Ok(()),
            Err(_) => failed("logging binary is gone"),
        }
    }
}

pub(super) fn create(
    socket: &OwnedFd,
    stdio: Stdio,
    bundle: &Path,
    root: &Path,
    id: &str,
    rootfs: &[model::Mount],
    options: &shim_protocol::options::RuncOptions,
) -> Result<Created, oci_runtime::Error> {
    let path = bundle.join(shim_protocol::bundle::CONFIG);
    let text = std::fs::read(&path).map_err(|source| oci_runtime::Error::File {
        action: "read",
        path,
        source,
    })?;
    let spec = Spec::from_slice(&text).map_err(|error| reported(&error))?;
    let traits = traits(&spec);
    sys::fdpass::send(socket, &[TRAITS, traits.to_byte()], &[]).map_err(|source| {
        oci_runtime::Error::Step {
            step: "talk to the shim".to_owned(),
            source,
        }
    })?;
    oci_runtime::create(
        &spec,
        CreateOptions {
            id,
            bundle,
            state_root: root,
            rootfs,
            rootfs_in_host: needs_host_rootfs(&spec),
            stdio,
            gate: GateKind::Socket,
            clone_parent: true,
            no_pivot: options.no_pivot_root,
            no_new_keyring: options.no_new_keyring,
            systemd_cgroup: options.systemd_cgroup,
            preserved_fds: Vec::new(),
            created: crate::state::now(),
        },
    )
}

fn traits(spec: &Spec) -> Traits {
    let private_pids = spec.linux.as_ref().is_some_and(|linux| {
        linux
            .namespaces
            .iter()
            .any(|namespace| namespace.kind == "pid" && namespace.path.is_none())
    });
    let poststart = spec
        .hooks
        .as_ref()
        .is_some_and(|hooks| !hooks.poststart.is_empty());
    Traits {
        private_pids,
        poststart,
    }
}

/// Hooks and shared propagation need the root file system at its path in the host.
fn needs_host_rootfs(spec: &Spec) -> bool {
    let shared = spec
        .linux
        .as_ref()
        .and_then(|linux| linux.rootfs_propagation.as_deref())
        .is_some_and(|propagation| propagation.ends_with("shared"));
    shared || spec.hooks.is_some()
}

pub(super) fn exec(
    process: &[u8],
    stdio: Stdio,
    root: &Path,
    id: &str,
    no_new_keyring: bool,
) -> Result<Created, oci_runtime::Error> {
    let mut process: spec::runtime::Process = parse("process", process)?;
    process.terminal = matches!(stdio, Stdio::Terminal);
    oci_runtime::Container::load(root, id)?.exec(ExecOptions {
        process: &process,
        stdio,
        clone_parent: true,
        no_new_keyring,
        cgroup: None,
        ignore_paused: false,
        preserved_fds: Vec::new(),
    })
}

/// Reads a JSON section of a specification.
pub(crate) fn parse<T: serde::de::DeserializeOwned>(
    what: &'static str,
    text: &[u8],
) -> Result<T, oci_runtime::Error> {
    spec::parse(what, text, spec::RUNTIME_JSON_BYTES_MAX).map_err(|error| reported(&error))
}

fn reported(error: &(dyn std::error::Error + 'static)) -> oci_runtime::Error {
    oci_runtime::Error::Reported {
        kind: ErrorKind::InvalidArgument,
        message: model::chain(error),
    }
}

/// What a worker is to do, without what only the shim needs.
pub(super) enum Order {
    Delete,
    Pause,
    Resume,
    Update(Vec<u8>),
    Stats,
    Pids,
    KillAll(i32),
    Poststart,
}

pub(super) fn order(work: &Work) -> Order {
    match work {
        Work::Delete(_) | Work::Exec(..) => Order::Delete,
        Work::Pause(_) => Order::Pause,
        Work::Resume(_) => Order::Resume,
        Work::Update(_, text) => Order::Update(text.clone()),
        Work::Stats(_) => Order::Stats,
        Work::Pids(_) => Order::Pids,
        Work::KillAll(_, signal) => Order::KillAll(*signal),
        Work::Poststart => Order::Poststart,
    }
}

pub(super) fn perform(
    order: &Order,
    root: &Path,
    id: &str,
    bundle: &Path,
) -> Result<Vec<u8>, oci_runtime::Error> {
    if let Order::Delete = order {
        return crate::delete::remove(root, id, bundle, true).map(|()| Vec::new());
    }
    let container = oci_runtime::Container::load(root, id)?;
    match order {
        Order::Pause => container.pause()?,
        Order::Resume => container.resume()?,
        Order::Update(text) => container.update(&parse::<Resources>("resources", text)?)?,
        Order::KillAll(signal) => container.kill(*signal, true)?,
        Order::Poststart => container.started()?,
        Order::Stats => {
            let stats = Some(crate::stats::pack(&container.stats()?));
            return Ok(StatsResponse { stats }.encode_to_vec());
        }
        Order::Pids => {
            let info = |pid: i32| ProcessInfo {
                pid: pid.unsigned_abs(),
                info: None,
            };
            let processes = container.pids()?.into_iter().map(info).collect();
            return Ok(PidsResponse { processes }.encode_to_vec());
        }
        Order::Delete => {}
    }
    Ok(Vec::new())
}

pub(super) fn answer(socket: &OwnedFd, response: &Response) -> i32 {
    let socket: BorrowedFd<'_> = socket.as_fd();
    // A success without content has no bytes, and a message without bytes would look like the end.
    let framed = |response: &Response| [&[ANSWER], response.encode_to_vec().as_slice()].concat();
    let bytes = framed(response);
    let sent = if bytes.len() <= ANSWER_BYTES_MAX {
        sys::fdpass::send(socket, &bytes, &[])
    } else {
        let text = "the worker's answer is too long";
        let failure = Response::failed(Status::new(ErrorKind::ResourceExhausted, text));
        sys::fdpass::send(socket, &framed(&failure), &[])
    };
    i32::from(sent.is_err())
}
