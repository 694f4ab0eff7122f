//! Layers to file systems.
//!
//! A layer is data that nobody vouches for. [`Unpacker`] starts a worker program for it ([`worker`]) that gives up
//! all rights it does not need before it reads the first byte; the worker inflates ([`compression`]), reads the archive
//! ([`tar`]) and applies it ([`apply`]) to folders it was handed as descriptors. It never sees a path of the host.

pub mod apply;
pub mod compression;
mod error;
mod limits;
pub mod tar;
mod target;
mod unpacker;
mod wire;
pub mod worker;

pub use apply::Progress;
pub use error::Error;
pub use limits::{
    LINKS_MAX, Limits, NAME_BYTES_MAX, PARENTS_MAX, PATH_BYTES_MAX, SPECIAL_BYTES_MAX,
    SPECIAL_HEADERS_MAX, XATTR_BYTES_MAX, XATTRS_MAX, ZSTD_WINDOW_LOG_MAX,
};
pub use target::Target;
pub use unpacker::{Applied, ApplyRequest, Canceller, Durability, Session, Unpacker};
