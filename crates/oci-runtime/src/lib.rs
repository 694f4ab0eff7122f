//! The OCI runtime: create, start, exec, kill, pause, delete of one container from a bundle.
