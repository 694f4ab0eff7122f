//! `containerd publish`: forwards one event for shims that call it.

use std::io::Read;
use std::path::Path;

use anyhow::Context;
use model::{Clock, SystemClock};
use prost::Message;
use prost_types::Any;
use proto::containerd::services::events::ttrpc::v1::ForwardRequest;
use proto::containerd::types::Envelope;
use ttrpc::client::{CallOptions, Client};

/// Largest event that is read.
const EVENT_BYTES_MAX: u64 = 4 << 20;

/// Reads an event from standard input and forwards it to the daemon at the address.
pub(crate) fn publish(address: &Path, namespace: &str, topic: &str) -> anyhow::Result<()> {
    let mut bytes = Vec::new();
    std::io::stdin()
        .take(EVENT_BYTES_MAX)
        .read_to_end(&mut bytes)
        .context("read the event from standard input")?;
    let event =
        Any::decode(bytes.as_slice()).context("read the event: not a google.protobuf.Any")?;
    let envelope = Envelope {
        timestamp: Some(api::to_wire::timestamp(SystemClock.now())),
        namespace: namespace.to_owned(),
        topic: topic.to_owned(),
        event: Some(event),
    };
    // Shims know the gRPC address; the ttrpc one stands beside it and needs no HTTP/2.
    let socket = format!("{}.ttrpc", address.display());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let client = Client::connect(&socket)
            .await
            .with_context(|| format!("connect to {socket}"))?;
        let request = ForwardRequest {
            envelope: Some(envelope),
        };
        let service = proto::containerd::services::events::ttrpc::v1::events_service::NAME;
        let _answered: () = client
            .call(
                service,
                "Forward",
                &request,
                CallOptions::namespace(namespace),
            )
            .await
            .context("forward the event")?;
        Ok(())
    })
}
