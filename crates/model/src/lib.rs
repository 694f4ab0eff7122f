//! The nouns of the runtime as values: no IO, no async, no wire.
//!
//! Every other crate speaks in these types. A value that exists is valid: constructors check, so that a
//! [`Digest`] can be joined to a path and a [`Namespace`] can be a folder name without another look.

mod descriptor;
mod digest;
mod error;
pub mod filter;
mod id;
mod labels;
mod mount;
mod platform;
pub mod reference;
mod time;

pub use descriptor::Descriptor;
pub use digest::{Algorithm, Digest, InvalidDigest};
pub use error::{ErrorKind, Kinded, chain};
pub use id::{ContainerId, ExecId, InvalidId, Namespace, SandboxId};
pub use labels::{InvalidLabel, LABEL_BYTES_MAX, Labels, check_label, check_labels};
pub use mount::Mount;
pub use platform::{InvalidPlatform, Platform, PlatformMatcher};
pub use reference::{InvalidReference, Reference};
pub use time::{Clock, SystemClock, Timestamp};
