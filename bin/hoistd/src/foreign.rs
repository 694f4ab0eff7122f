//! Refuses folders that belong to another daemon, before a byte in them is changed (ARCHITECTURE, "Foreign data").

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

/// Our store in the root folder: its presence says that the folder is ours.
pub(crate) const STORE: &str = "hoist.redb";
/// containerd's store, relative to the root folder.
const FOREIGN_STORE: &str = "io.containerd.metadata.v1.bolt/meta.db";
/// Bundles, relative to the state folder.
pub(crate) const BUNDLES: &str = "io.containerd.runtime.v2.task";
/// Blobs, relative to the root folder.
const BLOBS: &str = "io.containerd.content.v1.content/blobs";
/// Overlay snapshots, relative to the root folder.
const SNAPSHOTS: &str = "io.containerd.snapshotter.v1.overlayfs/snapshots";

/// Why the folders can't be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ForeignError {
    /// Something in the folders was written by another daemon.
    #[error(
        "{path:?} was written by another daemon and {root:?} holds no hoist store: nothing was touched; \
         give hoistd folders of its own with --root and --state, or move the other daemon's data away"
    )]
    Records {
        /// What was found.
        path: PathBuf,
        /// The root folder that was asked for.
        root: PathBuf,
    },
    /// Another process holds the lock.
    #[error("{path:?} is locked: another daemon runs on {root:?}; stop it, or use another --root")]
    Locked {
        /// The locked file.
        path: PathBuf,
        /// The root folder.
        root: PathBuf,
    },
    /// The folders can't be examined or locked.
    #[error("examine {path:?}")]
    Io {
        /// What was examined.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

/// Checks both folders without changing them.
pub(crate) fn check(root: &Path, state: &Path) -> Result<(), ForeignError> {
    let store = root.join(STORE);
    if fs::symlink_metadata(&store).is_ok() {
        return Ok(());
    }
    let refuse = |path: PathBuf| {
        Err(ForeignError::Records {
            path,
            root: root.to_owned(),
        })
    };
    let meta = root.join(FOREIGN_STORE);
    // An empty file is the one that we make to hold the lock.
    if fs::metadata(&meta).is_ok_and(|meta| meta.len() > 0) {
        return refuse(meta);
    }
    for (folder, depth) in [
        (state.join(BUNDLES), 2),
        (root.join(SNAPSHOTS), 1),
        (root.join(BLOBS), 2),
    ] {
        if let Some(path) = first_at_depth(&folder, depth)? {
            return refuse(path);
        }
    }
    Ok(())
}

/// Finds one entry `depth` levels below a folder; hidden names are not records.
fn first_at_depth(folder: &Path, depth: usize) -> Result<Option<PathBuf>, ForeignError> {
    let failed = |source| ForeignError::Io {
        path: folder.to_owned(),
        source,
    };
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            return Ok(None);
        }
        Err(error) => return Err(failed(error)),
    };
    for entry in entries {
        let entry = entry.map_err(failed)?;
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let found = if depth == 1 {
            Some(entry.path())
        } else {
            first_at_depth(&entry.path(), depth - 1)?
        };
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

/// Holds the root folder for this process: our own lock, and containerd's, so that neither daemon starts beside the other.
#[derive(Debug)]
pub(crate) struct RootLock {
    _ours: File,
    _theirs: File,
}

/// Takes the locks; they end with the process.
pub(crate) fn lock(root: &Path) -> Result<RootLock, ForeignError> {
    let take = |path: PathBuf| -> Result<File, ForeignError> {
        let failed = |source| ForeignError::Io {
            path: path.clone(),
            source,
        };
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(failed)?;
        }
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(TryLockError::WouldBlock) => Err(ForeignError::Locked {
                path: path.clone(),
                root: root.to_owned(),
            }),
            Err(TryLockError::Error(error)) => Err(failed(error)),
        }
    };
    Ok(RootLock {
        _ours: take(root.join("hoist.lock"))?,
        _theirs: take(root.join(FOREIGN_STORE))?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_and_own_folders_are_taken_foreign_ones_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (root, state) = (folder.path().join("root"), folder.path().join("state"));
        assert!(check(&root, &state).is_ok());
        for foreign in [
            root.join(FOREIGN_STORE),
            state.join(BUNDLES).join("default/c1/config.json"),
            root.join(SNAPSHOTS).join("1/fs/x"),
            root.join(BLOBS).join("sha256/aa"),
        ] {
            fs::create_dir_all(foreign.parent().unwrap()).unwrap();
            fs::write(&foreign, "x").unwrap();
            assert!(
                matches!(check(&root, &state), Err(ForeignError::Records { .. })),
                "{foreign:?}"
            );
            fs::write(root.join(STORE), "")
                .or_else(|_| fs::create_dir_all(&root))
                .unwrap();
            fs::write(root.join(STORE), "").unwrap();
            assert!(check(&root, &state).is_ok());
            for gone in [&root, &state] {
                let _gone = fs::remove_dir_all(gone);
            }
        }
    }

    #[test]
    fn a_second_daemon_on_one_root_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let _held = lock(folder.path()).unwrap();
        assert!(matches!(
            lock(folder.path()),
            Err(ForeignError::Locked { .. })
        ));
        assert!(check(folder.path(), Path::new("/nonexistent")).is_ok());
    }
}
