//! Pulls into the daemon's own stores, unpacked by the real worker: this program run again.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "this program is its own test harness")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use jobs::Jobs;
use metadata::Db;
use model::{Clock, Kinded, Labels, Namespace, Platform, PlatformMatcher, Reference, SystemClock};
use registry::testing::{Entry, Fault, Image, Layer, Registry};
use registry::{Anonymous, Client, Hosts, Scheme};
use snapshots::Driver;
use sys::file::Files;
use transfer::{Config, LocalStores, PullRequest, Source, Transfer, Unpack, Worker};

fn main() -> ExitCode {
    if std::env::args_os()
        .next()
        .is_some_and(|name| name == "hoist-unpack")
    {
        let socket =
            sys::spawn::inherited(diff::worker::SOCKET).expect("the daemon's side passes a socket");
        return ExitCode::from(diff::worker::serve(&socket));
    }
    // Test runners ask a program without the usual harness which tests it has.
    if std::env::args().any(|argument| argument == "--list") {
        if !std::env::args().any(|argument| argument == "--ignored") {
            println!("local: test");
        }
        return ExitCode::SUCCESS;
    }
    if !rustix::process::geteuid().is_root() {
        println!("SKIPPED: local: unpacking as the daemon does needs root");
        return ExitCode::SUCCESS;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    for driver in ["native", "overlayfs"] {
        println!("test pulls_reach_the_disk over {driver}");
        runtime.block_on(pulls_reach_the_disk(driver));
        println!("test failures_leave_nothing over {driver}");
        runtime.block_on(failures_leave_nothing(driver));
    }
    ExitCode::SUCCESS
}

struct World {
    root: tempfile::TempDir,
    registry: Registry,
    db: Db,
    driver: String,
    namespace: Namespace,
    transfer: Transfer,
}

fn open_driver(name: &str, root: PathBuf) -> Arc<dyn Driver> {
    let files = Files::real();
    let removal = snapshots::Removal::Now;
    match name {
        "native" => Arc::new(
            snapshots::native::Native::open(root, snapshots::native::Config { files, removal })
                .unwrap(),
        ),
        _ => {
            let config = snapshots::overlay::Config {
                files,
                removal,
                upperdir_label: false,
                slow_chown: false,
                mount_options: Vec::new(),
            };
            Arc::new(snapshots::overlay::Overlay::open(root, config).unwrap())
        }
    }
}

impl World {
    async fn new(driver: &str) -> Self {
        let root = tempfile::tempdir().unwrap();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let content =
            content::Local::open(root.path().join("content"), Files::real(), clock.clone())
                .unwrap();
        let config = metadata::Config {
            path: root.path().join("hoist.redb"),
            cache_bytes: 1 << 20,
        };
        let drivers = vec![open_driver(driver, root.path().join("snapshots"))];
        let exchange = Arc::new(events::Exchange::new(clock.clone()));
        let db = Db::open(&config, Arc::new(content), drivers, exchange, clock.clone())
            .await
            .unwrap();
        let worker = Worker {
            unpacker: diff::Unpacker::from_path(&std::env::current_exe().unwrap()).unwrap(),
            limits: diff::Limits::default(),
            skip_devices: false,
        };
        Self {
            registry: Registry::start().await,
            driver: driver.into(),
            namespace: "default".parse().unwrap(),
            transfer: Transfer::new(Config::new(
                Arc::new(worker),
                Jobs::new(clock.clone()),
                clock,
            )),
            db,
            root,
        }
    }

    async fn request(&self, name: &str) -> PullRequest {
        let reference = Reference::parse(&self.registry.name(name)).unwrap();
        let hosts = Hosts::direct(self.registry.authority(), Some(Scheme::Http));
        let client = Client::new(registry::Config::default()).unwrap();
        let repository = client
            .repository(&reference, &hosts, &(Arc::new(Anonymous) as _))
            .unwrap();
        let local = LocalStores::open(&self.db, &self.namespace, None, &SystemClock)
            .await
            .unwrap();
        let host = PlatformMatcher::only(&Platform::host());
        PullRequest {
            namespace: self.namespace.clone(),
            identity: None,
            source: Source::Registry(repository),
            name: reference.to_string(),
            labels: Labels::new(),
            extra_references: Vec::new(),
            platforms: Some(host.clone()),
            all_metadata: false,
            manifest_limit: 0,
            unpacks: vec![Unpack {
                platform: host,
                name: self.driver.clone(),
                snapshotter: local.snapshotter(&self.driver).unwrap(),
                labels: Labels::new(),
            }],
            stores: local.stores(),
        }
    }

    /// Every snapshot folder that holds `path`.
    fn holders(&self, path: &str) -> Vec<PathBuf> {
        let below = |folder: &Path| [folder.join(path), folder.join("fs").join(path)];
        let folders = std::fs::read_dir(self.root.path().join("snapshots/snapshots")).unwrap();
        folders
            .flat_map(|folder| below(&folder.unwrap().path()))
            .filter(|path| path.symlink_metadata().is_ok())
            .collect()
    }

    fn snapshots(&self) -> usize {
        std::fs::read_dir(self.root.path().join("snapshots/snapshots"))
            .unwrap()
            .count()
    }
}

fn image() -> Image {
    let big: Vec<u8> = (0..3_000_000_u32)
        .map(|at| u8::try_from(at.wrapping_mul(2_654_435_761) >> 24).unwrap())
        .collect();
    Image {
        layers: vec![
            Layer::gzip(&[
                Entry::Folder("etc".into(), 0o755),
                Entry::File("etc/a".into(), 0o640, b"one".to_vec()),
                Entry::File("big".into(), 0o644, big),
            ]),
            Layer::gzip(&[
                Entry::File("etc/b".into(), 0o644, b"two".to_vec()),
                Entry::Symlink("link".into(), "etc/b".into()),
            ]),
            Layer::tar(&[Entry::File("etc/.wh.a".into(), 0, Vec::new())]),
        ],
        ..Image::default()
    }
}

async fn pulls_reach_the_disk(driver: &str) {
    let world = World::new(driver).await;
    let pushed = world.registry.push_image("app", "1", &image());
    let pulling = world.transfer.pull(world.request("app:1").await);
    let target = pulling
        .finish()
        .await
        .unwrap_or_else(|error| panic!("{}", model::chain(&*error)));
    drop(pulling);
    assert_eq!(target, pushed.manifest);
    let view = world.db.namespace(&world.namespace, None);
    let image = view.images().get(&world.registry.name("app:1")).unwrap();
    assert_eq!(image.target.digest, pushed.manifest.digest);
    for layer in &pushed.layers {
        assert_eq!(view.content().info(&layer.digest).unwrap().size, layer.size);
    }
    assert_eq!(std::fs::read(&world.holders("etc/b")[0]).unwrap(), b"two");
    assert_eq!(
        std::fs::metadata(&world.holders("big")[0]).unwrap().len(),
        3_000_000
    );

    // The collector finds nothing to take, and with the name gone takes all.
    let mut tries = 0;
    while !view.leases().list(&[]).unwrap().is_empty() {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        tries += 1;
        assert!(tries < 500, "the transfer's lease stays");
    }
    world.db.gc().run().await.unwrap();
    assert!(view.content().info(&pushed.layers[0].digest).is_ok());
    assert_eq!(world.snapshots(), 3);
    view.images().delete(&image.name, None).await.unwrap();
    world.db.gc().run().await.unwrap();
    assert!(view.content().info(&pushed.layers[0].digest).is_err());
    assert_eq!(world.snapshots(), 0);
}

async fn failures_leave_nothing(driver: &str) {
    for fault in [
        Fault::WrongBytes,
        Fault::Short(900),
        Fault::Status(404, vec![], String::new()),
    ] {
        let world = World::new(driver).await;
        let pushed = world.registry.push_image("app", "1", &image());
        world
            .registry
            .fault(format!("blobs/{}", pushed.layers[0].digest), fault.clone());
        let error = world
            .transfer
            .pull(world.request("app:1").await)
            .finish()
            .await
            .unwrap_err();
        assert_ne!(
            error.kind(),
            model::ErrorKind::Canceled,
            "{}",
            model::chain(&*error)
        );
        // Records are gone at once, folders with the next collection.
        world.db.gc().run().await.unwrap();
        assert_eq!(world.snapshots(), 0, "{fault:?}");
        let view = world.db.namespace(&world.namespace, None);
        assert!(view.images().list(&[]).unwrap().is_empty());
        world.registry.clear_faults();
        world
            .transfer
            .pull(world.request("app:1").await)
            .finish()
            .await
            .unwrap();
        assert_eq!(world.snapshots(), 3);
    }
}
