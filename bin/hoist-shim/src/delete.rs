//! Cleaning up after a shim that is gone: `delete`.

use crate::cli::Arguments;
use model::{ErrorKind, Kinded};
use prost::Message;
use proto::containerd::task::v2::DeleteResponse;
use shim_protocol::bundle;
use shim_protocol::exit::ExitRecord;
use shim_protocol::options::RuncOptions;
use std::path::{Path, PathBuf};

/// What a process killed by SIGKILL ends with.
const KILLED: u32 = 128 + 9;

/// Kills and removes the container of the bundle and writes a `DeleteResponse`.
pub(crate) fn delete(arguments: &Arguments) -> Result<(), String> {
    let bundle = match arguments.bundle.as_str() {
        "" => {
            let here =
                std::env::current_dir().map_err(|error| format!("find the bundle: {error}"))?;
            here.parent().unwrap_or(&here).join(&arguments.id)
        }
        named => PathBuf::from(named),
    };
    let options = std::fs::read(bundle.join(bundle::OPTIONS))
        .ok()
        .and_then(|text| RuncOptions::from_json(&text).ok())
        .unwrap_or_default();
    let root = options.state_root(&arguments.namespace);
    remove(&root, &arguments.id, &bundle, true).map_err(|error| model::chain(&error))?;
    let record = std::fs::read(bundle::exit_record(&bundle, None)).ok();
    let record = record
        .and_then(|bytes| ExitRecord::from_bytes(&bytes).ok())
        .unwrap_or_else(|| ExitRecord {
            pid: init_pid(&bundle),
            exit_status: KILLED,
            exited_at: model::Clock::now(&model::SystemClock),
        });
    let response = DeleteResponse {
        pid: record.pid,
        exit_status: record.exit_status,
        exited_at: Some(crate::state::wire_time(record.exited_at)),
    };
    crate::info::write(&response.encode_to_vec())
}

fn init_pid(bundle: &Path) -> u32 {
    let text = std::fs::read_to_string(bundle.join(bundle::INIT_PID)).unwrap_or_default();
    text.trim().parse().unwrap_or(0)
}

/// Removes a container and what is mounted in its bundle; one that is gone is no error.
pub(crate) fn remove(
    root: &Path,
    id: &str,
    bundle: &Path,
    force: bool,
) -> Result<(), oci_runtime::Error> {
    let removed =
        oci_runtime::Container::load(root, id).and_then(|container| container.delete(force));
    if let Err(error) = removed
        && error.kind() != ErrorKind::NotFound
    {
        return Err(error);
    }
    let rootfs = bundle.join(bundle::ROOTFS);
    let flags = rustix::mount::UnmountFlags::DETACH | rustix::mount::UnmountFlags::NOFOLLOW;
    // Several mounts may lie upon each other; EINVAL says that none is left.
    while rustix::mount::unmount(&rootfs, flags).is_ok() {}
    Ok(())
}
