//! Hooks: programs of the host at points of the life cycle (config.md#posix-platform-hooks).

use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::json;
use spec::runtime::{Hook, Spec};

use crate::error::{Error, Result};

/// Bytes of a failed hook's complaint that are told.
const COMPLAINT_BYTES_MAX: usize = 2048;

/// The state that hooks read from their standard input (runtime.md#state).
pub(crate) fn state_json(spec: &Spec, id: &str, status: &str, pid: i32, bundle: &Path) -> Vec<u8> {
    json!({
        "ociVersion": spec.oci_version,
        "id": id,
        "status": status,
        "pid": pid,
        "bundle": bundle,
        "annotations": spec.annotations,
    })
    .to_string()
    .into_bytes()
}

/// Runs hooks in their order; the first that fails ends it.
pub(crate) fn run(kind: &str, hooks: &[Hook], state: &[u8]) -> Result<()> {
    for hook in hooks {
        one(kind, hook, state)?;
    }
    Ok(())
}

fn one(kind: &str, hook: &Hook, state: &[u8]) -> Result<()> {
    let step = |error: std::io::Error| Error::step(format!("run {kind} hook {}", hook.path), error);
    let mut command = Command::new(&hook.path);
    if let Some((name, rest)) = hook.args.split_first() {
        command.arg0(name).args(rest);
    }
    // Nothing of our own environment, nor of the container's, gets into a program of the host.
    command.env_clear();
    command.envs(
        hook.env
            .iter()
            .filter_map(|variable| variable.split_once('=')),
    );
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut child = command.spawn().map_err(step)?;
    if let Some(mut stdin) = child.stdin.take() {
        // A hook that does not read its input is no failure.
        let _ignored = stdin.write_all(state);
    }
    let limit = hook.timeout.and_then(|seconds| u64::try_from(seconds).ok());
    if !ended(&child, limit).map_err(step)? {
        child.kill().map_err(step)?;
        child.wait().map_err(step)?;
        return Err(step(std::io::Error::new(
            std::io::ErrorKind::TimedOut,
            format!("it did not end within {} s", limit.unwrap_or(0)),
        )));
    }
    let status = child.wait().map_err(step)?;
    if status.success() {
        return Ok(());
    }
    Err(step(std::io::Error::other(format!(
        "{status}{}",
        complaint(&mut child)
    ))))
}

fn ended(child: &Child, seconds: Option<u64>) -> std::io::Result<bool> {
    let pidfd = sys::pidfd::open(child.id().cast_signed())?;
    sys::pidfd::wait_end(pidfd.as_fd(), seconds.map(Duration::from_secs))
}

/// What the hook wrote last; never waits for a grandchild that keeps the pipe.
fn complaint(child: &mut Child) -> String {
    let Some(mut stderr) = child.stderr.take() else {
        return String::new();
    };
    let mut buffer = [0; COMPLAINT_BYTES_MAX];
    let length = rustix::io::ioctl_fionread(&stderr)
        .ok()
        .filter(|waiting| *waiting > 0)
        .and_then(|_| stderr.read(&mut buffer).ok())
        .unwrap_or(0);
    let text = String::from_utf8_lossy(&buffer[..length]);
    if text.trim().is_empty() {
        String::new()
    } else {
        format!(": {}", text.trim())
    }
}
