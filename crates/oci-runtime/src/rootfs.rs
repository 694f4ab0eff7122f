//! Mounts that the worker makes in the host's namespaces: the root and the sources of bind mounts, all detached.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use model::Mount;
use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, openat};
use sys::mount::{Attributes, Change, FsContext, FsError, PARAMETER_BYTES_MAX, Propagation};

use crate::error::{Error, Result};
use crate::init::resolve::{self, Missing};
use crate::mount_options::{self, Options};

/// Lower layers of one overlay: what the kernel takes.
const LAYERS_MAX: usize = 500;

/// A detached mount that the container gets.
#[derive(Debug)]
pub(crate) struct Source {
    /// The mount.
    pub(crate) mount: OwnedFd,
    /// Whether its root is a folder.
    pub(crate) is_folder: bool,
}

/// Makes the root of the container: `mounts`, or what lies at `path` when there are none.
pub(crate) fn root(mounts: &[Mount], path: &Path) -> Result<OwnedFd> {
    let Some((first, rest)) = mounts.split_first() else {
        return clone_host(path, true).map(|source| source.mount);
    };
    if !matches!(first.target.as_str(), "" | "/") {
        return Err(Error::invalid("rootfs", "the first mount must be the root"));
    }
    let root = snapshot_mount(first)?;
    if let Some(second) = rest.first() {
        // Attaching to a detached mount needs Linux 6.15.
        return Err(Error::unimplemented(format!(
            "a detached root of several mounts ({})",
            second.target
        )));
    }
    Ok(root)
}

/// Makes a mount as snapshotters describe it.
pub(crate) fn snapshot_mount(mount: &Mount) -> Result<OwnedFd> {
    let options = mount_options::parse("the root file system", &mount.options)?;
    let step =
        |error: FsError| Error::step(format!("mount {} root file system", mount.kind), error);
    let bind = options.bind || mount.kind == "bind";
    let fd = if bind {
        clone_host(Path::new(&mount.source), options.recursive)?.mount
    } else {
        let context = FsContext::open(&mount.kind).map_err(step)?;
        if mount.kind != "overlay" || !mount.source.is_empty() {
            context.string("source", &mount.source).map_err(step)?;
        }
        configure(&context, &options).map_err(step)?;
        context.mount(options.set).map_err(step)?
    };
    if bind && options.names_attributes() {
        let change = Change {
            set: options.set,
            clear: options.clear,
            ..Change::default()
        };
        sys::mount::change(fd.as_fd(), change)
            .map_err(|error| Error::step("set the options of the root file system", error))?;
    }
    Ok(fd)
}

/// Passes flags and data to a file system.
pub(crate) fn configure(
    context: &FsContext,
    options: &Options,
) -> std::result::Result<(), FsError> {
    for flag in &options.superblock {
        context.flag(flag)?;
    }
    if options.set.contains(Attributes::MOUNT_ATTR_RDONLY) {
        context.flag("ro")?;
    }
    for option in &options.data {
        match option.split_once('=') {
            Some(("lowerdir", layers)) if layers.len() > PARAMETER_BYTES_MAX => {
                many_layers(context, layers)?;
            }
            _ => context.option(option)?,
        }
    }
    Ok(())
}

/// Passes lower folders whose names are too long for one parameter.
fn many_layers(context: &FsContext, layers: &str) -> std::result::Result<(), FsError> {
    let layers: Vec<&str> = layers.split(':').collect();
    let refused = |log: &str, errno| FsError {
        errno,
        log: log.to_owned(),
    };
    if layers.len() > LAYERS_MAX {
        return Err(refused("too many layers", rustix::io::Errno::TOOBIG));
    }
    for (index, layer) in layers.iter().enumerate() {
        match context.string("lowerdir+", layer) {
            Ok(()) => {}
            // Before Linux 6.8 there is only the one parameter.
            Err(error) if index == 0 && error.errno == rustix::io::Errno::INVAL => {
                return layers_by_number(context, &layers);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Names the layers by their descriptors, seen from the folder that holds those: three bytes each.
fn layers_by_number(context: &FsContext, layers: &[&str]) -> std::result::Result<(), FsError> {
    use std::os::fd::AsRawFd;
    let failed = |log: String, error: std::io::Error| FsError {
        errno: error
            .raw_os_error()
            .map_or(rustix::io::Errno::IO, rustix::io::Errno::from_raw_os_error),
        log,
    };
    let mut folders = Vec::new();
    for layer in layers {
        let folder = File::open(layer).map_err(|error| failed((*layer).to_owned(), error))?;
        folders.push(folder);
    }
    let numbers: Vec<String> = folders
        .iter()
        .map(|folder| folder.as_raw_fd().to_string())
        .collect();
    rustix::process::chdir("/proc/self/fd")
        .map_err(|error| failed("/proc/self/fd".to_owned(), error.into()))?;
    context.string("lowerdir", &numbers.join(":"))
    // The folders are looked up now, so the descriptors may be closed.
}

/// Copies what the host has mounted at `path`.
pub(crate) fn clone_host(path: &Path, recursive: bool) -> Result<Source> {
    let failed = |error: std::io::Error| Error::File {
        action: "bind mount",
        path: path.to_path_buf(),
        source: error,
    };
    let text = path
        .to_str()
        .ok_or_else(|| Error::invalid("mounts", format!("{} is not UTF-8", path.display())))?;
    let mount = sys::mount::clone_tree(CWD, text, recursive).map_err(failed)?;
    let stat = fstat(&mount).map_err(|error| failed(error.into()))?;
    Ok(Source {
        is_folder: FileType::from_raw_mode(stat.st_mode) == FileType::Directory,
        mount,
    })
}

/// Makes the sources of all bind mounts, at the index of the mount that needs each.
pub(crate) fn bind_sources(
    mounts: &[(spec::runtime::Mount, Options)],
    bundle: &Path,
    inherited: Option<(Propagation, bool)>,
) -> Result<Vec<Option<Source>>> {
    let mut sources = Vec::with_capacity(mounts.len());
    for (mount, options) in mounts {
        sources.push(if options.bind {
            let path = mount.source.as_deref().unwrap_or_default();
            if path.is_empty() {
                return Err(Error::invalid("mounts", "a bind mount needs a source"));
            }
            let source = clone_host(&bundle.join(path), options.recursive)?;
            // What a copy of the host's mount table with this propagation would have given.
            let (propagation, _) = inherited.unwrap_or((Propagation::Slave, true));
            spread(&source.mount, &[(propagation, true)])?;
            Some(source)
        } else {
            None
        });
    }
    Ok(sources)
}

/// Applies propagations in turn.
pub(crate) fn spread(mount: &OwnedFd, propagation: &[(Propagation, bool)]) -> Result<()> {
    for (kind, recursive) in propagation {
        let change = Change {
            propagation: Some(*kind),
            recursive: *recursive,
            ..Change::default()
        };
        sys::mount::change(mount.as_fd(), change)
            .map_err(|error| Error::step("set the propagation of a mount", error))?;
    }
    Ok(())
}

/// Performs the mounts at `path` in the caller's own mount table.
pub(crate) fn mount_in_host(mounts: &[Mount], path: &Path) -> Result<()> {
    for mount in mounts {
        let made = snapshot_mount(mount)?;
        let target = target_below(path, &mount.target)?;
        sys::mount::attach(made.as_fd(), target.as_fd()).map_err(|error| Error::File {
            action: "mount the root file system at",
            path: path.to_path_buf(),
            source: error,
        })?;
    }
    Ok(())
}

fn target_below(path: &Path, target: &str) -> Result<OwnedFd> {
    let failed = |error: std::io::Error| Error::File {
        action: "open",
        path: PathBuf::from(path),
        source: error,
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let base = openat(CWD, path, flags, Mode::empty()).map_err(|error| failed(error.into()))?;
    if matches!(target, "" | "/") {
        return Ok(base);
    }
    Ok(resolve::walk(base.as_fd(), target, Missing::Folder)
        .map_err(failed)?
        .fd)
}
