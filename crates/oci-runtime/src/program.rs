//! What the worker writes about a new process: its id maps and its record.

use std::path::PathBuf;

use spec::runtime::{IdMapping, Linux};
use sys::cgroup::Cgroup;
use sys::namespace::Kind;

use crate::error::{Error, Result};
use crate::options::CreateOptions;
use crate::plan::Plan;
use crate::state::{Config, NamespacePath, Own, Record, runc_name};
use crate::worker::write_proc;

/// Lines of one id map that the kernel takes.
const MAP_LINES_MAX: usize = 340;

/// Writes the id maps of a new user namespace.
pub(crate) fn write_maps(pid: i32, linux: &Linux) -> Result<()> {
    for (file, mappings) in [
        ("gid_map", &linux.gid_mappings),
        ("uid_map", &linux.uid_mappings),
    ] {
        if mappings.len() > MAP_LINES_MAX {
            return Err(Error::invalid(
                "linux.uidMappings",
                format!("more than {MAP_LINES_MAX} ranges"),
            ));
        }
        write_proc(pid, file, &map(mappings))?;
    }
    Ok(())
}

fn map(mappings: &[IdMapping]) -> String {
    mappings
        .iter()
        .map(|one| format!("{} {} {}\n", one.container_id, one.host_id, one.size))
        .collect()
}

/// What is kept of a container.
pub(crate) fn record(
    plan: &Plan<'_>,
    options: &CreateOptions<'_>,
    pid: i32,
    cgroup: &Cgroup,
    filtered: bool,
) -> Result<Record> {
    let stat = sys::proc::stat(pid).map_err(|source| Error::File {
        action: "read",
        path: PathBuf::from(format!("/proc/{pid}/stat")),
        source,
    })?;
    let mut spec = plan.spec.clone();
    if let Some(seccomp) = spec.linux.as_mut().and_then(|linux| linux.seccomp.as_mut()) {
        seccomp.syscalls.clear();
    }
    let root = plan.spec.root.clone().unwrap_or_default();
    let bundle = options.bundle.to_path_buf();
    Ok(Record {
        id: options.id.to_owned(),
        init_process_pid: pid,
        init_process_start: stat.start_ticks,
        created: options.created.to_string(),
        config: Config {
            rootfs: bundle.join(&root.path),
            readonlyfs: root.readonly,
            hostname: plan.spec.hostname.clone().unwrap_or_default(),
            labels: labels(plan, options),
            namespaces: namespaces(plan),
        },
        rootless: false,
        cgroup_paths: cgroup.paths(),
        namespace_paths: Kind::ALL
            .into_iter()
            .map(|kind| {
                let path = format!("/proc/{pid}/ns/{}", kind.file());
                (runc_name(kind).to_owned(), path)
            })
            .collect(),
        external_descriptors: vec!["/dev/null".to_owned(); 3],
        intel_rdt_path: String::new(),
        hoist: Own {
            bundle,
            spec,
            filtered,
        },
    })
}

fn labels(plan: &Plan<'_>, options: &CreateOptions<'_>) -> Vec<String> {
    let mut labels: Vec<String> = plan
        .spec
        .annotations
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    labels.push(format!("bundle={}", options.bundle.display()));
    labels
}

fn namespaces(plan: &Plan<'_>) -> Vec<NamespacePath> {
    Kind::ALL
        .into_iter()
        .filter(|kind| plan.has(*kind))
        .map(|kind| NamespacePath {
            kind: runc_name(kind).to_owned(),
            path: plan
                .joined
                .iter()
                .find(|(joined, _)| *joined == kind)
                .map(|(_, path)| path.display().to_string())
                .unwrap_or_default(),
        })
        .collect()
}
