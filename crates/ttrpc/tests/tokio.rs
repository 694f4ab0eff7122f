//! Client and server of the tokio drivers against each other.
#![cfg(feature = "tokio")]
#![allow(clippy::unwrap_used, reason = "a failed assumption fails the test")]

use model::{ErrorKind, Kinded};
use std::time::Duration;
use tokio::net::UnixStream;
use ttrpc::client::{CallOptions, Client};
use ttrpc::server::{Call, Peers, Server};
use ttrpc::{KeyValue, Status};

async fn echo(call: Call) -> Result<Vec<u8>, Status> {
    match call.method.as_str() {
        "Echo" => Ok(call.payload),
        "Slow" => {
            let delay = u64::from(call.argument::<KeyValue>()?.value.len() as u32);
            tokio::time::sleep(Duration::from_millis(delay)).await;
            Ok(call.payload)
        }
        "Namespace" => {
            let value = call.namespace().unwrap_or_default().to_owned();
            Ok(prost::Message::encode_to_vec(&KeyValue {
                key: String::new(),
                value,
            }))
        }
        "Big" => Ok(vec![0; 5 << 20]),
        method => Err(Status::unimplemented("test.Echo", method)),
    }
}

fn pair() -> Client {
    let (near, far) = UnixStream::pair().unwrap();
    tokio::spawn(async move {
        Server::new(Peers::Any)
            .service("test.Echo", echo)
            .serve_connection(far)
            .await;
    });
    Client::new(near)
}

fn word(value: &str) -> KeyValue {
    KeyValue {
        key: "k".into(),
        value: value.into(),
    }
}

#[tokio::test]
async fn calls_pass_each_other() {
    let client = pair();
    let long = word(&"x".repeat(200));
    let slow = client.call::<_, KeyValue>("test.Echo", "Slow", &long, CallOptions::default());
    let fast = async {
        for count in 0..100 {
            let sent = word(&count.to_string());
            let got: KeyValue = client
                .call("test.Echo", "Echo", &sent, CallOptions::default())
                .await
                .unwrap();
            assert_eq!(got, sent);
        }
        tokio::time::Instant::now()
    };
    let slow = async {
        slow.await.unwrap();
        tokio::time::Instant::now()
    };
    let (slow, fast) = tokio::join!(slow, fast);
    assert!(fast < slow);
}

#[tokio::test]
async fn failures_keep_their_kind() {
    let client = pair();
    let options = CallOptions::namespace("blue").timeout(Duration::from_millis(50));
    let got: KeyValue = client
        .call("test.Echo", "Namespace", &word(""), options.clone())
        .await
        .unwrap();
    assert_eq!(got.value, "blue");
    for (service, method, kind) in [
        ("test.Echo", "Nothing", ErrorKind::Unimplemented),
        ("test.Nobody", "Echo", ErrorKind::Unimplemented),
        ("test.Echo", "Big", ErrorKind::ResourceExhausted),
        ("test.Echo", "Slow", ErrorKind::DeadlineExceeded),
    ] {
        let error = client
            .call::<_, KeyValue>(service, method, &word(&"x".repeat(5000)), options.clone())
            .await
            .unwrap_err();
        assert_eq!(error.kind(), kind, "{service} {method}: {error}");
    }
}

#[tokio::test]
async fn a_lost_peer_ends_every_call() {
    let (near, far) = UnixStream::pair().unwrap();
    let client = Client::new(near);
    let waiting = {
        let client = client.clone();
        tokio::spawn(async move {
            client
                .call::<_, KeyValue>("a", "b", &word(""), CallOptions::default())
                .await
        })
    };
    tokio::time::sleep(Duration::from_millis(20)).await;
    drop(far);
    assert_eq!(
        waiting.await.unwrap().unwrap_err().kind(),
        ErrorKind::Unavailable
    );
    client.closed().await;
    assert!(client.is_closed());
}
