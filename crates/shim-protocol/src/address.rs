//! Where a shim listens.

use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;

/// The folder of shim sockets unless the daemon names another.
pub const SOCKET_DIR: &str = "/run/containerd/s";

/// Longest socket folder in bytes: the name has 64 and a socket path at most 107 characters.
pub const SOCKET_DIR_BYTES_MAX: usize = 42;

const SCHEME: &str = "unix://";

/// The address of the shim of a group: `unix://<dir>/<sha256 of "<daemon>/<namespace>/<group>" in hex>`.
///
/// `daemon` is the path of the daemon's gRPC socket, so that two daemons never share a shim.
pub fn of_group(dir: &str, daemon: &str, namespace: &str, group: &str) -> String {
    let path = clean(&format!("{daemon}/{namespace}/{group}"));
    let mut address = format!("{SCHEME}{}/", dir.trim_end_matches('/'));
    for byte in Sha256::digest(path.as_bytes()) {
        // Writing to a String cannot fail.
        let _infallible = write!(address, "{byte:02x}").is_ok();
    }
    address
}

/// The path in an address; `None` for a kind of address other than a unix socket path.
pub fn path(address: &str) -> Option<&str> {
    match address.strip_prefix(SCHEME) {
        Some(path) => Some(path),
        None if address.starts_with('/') => Some(address),
        None => None,
    }
}

/// The lexical form of a path: no empty, `.` or `..` parts where they can be resolved.
fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            ".." if rooted => {}
            _ => parts.push(part),
        }
    }
    let joined = parts.join("/");
    match (rooted, joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".to_owned(),
        (false, false) => joined,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_hashes_the_joined_path() {
        // printf %s /run/containerd/containerd.sock/default/c1 | sha256sum
        let expected = "unix:///run/containerd/s/d25aa4ef11a84e954e74a5bcff06557d0b6ea8d0c00243896f29826694bbd888";
        let address = of_group(
            SOCKET_DIR,
            "/run/containerd/containerd.sock",
            "default",
            "c1",
        );
        assert_eq!(address, expected);
        assert_eq!(
            address,
            of_group(
                "/run/containerd/s/",
                "/run//containerd/./containerd.sock",
                "default",
                "c1"
            )
        );
        assert_eq!(path(&address), address.strip_prefix("unix://"));
        assert_eq!(path("vsock://3:1"), None);
    }

    #[test]
    fn paths_are_cleaned_as_filepath_join_does() {
        for (from, to) in [
            ("/a/b/../c", "/a/c"),
            ("/../a", "/a"),
            ("a/../..", ".."),
            ("//a//b/", "/a/b"),
            ("", "."),
        ] {
            assert_eq!(clean(from), to, "{from}");
        }
    }
}
