//! Sockets: bound before anything is built, so that an address in use refuses the start at once.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// Longest path of a unix socket, in bytes (`unix(7)`).
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// Why a socket can't be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SocketError {
    /// Somebody serves there.
    #[error("address {path:?} is in use: another daemon answers on it; stop it, or give --address")]
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// Something that is no socket is in the way.
    #[error("address {path:?} exists and is no socket: move it away, or give --address")]
    NoSocket {
        /// The path.
        path: PathBuf,
    },
    /// The path does not fit into a socket address.
    #[error(
        "address {path:?} has more than {SOCKET_PATH_BYTES_MAX} bytes: give a shorter --address"
    )]
    TooLong {
        /// The path.
        path: PathBuf,
    },
    /// The system refused.
    #[error("listen on {path:?}")]
    Io {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Binds a socket of mode 0660 that belongs to the given user and group from its first moment on.
pub(crate) fn bind(path: &Path, uid: u32, gid: u32) -> Result<UnixListener, SocketError> {
    let failed = |source| SocketError::Io {
        path: path.to_owned(),
        source,
    };
    if path.as_os_str().len() > SOCKET_PATH_BYTES_MAX {
        return Err(SocketError::TooLong {
            path: path.to_owned(),
        });
    }
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(failed)?;
    }
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            return Err(SocketError::NoSocket {
                path: path.to_owned(),
            });
        }
        Ok(_) if UnixStream::connect(path).is_ok() => {
            return Err(SocketError::InUse {
                path: path.to_owned(),
            });
        }
        Ok(_) => fs::remove_file(path).map_err(failed)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    // Nobody but root may connect between bind and chmod.
    let before = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o177));
    let bound = UnixListener::bind(path);
    rustix::process::umask(before);
    let listener = bound.map_err(failed)?;
    chown(path, Some(uid), Some(gid)).map_err(failed)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o660)).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_live_socket_is_refused_a_stale_one_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.sock");
        let (uid, gid) = (
            rustix::process::geteuid().as_raw(),
            rustix::process::getegid().as_raw(),
        );
        let live = bind(&path, uid, gid).unwrap();
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o660
        );
        assert!(matches!(
            bind(&path, uid, gid),
            Err(SocketError::InUse { .. })
        ));
        drop(live);
        bind(&path, uid, gid).unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, "").unwrap();
        assert!(matches!(
            bind(&path, uid, gid),
            Err(SocketError::NoSocket { .. })
        ));
        assert!(matches!(
            bind(&folder.path().join("x".repeat(120)), uid, gid),
            Err(SocketError::TooLong { .. })
        ));
    }
}
