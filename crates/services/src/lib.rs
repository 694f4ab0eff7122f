//! One thin file per gRPC service: decode, one call, encode, map the error.
//!
//! Services hold no logic and no state of their own; [`scope::Scope`] reads the headers that every request has.

pub mod containers;
pub mod content;
pub mod diff;
pub mod events;
pub mod images;
pub mod introspection;
pub mod leases;
pub mod namespaces;
mod part;
pub mod scope;
pub mod snapshots;
pub mod streaming;
pub mod tasks;
pub mod transfer;
pub mod version;

pub use part::{Part, PartStatus};
