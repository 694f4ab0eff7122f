//! The folder of one task.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use model::{ContainerId, Namespace};
use rustix::fs::{CWD, FileType, Gid, Mode, RenameFlags};
use rustix::mount::UnmountFlags;
use shim_protocol::bundle;
use spec::runtime::Spec;

use crate::Error;

/// Our mark: a bundle without it is not ours to remove.
const MARK: &str = "hoist";
/// Mounts stacked on one root file system that are taken off; more are left and make the removal fail.
const MOUNTS_MAX: usize = 64;
/// Longest file of a bundle that is read, in bytes.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// A bundle on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    /// The namespace of the task.
    pub namespace: Namespace,
    /// The task.
    pub id: ContainerId,
    /// The folder.
    pub path: PathBuf,
}

impl Bundle {
    /// The bundle that a task has or would have.
    pub fn of(state: &Path, namespace: &Namespace, id: &ContainerId) -> Self {
        Self {
            namespace: namespace.clone(),
            id: id.clone(),
            path: state.join(namespace.as_str()).join(id.as_str()),
        }
    }

    /// Makes the folder with `config` as its unchanged specification. Blocks. Leaves nothing when it fails.
    ///
    /// Fails with `AlreadyExists` when there is such a folder.
    pub fn create(&self, root: &Path, config: Option<&[u8]>) -> Result<(), Error> {
        make_all(self.path.parent().unwrap_or(&self.path), 0o711)?;
        match make(&self.path, 0o700) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(Error::AlreadyExists {
                    id: self.id.to_string(),
                });
            }
            other => other.map_err(|error| Error::io("make bundle", &self.path, error))?,
        }
        let filled = self.fill(root, config);
        if filled.is_err()
            && let Err(error) = self.remove()
        {
            tracing::warn!(bundle = %self.path.display(), error = %model::chain(&error), "incomplete bundle stays");
        }
        filled
    }

    fn fill(&self, root: &Path, config: Option<&[u8]>) -> Result<(), Error> {
        self.write(MARK, b"")?;
        if let Some(config) = config {
            self.allow_remapped_root(config)?;
        }
        let rootfs = self.path.join(bundle::ROOTFS);
        make(&rootfs, 0o711).map_err(|error| Error::io("make", &rootfs, error))?;
        let work = root.join(self.namespace.as_str()).join(self.id.as_str());
        make_all(work.parent().unwrap_or(&work), 0o711)?;
        // What an earlier task of this name left is of no use to this one.
        remove_tree(&work)?;
        make(&work, 0o711).map_err(|error| Error::io("make", &work, error))?;
        let link = self.path.join(bundle::WORK);
        std::os::unix::fs::symlink(&work, &link)
            .map_err(|error| Error::io("link", &link, error))?;
        match config {
            Some(config) => self.write(bundle::CONFIG, config),
            None => Ok(()),
        }
    }

    /// The root of a user namespace must reach its root file system through the bundle.
    fn allow_remapped_root(&self, config: &[u8]) -> Result<(), Error> {
        let Ok(spec) = Spec::from_slice(config) else {
            // The shim will say what is wrong with it.
            return Ok(());
        };
        let mappings = spec.linux.map(|linux| linux.gid_mappings);
        let group = mappings
            .iter()
            .flatten()
            .find(|mapping| mapping.container_id == 0)
            .map_or(0, |mapping| mapping.host_id);
        if group == 0 {
            return Ok(());
        }
        rustix::fs::chown(&self.path, None, Some(Gid::from_raw(group)))
            .map_err(|error| Error::io("change group of", &self.path, error.into()))?;
        fs::set_permissions(&self.path, Permissions::from_mode(0o710))
            .map_err(|error| Error::io("change mode of", &self.path, error))
    }

    /// Writes one of the daemon's files. Blocks.
    pub(crate) fn write(&self, name: &str, content: &[u8]) -> Result<(), Error> {
        let path = self.path.join(name);
        let hidden = self.path.join(format!(".{name}"));
        let write = || {
            fs::write(&hidden, content)?;
            rustix::fs::rename(&hidden, &path).map_err(io::Error::from)
        };
        write().map_err(|error| Error::io("write", &path, error))
    }

    /// Reads a file; `None` when there is none. Blocks.
    pub(crate) fn read(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        let path = self.path.join(name);
        match fs::metadata(&path) {
            Ok(metadata) if metadata.len() > FILE_BYTES_MAX => {
                return Err(Error::io("read", path, io::ErrorKind::FileTooLarge.into()));
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io("read", path, error)),
        }
        fs::read(&path)
            .map(Some)
            .map_err(|error| Error::io("read", path, error))
    }

    /// Whether hoistd made the folder. Blocks.
    pub fn is_ours(&self) -> bool {
        self.path.join(MARK).is_file()
    }

    /// Makes the fifo on which the shim logs. Blocks.
    pub(crate) fn make_log(&self) -> Result<PathBuf, Error> {
        let path = self.path.join(bundle::LOG);
        match rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::RWXU, 0) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => Ok(path),
            Err(error) => Err(Error::io("make fifo", path, error.into())),
        }
    }

    /// Takes mounts off and removes the folder and its work folder; one that is gone is no error. Blocks.
    ///
    /// Refuses a folder that hoistd did not make.
    pub fn remove(&self) -> Result<(), Error> {
        if !self.path.exists() {
            return Ok(());
        }
        if !self.is_ours() {
            return Err(Error::io(
                "remove a bundle without our mark",
                &self.path,
                io::ErrorKind::PermissionDenied.into(),
            ));
        }
        let rootfs = self.path.join(bundle::ROOTFS);
        unmount_all(&rootfs)?;
        // Not the whole tree: whatever is still mounted there must not be emptied.
        match fs::remove_dir(&rootfs) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(Error::io("remove", rootfs, error));
            }
            _ => {}
        }
        let work = fs::read_link(self.path.join(bundle::WORK)).ok();
        remove_tree(&self.path)?;
        work.map_or(Ok(()), |work| remove_tree(&work))
    }
}

fn unmount_all(path: &Path) -> Result<(), Error> {
    for _ in 0..MOUNTS_MAX {
        match rustix::mount::unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            Ok(()) => {}
            // No mount (any more), no folder, or nobody who could have mounted.
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT | rustix::io::Errno::PERM) => {
                return Ok(());
            }
            Err(error) => return Err(Error::io("unmount", path, error.into())),
        }
    }
    Ok(())
}

/// Hides the folder first, so that a half-removed one is never taken for a whole one.
fn remove_tree(path: &Path) -> Result<(), Error> {
    let Some(name) = path.file_name() else {
        return Ok(());
    };
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    let hidden = path.with_file_name(hidden);
    let moved = rustix::fs::renameat_with(CWD, path, CWD, &hidden, RenameFlags::NOREPLACE);
    match moved {
        Ok(()) => {}
        Err(rustix::io::Errno::NOENT) => return Ok(()),
        Err(rustix::io::Errno::EXIST) => {
            clear(&hidden)?;
            rustix::fs::rename(path, &hidden)
                .map_err(|error| Error::io("hide", path, error.into()))?;
        }
        Err(error) => return Err(Error::io("hide", path, error.into())),
    }
    clear(&hidden)
}

fn clear(path: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::io("remove", path, error))
        }
        _ => Ok(()),
    }
}

fn make(path: &Path, mode: u32) -> io::Result<()> {
    DirBuilder::new().mode(mode).create(path)?;
    // The file mode creation mask may have taken bits away.
    fs::set_permissions(path, Permissions::from_mode(mode))
}

fn make_all(path: &Path, mode: u32) -> Result<(), Error> {
    DirBuilder::new()
        .mode(mode)
        .recursive(true)
        .create(path)
        .map_err(|error| Error::io("make", path, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bundle(folder: &Path) -> Bundle {
        Bundle::of(
            &folder.join("state"),
            &Namespace::new("n").unwrap(),
            &ContainerId::new("c").unwrap(),
        )
    }

    #[test]
    fn a_bundle_comes_and_goes() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        let bundle = bundle(folder.path());
        bundle.create(&root, Some(b"{ \"odd\":1 }")).unwrap();
        assert_eq!(
            bundle.read("config.json").unwrap().unwrap(),
            b"{ \"odd\":1 }"
        );
        assert_eq!(
            bundle.path.metadata().unwrap().permissions().mode() & 0o777,
            0o700
        );
        assert_eq!(
            fs::read_link(bundle.path.join("work")).unwrap(),
            root.join("n/c")
        );
        assert!(matches!(
            bundle.create(&root, None),
            Err(Error::AlreadyExists { .. })
        ));
        bundle.remove().unwrap();
        bundle.remove().unwrap();
        assert_eq!(
            fs::read_dir(folder.path().join("state/n")).unwrap().count(),
            0
        );
        assert_eq!(fs::read_dir(root.join("n")).unwrap().count(), 0);
    }

    #[test]
    fn a_foreign_bundle_is_never_removed() {
        let folder = tempfile::tempdir().unwrap();
        let bundle = bundle(folder.path());
        fs::create_dir_all(bundle.path.join("rootfs")).unwrap();
        assert!(bundle.remove().is_err());
        assert!(bundle.path.join("rootfs").exists());
    }

    #[test]
    fn a_remapped_root_may_pass() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("SKIPPED: needs root to give a folder away");
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let bundle = bundle(folder.path());
        let config = br#"{"linux":{"gidMappings":[{"containerID":0,"hostID":1000,"size":1}]}}"#;
        bundle
            .create(&folder.path().join("root"), Some(config))
            .unwrap();
        let metadata = bundle.path.metadata().unwrap();
        assert_eq!(metadata.permissions().mode() & 0o777, 0o710);
        assert_eq!(std::os::unix::fs::MetadataExt::gid(&metadata), 1000);
    }
}
