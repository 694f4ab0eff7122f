//! Linux made safe: the only crate of the workspace that may contain `unsafe` outside the fork path of `oci-runtime`.

pub mod file;
pub mod lock;
pub mod tree;
