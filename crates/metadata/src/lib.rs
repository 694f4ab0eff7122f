//! Names for everything: one transactional store of namespaced records, leases and garbage collection.
//!
//! One file holds every record, so that no crash leaves two stores disagreeing. One thread writes: it commits all
//! waiting mutations with one sync and answers after it. Reads run on a view of one moment and never wait.
//! No work on files happens inside a transaction. Ids are never used twice.

mod codec;
mod containers;
mod content;
mod db;
mod error;
pub mod gc;
mod images;
mod key;
mod leases;
mod message;
mod namespaces;
mod owner;
mod pins;
mod reconcile;
mod record;
mod sandboxes;
mod snapshots;

pub use self::content::{Content, ContentInfo, Sharing, Writer};
pub use self::snapshots::Snapshots;
pub use containers::{Container, Containers};
pub use db::{Config, Db, View};
pub use error::Error;
pub use events::Any;
pub use images::{Image, Images};
pub use leases::{Lease, Leases, Resource};
pub use namespaces::Namespaces;
pub use reconcile::Reconciled;
pub use record::Runtime;
pub use sandboxes::{Sandbox, Sandboxes};

#[cfg(test)]
mod tests;
