//! The one way in which image bytes move.
//!
//! ```text
//! registry ─► ingest file ─► blob            each layer by itself, a few beside each other
//!                 │ tail
//!                 └─► pipe ─► worker ─► snapshot     in the order of the layers, while the download runs
//! ```
//! A [`Transfer`] pulls an image into the [`Stores`] that it is given: content, names and snapshots. It asks the
//! snapshotter before a layer's first byte, so that one which has the layer already saves the download. The worker
//! reads the ingest file behind the download; a snapshot is committed only after the blob has its digest and the
//! unpacked stream its diff id. The image's name is written last: a pull that failed leaves no name and no
//! snapshot, only ingests that the next one goes on with.

mod apply;
mod error;
mod fetch;
mod flights;
mod keyed;
mod local;
mod progress;
mod pull;
mod request;
mod store;
mod tail;
mod unpack;
mod worker;

pub use apply::{Applied, Applier, Progressed, Session};
pub use error::Error;
pub use local::{LocalStores, release_interrupted};
pub use progress::{PROGRESS_MAX, Progress, ProgressStream, ref_key};
pub use pull::{Pulling, Transfer};
pub use request::{Config, ExtraReference, PullRequest, Source, Unpack};
pub use store::{Begin, Blobs, Names, Stores, Writing};
pub use worker::Worker;
