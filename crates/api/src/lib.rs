//! gRPC services over `proto`, and the conversions between the wire and `model`.
//!
//! Modules follow the packages, as in `proto`: the trait that a server of `containerd.services.images.v1.Images`
//! implements is [`containerd::services::images::v1::images_server::Images`], its client
//! [`containerd::services::images::v1::images_client::ImagesClient`].

pub mod from_wire;
pub mod headers;
pub mod mask;
pub mod status;
pub mod to_wire;

#[allow(
    clippy::all,
    clippy::use_self,
    clippy::needless_pass_by_value,
    clippy::too_many_lines,
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

/// Largest message that a server or client takes or sends, in bytes; tonic's own limit for taking is 4 MiB.
pub const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// Gives a generated server or client our message limits: `limited!(ImagesServer::new(images))`.
#[macro_export]
macro_rules! limited {
    ($service:expr) => {
        $service
            .max_decoding_message_size($crate::MESSAGE_BYTES_MAX)
            .max_encoding_message_size($crate::MESSAGE_BYTES_MAX)
    };
}
