//! The OCI image and runtime specifications as values.
//!
//! Values are for reading and building: who must keep a digest or answer a client with what it stored keeps
//! the raw bytes beside the value. Fields that we do not know survive a round trip in the `extra` maps of the
//! objects that have one. Absent, `null` and empty lists read alike and are not written, as in Go's
//! `omitempty`; numbers that do not fit their field are refused, never cut.
//!
//! Nesting is bounded by `serde_json` (128 levels); sizes by [`parse`].

mod parse;
#[macro_use]
mod record;
pub mod image;
pub mod runtime;

pub use parse::{Error, IMAGE_JSON_BYTES_MAX, RUNTIME_JSON_BYTES_MAX, parse};

/// Fields that the specification of our version does not name, in their order.
pub type Extra = serde_json::Map<String, serde_json::Value>;
