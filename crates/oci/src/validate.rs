//! What every finished specification obeys, so that a mistake is named before anything runs.

use spec::runtime::Spec;

use crate::Error;

const NAMESPACES: &[&str] = &[
    "pid", "network", "mount", "ipc", "uts", "user", "cgroup", "time",
];
/// Longest host name (`HOST_NAME_MAX`), in bytes.
const HOSTNAME_BYTES_MAX: usize = 64;

/// Checks a finished specification.
pub fn validate(spec: &Spec) -> Result<(), Error> {
    let process = spec.process.as_ref();
    if process.is_none_or(|process| process.args.is_empty()) {
        return refuse("args", "", "no command specified");
    }
    if let Some(process) = process {
        if !process.cwd.starts_with('/') {
            return refuse("cwd", &process.cwd, "must be absolute");
        }
        for text in process.args.iter().chain(&process.env) {
            if text.contains('\0') {
                return refuse("argument or environment", text, "contains a zero byte");
            }
        }
    }
    if spec.root.as_ref().is_none_or(|root| root.path.is_empty()) {
        return refuse("root path", "", "must not be empty");
    }
    for mount in &spec.mounts {
        // OCI runtime-spec, config.md#mounts: the destination must be absolute.
        if !mount.destination.starts_with('/') {
            return refuse("mount destination", &mount.destination, "must be absolute");
        }
    }
    if let Some(hostname) = &spec.hostname
        && hostname.len() > HOSTNAME_BYTES_MAX
    {
        return refuse("hostname", hostname, "is longer than 64 bytes");
    }
    validate_namespaces(spec)
}

fn validate_namespaces(spec: &Spec) -> Result<(), Error> {
    let Some(linux) = &spec.linux else {
        return Ok(());
    };
    for (index, namespace) in linux.namespaces.iter().enumerate() {
        if !NAMESPACES.contains(&namespace.kind.as_str()) {
            return refuse("namespace", &namespace.kind, "no such kind");
        }
        // OCI runtime-spec, config-linux.md#namespaces: no kind twice.
        let earlier = &linux.namespaces[..index];
        if earlier.iter().any(|held| held.kind == namespace.kind) {
            return refuse("namespace", &namespace.kind, "named twice");
        }
    }
    let has = |kind: &str| linux.namespaces.iter().any(|held| held.kind == kind);
    if let Some(hostname) = &spec.hostname
        && !has("uts")
    {
        return refuse("hostname", hostname, "needs a UTS namespace of its own");
    }
    if !linux.uid_mappings.is_empty() && !has("user") {
        return refuse("uid mappings", "", "need a user namespace");
    }
    Ok(())
}

fn refuse(what: &'static str, value: &str, why: &'static str) -> Result<(), Error> {
    Err(Error::Invalid {
        what,
        value: value.chars().take(200).collect(),
        why,
    })
}
