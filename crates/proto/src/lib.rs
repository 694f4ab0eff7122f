//! The wire messages of the containerd, shim and CRI interfaces, from our own `.proto` text.
//!
//! Modules follow the packages: `containerd.services.images.v1.Image` is
//! [`containerd::services::images::v1::Image`]. Packages, names and numbers are those of containerd's API 2.3 and of
//! CRI v1; `golden/api.txt` lists them and a test holds it. There is no gRPC in here: each service has a module
//! `<service>_service` with its name and one type per [`Method`], which is all that ttrpc needs, and the `api` crate
//! adds gRPC.
//!
//! Nothing is initialised at start and no table is linked unless it is used: the shim counts its private memory.

pub mod typeurl;

#[allow(
    clippy::all,
    clippy::use_self,
    clippy::needless_pass_by_value,
    missing_docs,
    rustdoc::all,
    reason = "generated code"
)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/messages.rs"));
}

pub use generated::{containerd, google, grpc, io, runtime, runtimeoptions};
pub use prost_types::{Any, FieldMask, Timestamp};

/// A method of a service, as a type without values.
pub trait Method {
    /// The full name of the service, such as `containerd.task.v3.Task`.
    const SERVICE: &'static str;
    /// The name of the method within the service, such as `Create`.
    const NAME: &'static str;
    /// Whether the client sends any number of requests.
    const CLIENT_STREAMING: bool;
    /// Whether the server sends any number of responses.
    const SERVER_STREAMING: bool;
    /// The message asked with; `()` stands for `google.protobuf.Empty`.
    type Request: prost::Message + Default;
    /// The message answered with; `()` stands for `google.protobuf.Empty`.
    type Response: prost::Message + Default;
}
