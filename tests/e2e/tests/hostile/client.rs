//! Clients that break the rules of the API.

use client::Client;
use model::Namespace;
use proto::containerd::services::containers::v1::{
    Container, CreateContainerRequest, GetContainerRequest, ListContainersRequest,
};
use proto::containerd::services::content::v1::InfoRequest;
use proto::containerd::services::namespaces::v1::{
    CreateNamespaceRequest, ListNamespacesRequest, Namespace as WireNamespace,
};
use tonic::Code;

use crate::harness::{Daemon, root};

async fn connect(daemon: &Daemon) -> Client {
    let namespace = Namespace::new(daemon.namespace()).unwrap();
    Client::connect(&daemon.socket(), &namespace).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_out_of_order_get_their_code() {
    if !root("requests_out_of_order_get_their_code") {
        return;
    }
    let daemon = Daemon::start();
    let client = connect(&daemon).await;
    let get = |id: &str| GetContainerRequest { id: id.into() };
    let status = client.containers().get(get("nobody")).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound, "{status}");
    for id in ["", "../x", "a/b", "-a", "a b", &"x".repeat(77), "a\n"] {
        let container = Container {
            id: id.into(),
            runtime: Some(
                proto::containerd::services::containers::v1::container::Runtime {
                    name: "io.containerd.runc.v2".into(),
                    options: None,
                },
            ),
            spec: Some(proto::typeurl::pack_json("x", b"{}".to_vec())),
            ..Default::default()
        };
        let request = CreateContainerRequest {
            container: Some(container),
        };
        let status = client.containers().create(request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{id:?}: {status}");
    }
    let request = InfoRequest {
        digest: "sha256:../../etc/passwd".into(),
    };
    let status = client.content().info(request).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    let request = CreateNamespaceRequest {
        namespace: Some(WireNamespace {
            name: "big".into(),
            labels: [("k".to_owned(), "v".repeat(4096))].into(),
        }),
    };
    let status = client.namespaces().create(request).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    assert_eq!(daemon.hoist("ps -a -q").ok(), "");
    drop(client);
    daemon.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_need_a_namespace_that_is_one() {
    use api::containerd::services::containers::v1::containers_client::ContainersClient;
    if !root("requests_need_a_namespace_that_is_one") {
        return;
    }
    let daemon = Daemon::start();
    let socket = format!("unix://{}", daemon.socket().display());
    let channel = tonic::transport::Endpoint::try_from(socket).unwrap();
    let channel = channel.connect().await.unwrap();
    let mut containers = ContainersClient::new(channel);
    let list = ListContainersRequest::default;
    let status = containers.list(list()).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
    assert!(
        status.message().contains("namespace is required"),
        "{status}"
    );
    for bad in ["../etc", "a/b", "-", "a b", &"x".repeat(77)] {
        let mut request = tonic::Request::new(list());
        let value = bad.parse().unwrap();
        request.metadata_mut().insert("containerd-namespace", value);
        let status = containers.list(request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{bad}: {status}");
    }
    drop(containers);
    daemon.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn oversized_messages_are_refused() {
    if !root("oversized_messages_are_refused") {
        return;
    }
    let daemon = Daemon::start();
    let client = connect(&daemon).await;
    let sent = |size: usize| {
        let mut containers = client.containers().max_encoding_message_size(usize::MAX);
        let request = GetContainerRequest {
            id: "x".repeat(size),
        };
        async move { containers.get(request).await.unwrap_err() }
    };
    let status = sent(17 << 20).await;
    assert!(
        matches!(status.code(), Code::ResourceExhausted | Code::OutOfRange),
        "{status}"
    );
    // The connection and the daemon go on.
    let listed = client
        .namespaces()
        .list(ListNamespacesRequest::default())
        .await;
    listed.unwrap();
    let status = sent(1 << 20).await;
    assert_ne!(status.code(), Code::ResourceExhausted, "{status}");
    assert!(
        status.message().len() < 64 << 10,
        "{}",
        status.message().len()
    );
    drop(client);
    daemon.finish();
}
