//! Reading an image: index, manifest, configuration, platform, children.
//!
//! Documents come from registries and archives and are not trusted: [`Document::parse`] and [`Config::parse`]
//! refuse whatever two readers could understand differently (repeated keys, keys in another case, an index that is
//! a manifest as well, a type that contradicts the descriptor) and whatever exceeds a limit. A value of this crate
//! has valid digests and sizes, so that nobody who gets one has to look again. What only matters where a container
//! is run is checked there, with [`Config::check_runnable`].

mod chain;
mod children;
mod config;
mod document;
mod error;
pub mod media;
mod select;
mod strict;

pub use chain::chain_ids;
pub use children::{GcLabels, children, distribution_source, gc_labels};
pub use config::Config;
pub use document::{Document, Index, Manifest};
pub use error::Error;
pub use select::{Selected, config_of, limit, select, wanted};

/// Largest manifest, index or configuration in bytes.
pub const DOCUMENT_BYTES_MAX: u64 = 4 << 20;
/// Most entries of an index.
pub const MANIFESTS_MAX: usize = 1000;
/// Most layers of a manifest.
pub const LAYERS_MAX: usize = 500;
/// Deepest nesting of indexes.
pub const INDEX_DEPTH_MAX: usize = 8;
/// Most descriptors that one walk over an image visits.
pub const DESCRIPTORS_MAX: usize = 10_000;
