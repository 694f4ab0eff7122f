//! Linux made safe: the only crate of the workspace that may contain `unsafe` outside the fork path of `oci-runtime`.

pub mod beneath;
pub mod capability;
pub mod cgroup;
pub mod detached;
pub mod fdpass;
pub mod file;
pub mod landlock;
pub mod lock;
pub mod mount;
pub mod namespace;
pub mod pidfd;
pub mod poll;
pub mod proc;
pub mod process;
pub mod rlimit;
pub mod sandbox;
pub mod sealed;
pub mod signal;
pub mod spawn;
pub mod tree;
pub mod worker;
pub mod writeback;
pub mod xattr;
