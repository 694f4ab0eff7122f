//! ttrpc: the small remote procedure call protocol between a container daemon and its shims.
//!
//! [`codec`] turns bytes into frames and back and knows no IO. [`sync`] holds the buffers of one non-blocking
//! connection for a program with its own event loop. [`client`] and [`server`] (feature `tokio`) drive the same
//! frames asynchronously. Calls are unary; a stream is refused as unimplemented.
//!
//! A frame is ten bytes of header and up to [`codec::PAYLOAD_BYTES_MAX`] of payload
//! (ttrpc `PROTOCOL.md`, "Message Frame").

pub mod codec;
pub mod message;
pub mod sync;

#[cfg(feature = "tokio")]
pub mod client;
#[cfg(feature = "tokio")]
pub mod server;

pub use codec::{Frame, Header, Kind, ProtocolError};
pub use message::{Code, KeyValue, Request, Response, Status};

/// Metadata key under which callers pass the namespace.
pub const NAMESPACE_KEY: &str = "containerd-namespace-ttrpc";
