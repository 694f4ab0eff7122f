//! Order, filters and limits of the exchange.

use super::*;
use model::SystemClock;
use prost::encoding::{bool, btree_map, message, string};

fn exchange() -> Exchange {
    Exchange::new(Arc::new(SystemClock))
}

fn namespace(text: &str) -> Namespace {
    Namespace::new(text).unwrap()
}

fn any(name: &str, build: impl FnOnce(&mut Vec<u8>)) -> Any {
    let mut value = Vec::new();
    build(&mut value);
    Any {
        type_url: format!("containerd.events.{name}"),
        value,
    }
}

fn start(id: &str) -> Any {
    any("TaskStart", |out| string::encode(1, &id.to_owned(), out))
}

#[tokio::test]
async fn subscribers_get_what_they_ask_for_in_order_from_the_moment_they_ask() {
    let exchange = exchange();
    exchange
        .publish(&namespace("a"), "/tasks/start", start("early"))
        .unwrap();
    let mut all = exchange.subscribe::<&str>(&[]).unwrap();
    let mut one = exchange
        .subscribe(&["namespace==a,topic~=|^/tasks/|,event.container_id==c1"])
        .unwrap();
    for (ns, topic, id) in [
        ("a", "/tasks/start", "c1"),
        ("b", "/tasks/start", "c1"),
        ("a", "/tasks/start", "c2"),
        ("a", "/containers/x", "c1"),
        ("a", "/tasks/exit", "c1"),
    ] {
        exchange.publish(&namespace(ns), topic, start(id)).unwrap();
    }
    drop(exchange);
    let mut seen = Vec::new();
    while let Some(event) = all.recv().await {
        let event = event.unwrap();
        seen.push(format!("{}{}", event.namespace, event.topic));
    }
    assert_eq!(
        seen,
        [
            "a/tasks/start",
            "b/tasks/start",
            "a/tasks/start",
            "a/containers/x",
            "a/tasks/exit"
        ]
    );
    assert_eq!(one.recv().await.unwrap().unwrap().topic, "/tasks/start");
    assert_eq!(one.recv().await.unwrap().unwrap().topic, "/tasks/exit");
    assert!(one.recv().await.is_none());
}

#[tokio::test]
async fn a_slow_subscriber_is_cut_off_and_told_and_blocks_nobody() {
    let exchange = exchange();
    let mut slow = exchange.subscribe::<&str>(&[]).unwrap();
    for _ in 0..=QUEUE_EVENTS_MAX {
        exchange
            .publish(&namespace("a"), "/tasks/start", start("x"))
            .unwrap();
    }
    for _ in 0..QUEUE_EVENTS_MAX {
        assert!(slow.recv().await.unwrap().is_ok());
    }
    assert_eq!(slow.recv().await.unwrap().unwrap_err(), Error::Overflow);
    assert!(slow.recv().await.is_none());
    assert!(exchange.subscribers.lock().unwrap().is_empty());
}

#[test]
fn topics_are_checked() {
    let exchange = exchange();
    for (topic, reason) in [
        ("", "must not be empty"),
        ("tasks", "must start with '/'"),
        ("/", "must have at least one component"),
        ("/a//b", "failed validation on component \"\""),
        ("/a/b c", "failed validation on component \"b c\""),
    ] {
        let error = exchange
            .publish(&namespace("a"), topic, Any::default())
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("envelope topic {topic:?}: {reason}: invalid argument")
        );
    }
    assert!(exchange.subscribe(&["a=b"]).is_err());
}

#[test]
fn dropped_subscriptions_are_forgotten() {
    let exchange = exchange();
    drop(exchange.subscribe(&["topic==never"]).unwrap());
    exchange
        .publish(&namespace("a"), "/x", Any::default())
        .unwrap();
    assert!(exchange.subscribers.lock().unwrap().is_empty());
}

#[test]
fn fields_are_read_from_the_wire() {
    use model::filter::Fields;
    let labels: std::collections::BTreeMap<String, String> =
        [("a.b/c".to_owned(), "v".to_owned())].into();
    #[derive(Clone, PartialEq, prost::Message)]
    struct Runtime {
        #[prost(string, tag = "1")]
        name: String,
    }
    let create = any("ContainerCreate", |out| {
        string::encode(1, &"c".to_owned(), out);
        message::encode(
            3,
            &Runtime {
                name: "io.x".into(),
            },
            out,
        );
    });
    let update = any("ContainerUpdate", |out| {
        btree_map::encode(
            string::encode,
            string::encoded_len,
            string::encode,
            string::encoded_len,
            3,
            &labels,
            out,
        );
    });
    let io = any("TaskCreate", |out| {
        let mut inner = Vec::new();
        bool::encode(4, &true, &mut inner);
        prost::encoding::bytes::encode(4, &inner, out);
    });
    let mut damaged = create.clone();
    damaged.value = vec![10, 200];
    let mut foreign = create.clone();
    foreign.type_url = "types.googleapis.com/other.Thing".into();
    for (event, path, expected) in [
        (&create, &["event", "id"][..], Some("c")),
        (&create, &["event", "image"], None),
        (&create, &["event", "runtime", "name"], Some("io.x")),
        (&create, &["event"], None),
        (&update, &["event", "labels", "a", "b/c"], Some("v")),
        (&update, &["event", "labels", "other"], None),
        (&io, &["event", "io", "terminal"], Some("true")),
        (&damaged, &["event", "id"], None),
        (&foreign, &["event", "id"], None),
        (&create, &["timestamp"], None),
    ] {
        let envelope = Envelope {
            timestamp: model::Timestamp::UNIX_EPOCH,
            namespace: namespace("a"),
            topic: "/x".into(),
            event: event.clone(),
        };
        assert_eq!(envelope.field(path).as_deref(), expected, "{path:?}");
    }
}
