//! `state.json`, in the form in which runc keeps it, with what only we need under `hoist`.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use spec::runtime::Spec;
use sys::namespace::Kind;

use crate::error::{Error, Result};
use crate::seccomp::Program;

/// Longest identifier, in bytes.
const ID_BYTES_MAX: usize = 255;

/// The file.
pub(crate) const STATE_FILE: &str = "state.json";
/// The fifo at which the first process waits.
pub(crate) const FIFO_FILE: &str = "exec.fifo";
/// The compiled filter: four bytes of flags, then instructions.
const FILTER_FILE: &str = "seccomp.bpf";

/// What is kept of a container.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) id: String,
    pub(crate) init_process_pid: i32,
    /// Clock ticks after boot.
    pub(crate) init_process_start: u64,
    /// In RFC 3339.
    pub(crate) created: String,
    pub(crate) config: Config,
    #[serde(default)]
    pub(crate) rootless: bool,
    #[serde(default)]
    pub(crate) cgroup_paths: BTreeMap<String, PathBuf>,
    #[serde(default)]
    pub(crate) namespace_paths: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) external_descriptors: Vec<String>,
    #[serde(default)]
    pub(crate) intel_rdt_path: String,
    pub(crate) hoist: Own,
}

/// The part of runc's own configuration that other programs read.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Config {
    pub(crate) rootfs: PathBuf,
    #[serde(default)]
    pub(crate) readonlyfs: bool,
    #[serde(default)]
    pub(crate) hostname: String,
    #[serde(default)]
    pub(crate) labels: Vec<String>,
    #[serde(default)]
    pub(crate) namespaces: Vec<NamespacePath>,
}

/// A namespace as runc writes it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct NamespacePath {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) path: String,
}

/// What only we need.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Own {
    pub(crate) bundle: PathBuf,
    /// The specification without the rules of the filter, which is kept compiled.
    pub(crate) spec: Spec,
    pub(crate) filtered: bool,
}

/// The name that runc gives a kind of namespace.
pub(crate) fn runc_name(kind: Kind) -> &'static str {
    match kind {
        Kind::User => "NEWUSER",
        Kind::Pid => "NEWPID",
        Kind::Network => "NEWNET",
        Kind::Mount => "NEWNS",
        Kind::Ipc => "NEWIPC",
        Kind::Uts => "NEWUTS",
        Kind::Cgroup => "NEWCGROUP",
        Kind::Time => "NEWTIME",
    }
}

/// Refuses identifiers that are no plain folder name, as runc does.
pub(crate) fn check_id(id: &str) -> Result<()> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_+-.".contains(&byte);
    if id.is_empty() || id.len() > ID_BYTES_MAX || id == "." || id == ".." || !id.bytes().all(fits)
    {
        let shown: String = id.chars().take(100).collect();
        return Err(Error::invalid(
            "id",
            format!("invalid container id {shown:?}"),
        ));
    }
    Ok(())
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_path_buf();
    move |source| Error::File {
        action,
        path,
        source,
    }
}

/// Makes the folder of a new container.
pub(crate) fn claim(root: &Path, id: &str) -> Result<PathBuf> {
    use std::os::unix::fs::DirBuilderExt;
    let folder = root.join(id);
    let mut builder = fs::DirBuilder::new();
    builder.mode(0o711);
    match builder.create(&folder) {
        Ok(()) => Ok(folder),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            Err(Error::AlreadyExists { id: id.to_owned() })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let mut parents = fs::DirBuilder::new();
            parents.mode(0o711).recursive(true);
            parents.create(root).map_err(failed("create", root))?;
            builder.create(&folder).map_err(failed("create", &folder))?;
            Ok(folder)
        }
        Err(error) => Err(failed("create", &folder)(error)),
    }
}

/// Writes the record so that readers see the old one or the new one.
pub(crate) fn write(folder: &Path, record: &Record) -> Result<()> {
    let (path, next) = (folder.join(STATE_FILE), folder.join("state.json.next"));
    let text = serde_json::to_vec(record)
        .map_err(|error| failed("write", &path)(io::Error::other(error)))?;
    fs::write(&next, text).map_err(failed("write", &next))?;
    // Lives in a file system in memory: a rename is all the durability there is.
    rustix::fs::rename(&next, &path).map_err(|error| failed("rename", &path)(error.into()))
}

/// Reads the record.
pub(crate) fn read(folder: &Path, id: &str) -> Result<Record> {
    let path = folder.join(STATE_FILE);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(Error::NotFound { id: id.to_owned() });
        }
        Err(error) => return Err(failed("read", &path)(error)),
    };
    serde_json::from_slice(&text).map_err(|error| failed("read", &path)(io::Error::other(error)))
}

/// Keeps the filter for processes that come later.
pub(crate) fn write_filter(folder: &Path, filter: &Program) -> Result<()> {
    let path = folder.join(FILTER_FILE);
    let mut bytes = filter.flags.to_ne_bytes().to_vec();
    bytes.extend_from_slice(&filter.code);
    fs::write(&path, bytes).map_err(failed("write", &path))
}

/// Reads the filter.
pub(crate) fn read_filter(folder: &Path) -> Result<Program> {
    let path = folder.join(FILTER_FILE);
    let bytes = fs::read(&path).map_err(failed("read", &path))?;
    let (flags, code) = bytes
        .split_first_chunk()
        .ok_or_else(|| failed("read", &path)(io::Error::other("it is too short")))?;
    Ok(Program {
        flags: u32::from_ne_bytes(*flags),
        code: code.to_vec(),
    })
}

/// Removes the folder and what we put there.
pub(crate) fn remove(folder: &Path) -> Result<()> {
    for file in [STATE_FILE, FIFO_FILE, FILTER_FILE, "state.json.next"] {
        let path = folder.join(file);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed("remove", &path)(error));
            }
            _ => {}
        }
    }
    match fs::remove_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(failed("remove", folder)(error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_plain_names() {
        for good in ["a", "A.b-c_d+e", "0"] {
            assert!(check_id(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            ".",
            "..",
            "a/b",
            "../a",
            "a b",
            "a\0",
            "ä",
            &"x".repeat(256),
        ] {
            assert!(check_id(bad).is_err(), "{bad}");
        }
    }
}
