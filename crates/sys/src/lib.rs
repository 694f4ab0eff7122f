//! Linux made safe: the only crate of the workspace that may contain `unsafe` outside the fork path of `oci-runtime`.

pub mod beneath;
pub mod cgroup;
pub mod fdpass;
pub mod file;
pub mod landlock;
pub mod lock;
pub mod sandbox;
pub mod sealed;
pub mod spawn;
pub mod tree;
pub mod xattr;
