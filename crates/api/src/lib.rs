//! gRPC services over `proto`, and the conversions between the wire and `model`.
//!
//! Modules follow the packages, as in `proto`: the trait that a server of `containerd.services.images.v1.Images`
//! implements is [`containerd::services::images::v1::images_server::Images`], its client
//! [`containerd::services::images::v1::images_client::ImagesClient`].

#[allow(
    clippy::all,
    clippy::use_self,
    clippy::needless_pass_by_value,
    clippy::allow_attributes_without_reason,
    missing_docs,
    missing_debug_implementations,
    unreachable_pub,
    rustdoc::all,
    reason = "generated code"
)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/services.rs"));
}

pub use generated::{containerd, grpc, runtime};
