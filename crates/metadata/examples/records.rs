//! Creates and deletes container records, durably, at concurrency 1, 8 and 64; prints pairs a second.
//!
//! `cargo run --release -p metadata --example records -- <folder>`
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use metadata::{Any, Config, Container, Db, Runtime};
use model::{ContainerId, Namespace, SystemClock};

const LASTS: Duration = Duration::from_secs(3);
const SPEC_BYTES: usize = 8 << 10;

fn container(id: &str) -> Container {
    let runtime = Runtime {
        name: "io.containerd.runc.v2".into(),
        options: None,
    };
    let spec = Any {
        type_url: "types.containerd.io/opencontainers/runtime-spec/1/Spec".into(),
        value: vec![b'x'; SPEC_BYTES],
    };
    Container::new(ContainerId::new(id).unwrap(), runtime, spec)
}

#[tokio::main]
async fn main() {
    let folder = PathBuf::from(std::env::args_os().nth(1).expect("a folder"));
    let clock = Arc::new(SystemClock);
    let content = content::Local::open(folder.join("content"), Default::default(), clock.clone());
    let config = Config {
        path: folder.join("records.redb"),
        cache_bytes: 16 << 20,
    };
    let exchange = Arc::new(events::Exchange::new(clock.clone()));
    let db = Db::open(
        &config,
        Arc::new(content.unwrap()),
        Vec::new(),
        exchange,
        clock,
    );
    let db = db.await.unwrap();
    for concurrency in [1, 8, 64] {
        let begin = Instant::now();
        let workers: Vec<_> = (0..concurrency)
            .map(|worker| {
                let containers = db
                    .namespace(&Namespace::new("bench").unwrap(), None)
                    .containers();
                tokio::spawn(async move {
                    let mut pairs = 0u32;
                    while begin.elapsed() < LASTS {
                        let id = format!("c{worker}-{pairs}");
                        containers.create(container(&id)).await.unwrap();
                        containers.delete(&id).await.unwrap();
                        pairs += 1;
                    }
                    pairs
                })
            })
            .collect();
        let mut pairs = 0;
        for worker in workers {
            pairs += worker.await.unwrap();
        }
        let rate = f64::from(pairs) / begin.elapsed().as_secs_f64();
        println!("concurrency {concurrency}: {rate:.0} create+delete a second");
    }
}
