//! Starts our own shim: one execution, no process in between (shim-protocol, bootstrap: "Direct bootstrap").

use std::ffi::OsStr;
use std::fs::{DirBuilder, File, Permissions};
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use prost::Message;
use rustix::fs::{MemfdFlags, memfd_create};
use shim_protocol::bootstrap::{self, BootstrapParams, BootstrapResult};
use sys::detached::{Detached, Program};
use tokio::io::AsyncReadExt;
use tokio::io::unix::AsyncFd;
use tokio::net::UnixStream;
use tokio::net::unix::pipe;

use crate::{BuiltIn, Bundle, Config, Error};

/// Longest answer of a shim, in bytes.
const ANSWER_BYTES_MAX: u64 = 64 << 10;
/// Longest text of a failure that is passed on, in bytes.
const FAILURE_BYTES_MAX: u64 = 4096;
/// The name under which the shim shows in lists of processes.
const NAME: &str = "containerd-shim-hoist-v2";

/// A started shim before it answered.
struct Started {
    process: Detached,
    answer: OwnedFd,
    failure: File,
}

/// Starts the shim of a group, or finds the one that serves it; the caller holds the group's lock.
pub(crate) async fn start(
    config: &Config,
    built_in: &BuiltIn,
    bundle: &Bundle,
    params: BootstrapParams,
    address: &str,
) -> Result<BootstrapResult, Error> {
    let path = shim_protocol::address::path(address).unwrap_or(address);
    let path = PathBuf::from(path);
    let expected = BootstrapResult::ttrpc(address);
    let Some(listener) = listen(&config.socket_dir, &path).await? else {
        return Ok(expected);
    };
    let image = std::sync::Arc::clone(&built_in.image);
    let folder = bundle.clone();
    // Written before the process is there: whatever happens next, a restart finds the shim.
    let document = expected.to_json();
    let spawned = tokio::task::spawn_blocking(move || {
        folder.write(shim_protocol::bundle::BOOTSTRAP, &document)?;
        spawn(&image, &folder, &params, &listener)
    })
    .await
    .map_err(|error| failed(bundle, error.to_string()))
    .and_then(|started| started);
    let answered = match spawned {
        Ok(started) => answer(config, bundle, started).await,
        Err(error) => Err(error),
    };
    if answered.is_err() {
        // Nobody listens there; the socket may already be gone.
        drop(std::fs::remove_file(&path));
    }
    answered
}

fn failed(bundle: &Bundle, reason: String) -> Error {
    Error::Start {
        id: bundle.id.to_string(),
        reason,
    }
}

/// Binds the socket; `None` when a shim serves it already.
async fn listen(folder: &Path, path: &Path) -> Result<Option<UnixListener>, Error> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|error| Error::io("make", folder, error))?;
    let bound = match UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            match UnixStream::connect(path).await {
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    std::fs::remove_file(path)
                        .map_err(|error| Error::io("remove socket", path, error))?;
                    UnixListener::bind(path)
                }
                // A full backlog is a shim too.
                _ => return Ok(None),
            }
        }
        other => other,
    };
    let listener = bound.map_err(|error| Error::io("listen on", path, error))?;
    std::fs::set_permissions(path, Permissions::from_mode(0o600))
        .map_err(|error| Error::io("change mode of", path, error))?;
    Ok(Some(listener))
}

fn spawn(
    image: &sys::sealed::SealedImage,
    bundle: &Bundle,
    params: &BootstrapParams,
    listener: &UnixListener,
) -> Result<Started, Error> {
    let start = || -> io::Result<Started> {
        let mut input = File::from(memfd_create("hoist-params", MemfdFlags::CLOEXEC)?);
        input.write_all(&params.encode_to_vec())?;
        input.rewind()?;
        let failure = File::from(memfd_create("hoist-failure", MemfdFlags::CLOEXEC)?);
        let (answer, writer) = io::pipe()?;
        let folder = bundle.path.to_string_lossy();
        let process = sys::detached::spawn(&Program {
            image: image.as_fd(),
            name: OsStr::new(NAME),
            arguments: &bootstrap::direct_arguments(params, &folder),
            folder: &bundle.path,
            fds: &[
                input.as_fd(),
                writer.as_fd(),
                failure.as_fd(),
                listener.as_fd(),
            ],
        })?;
        Ok(Started {
            process,
            answer: answer.into(),
            failure,
        })
    };
    start().map_err(|error| failed(bundle, error.to_string()))
}

async fn answer(
    config: &Config,
    bundle: &Bundle,
    started: Started,
) -> Result<BootstrapResult, Error> {
    let Started {
        process,
        answer,
        mut failure,
    } = started;
    let reading = async {
        let mut bytes = Vec::new();
        let receiver = pipe::Receiver::from_owned_fd(answer)?;
        receiver
            .take(ANSWER_BYTES_MAX)
            .read_to_end(&mut bytes)
            .await?;
        Ok::<_, io::Error>(bytes)
    };
    let limit = config.timeouts.start;
    let read = tokio::time::timeout(limit, reading).await;
    let reason = match read {
        Ok(Ok(bytes)) if !bytes.is_empty() => {
            reap(process);
            return BootstrapResult::parse(&bytes).map_err(|source| Error::Protocol {
                what: "answer at its start",
                source: Box::new(source),
            });
        }
        Ok(Ok(_)) => "ended before it served".to_owned(),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no answer within {limit:?}"),
    };
    if let Err(error) = process.kill() {
        tracing::warn!(pid = process.pid(), %error, "shim can't be killed");
    }
    reap(process);
    let mut text = Vec::new();
    let told = failure
        .rewind()
        .and_then(|()| failure.take(FAILURE_BYTES_MAX).read_to_end(&mut text));
    match told {
        Ok(length) if length > 0 => {
            let text = String::from_utf8_lossy(&text);
            Err(failed(bundle, format!("{reason}: {}", text.trim())))
        }
        _ => Err(failed(bundle, reason)),
    }
}

/// Reaps the shim when it ends; init does when we are gone by then.
fn reap(process: Detached) {
    #[expect(
        deprecated,
        reason = "its successor is unsafe, and an owned descriptor meets what it asks for"
    )]
    let watched = process.pidfd().try_clone_to_owned().and_then(AsyncFd::new);
    tokio::spawn(async move {
        if let Ok(watched) = watched {
            // Readable means ended; an error means that the wait below finds out.
            drop(watched.readable().await);
        }
        let pid = process.pid();
        match tokio::task::spawn_blocking(move || process.wait()).await {
            Ok(Ok(status)) => tracing::debug!(pid, %status, "shim ended"),
            Ok(Err(error)) => tracing::warn!(pid, %error, "shim can't be reaped"),
            Err(_) => {}
        }
    });
}
