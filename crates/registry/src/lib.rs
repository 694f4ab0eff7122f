//! The OCI distribution protocol: resolve names and fetch content, with authentication and mirrors.
//!
//! A [`Client`] holds connections and limits; [`Client::repository`] joins it with one name, the [`Hosts`] that
//! serve it and the [`Credentials`] of one caller. Everything that a server says is untrusted: each answer has a
//! size limit and a time limit, manifests are compared with their digest before they are handed out, and a
//! [`Body`] never yields more bytes than its descriptor promises. Credentials and tokens go to the host that they
//! were given for, over the scheme that it was configured with, and appear in no error.

mod auth;
mod body;
mod challenge;
mod client;
mod config;
mod endpoint;
mod error;
pub mod hosts;
mod media;
mod repository;
mod retry;
#[cfg(feature = "testing")]
pub mod testing;
mod token;
mod verify;

pub use auth::{Anonymous, Credential, Credentials, Question, Secret};
pub use body::Body;
pub use client::Client;
pub use config::{Config, Proxies};
pub use error::Error;
pub use hosts::{Host, Hosts, Scheme};
pub use media::is_manifest;
pub use repository::{Repository, Resolved};
pub use verify::Hasher;
