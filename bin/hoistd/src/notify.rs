//! Tells the service manager how the daemon fares (`sd_notify(3)`).

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::PathBuf;

/// Where the service manager listens; absent outside of one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Notifier {
    socket: Option<PathBuf>,
}

impl Notifier {
    /// Takes the value of `NOTIFY_SOCKET`.
    pub(crate) fn new(socket: Option<PathBuf>) -> Self {
        Self { socket }
    }

    /// Sends a state such as `READY=1`. A service manager that is gone is logged: it changes nothing for us.
    pub(crate) fn send(&self, state: &str) {
        let Some(path) = &self.socket else { return };
        if let Err(error) = send(path, state) {
            tracing::warn!(socket = %path.display(), %error, "cannot notify the service manager");
        }
    }
}

fn send(path: &std::path::Path, state: &str) -> std::io::Result<()> {
    let text = path.as_os_str().as_encoded_bytes();
    let address = match text.strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(path)?,
    };
    UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_arrives() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        Notifier::new(Some(path)).send("READY=1");
        let mut buffer = [0; 64];
        let length = socket.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"READY=1");
    }
}
