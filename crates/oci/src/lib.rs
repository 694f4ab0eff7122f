//! From an image's configuration and options to a runtime specification. Pure: no file, host or network is read.
//!
//! A specification is a [`Chain`]: build the defaults of containerd's `oci` package, adjust them step by step, validate
//! once at the end. Devices of the host, users of the root file system and the daemon's own capabilities come in as
//! values.

mod capabilities;
mod chain;
mod defaults;
mod environment;
mod error;
mod options;
pub mod seccomp;
pub mod user;
mod validate;

#[cfg(test)]
mod tests;

pub use capabilities::{DEFAULT as DEFAULT_CAPABILITIES, KNOWN as KNOWN_CAPABILITIES};
pub use chain::Chain;
pub use defaults::{DEFAULT_PATH, defaults};
pub use environment::merge as merge_environment;
pub use error::Error;
pub use options::{
    HostDevice, Options, Privileges, SeccompChoice, apply_image, apply_options, image_user,
};
pub use validate::validate;
