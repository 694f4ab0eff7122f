//! From a runtime's name to a program.

use std::path::{Path, PathBuf};

use proto::Any;

use crate::{Config, Error};

/// A runtime as a container record or a request names it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Runtime {
    /// The name, `io.containerd.runc.v2`, or the absolute path of a shim.
    pub name: String,
    /// A shim that a request wants instead of the one that the name means.
    pub path: Option<PathBuf>,
    /// Options for the shim to read.
    pub options: Option<Any>,
}

/// What to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Program {
    /// Our own shim.
    BuiltIn,
    /// A program of the host.
    External(PathBuf),
}

const FORM: &str = "correct runtime name should be either format like `io.containerd.runc.v2` or a full path to the binary";

/// Finds the program that a runtime means. Looks at the file system for external ones.
pub fn resolve(config: &Config, runtime: &Runtime) -> Result<Program, Error> {
    let refuse = |reason| Error::Runtime {
        name: runtime.name.clone(),
        reason,
    };
    let wanted = match &runtime.path {
        Some(path) => path.as_path(),
        None => Path::new(&runtime.name),
    };
    if wanted.as_os_str().is_empty() {
        return Err(refuse("no runtime name"));
    }
    if wanted.is_absolute() {
        if !wanted.exists() {
            return Err(refuse("invalid custom binary path: no such file"));
        }
        return Ok(Program::External(wanted.to_owned()));
    }
    if let Some(built_in) = &config.built_in
        && built_in.names.iter().any(|name| Path::new(name) == wanted)
    {
        return Ok(Program::BuiltIn);
    }
    let name = wanted.to_str().unwrap_or_default();
    if name.contains('/') {
        return Err(refuse(FORM));
    }
    let binary = binary_name(name).ok_or_else(|| refuse(FORM))?;
    config
        .search_path
        .iter()
        .map(|folder| folder.join(&binary))
        .find(|path| path.is_file())
        .map(Program::External)
        .ok_or_else(|| Error::NotInstalled {
            name: runtime.name.clone(),
            binary,
        })
}

/// `io.containerd.runc.v2` is `containerd-shim-runc-v2`: the last two of its parts.
fn binary_name(runtime: &str) -> Option<String> {
    let parts: Vec<&str> = runtime.split('.').collect();
    match parts.as_slice() {
        [first, .., name, version] if !first.is_empty() => {
            Some(format!("containerd-shim-{name}-{version}"))
        }
        [name, version] if !name.is_empty() => Some(format!("containerd-shim-{name}-{version}")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BuiltIn, Timeouts};
    use std::sync::Arc;
    use sys::sealed::SealedImage;

    fn config(folder: &Path, built_in: bool) -> Config {
        let image = Arc::new(SealedImage::from_path(Path::new("/bin/true")).unwrap());
        Config {
            state: folder.join("state"),
            root: folder.join("root"),
            socket_dir: folder.join("s"),
            grpc_address: String::new(),
            ttrpc_address: String::new(),
            daemon_binary: PathBuf::new(),
            daemon_version: String::new(),
            debug: false,
            environment: Vec::new(),
            search_path: vec![folder.join("none"), folder.to_owned()],
            built_in: built_in.then(|| BuiltIn {
                image,
                names: vec![
                    "io.containerd.runc.v2".into(),
                    "io.containerd.hoist.v2".into(),
                ],
            }),
            timeouts: Timeouts::UPSTREAM,
        }
    }

    #[test]
    fn names_become_programs() {
        let folder = tempfile::tempdir().unwrap();
        let shim = folder.path().join("containerd-shim-runc-v2");
        std::fs::write(&shim, "").unwrap();
        let named = |name: &str| Runtime {
            name: name.into(),
            ..Runtime::default()
        };
        let ours = config(folder.path(), true);
        let theirs = config(folder.path(), false);
        assert_eq!(
            resolve(&ours, &named("io.containerd.runc.v2")).unwrap(),
            Program::BuiltIn
        );
        let external = Program::External(shim.clone());
        assert_eq!(
            resolve(&theirs, &named("io.containerd.runc.v2")).unwrap(),
            external
        );
        assert_eq!(resolve(&theirs, &named("runc.v2")).unwrap(), external);
        assert_eq!(
            resolve(&ours, &named(shim.to_str().unwrap())).unwrap(),
            external
        );
        let overridden = Runtime {
            path: Some(shim),
            ..named("io.containerd.runc.v2")
        };
        assert_eq!(resolve(&ours, &overridden).unwrap(), external);
        for bad in [
            "",
            "runc",
            "./x.y",
            "a/b.v1",
            "io.containerd.kata.v2",
            "/nonexistent/x",
            ".v2",
        ] {
            assert!(resolve(&ours, &named(bad)).is_err(), "{bad}");
        }
    }
}
