//! The daemon's side of the shim contract: starts shims, finds them again, talks to them, and turns their deaths into
//! events.
//!
//! A [`Manager`] knows one [`Shim`] per task. Ours is started straight from a sealed image; others are found by name
//! and started as the contract of containerd says. Whatever happens to a shim concerns its tasks only: every call has
//! a limit, no lock is held across a call, and tasks are restored beside each other.
//!
//! What is true stands on disk and in the kernel, and events only hurry the news: a dead shim's exit status comes from
//! the exit record that it wrote before it sent anything. A bundle without our mark is never removed.
//!
//! ```text
//! <state>/<namespace>/<id>/        the bundle (shim-protocol, bundle)
//! <state>/<namespace>/<id>/hoist   our mark: empty, written first, so that a crash at any point leaves it
//! <root>/<namespace>/<id>/         `work` of the bundle
//! <state>/<namespace>/.<id>/       a bundle on its way out
//! ```

mod bundle;
mod calls;
mod config;
mod connection;
mod death;
mod direct;
mod error;
mod exits;
mod external;
mod log;
mod manager;
mod runtime;
mod shim;

pub use bundle::Bundle;
pub use calls::{Connected, Process, Stdio};
pub use config::{BuiltIn, Config, Timeouts};
pub use error::Error;
pub use exits::Exit;
pub use manager::{Manager, Restored, StartRequest};
pub use runtime::{Program, Runtime, resolve};
pub use shim::Shim;
