//! Builds the daemon in dependency order. Reading [`assemble`] is reading the architecture.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use events::Exchange;
use jobs::Jobs;
use metadata::Db;
use metadata::gc::Schedule;
use model::{Clock, SystemClock};
use shims::{BuiltIn, Manager, Timeouts};
use snapshots::{Driver, Removal};
use sys::file::{Files, Point};
use sys::sealed::SealedImage;
use tasks::Tasks;
use tokio::task::JoinSet;

use crate::config::Config;
use crate::foreign::{BUNDLES, STORE};
use crate::ledger::Ledger;

/// The version that clients see: they choose their way to pull by it being at least 2.0.0, so it names the
/// version of containerd's API that is served, with ours as build metadata.
const API_VERSION: &str = concat!("2.3.0+hoist.", env!("CARGO_PKG_VERSION"));
/// Pages that the store may hold in memory.
const STORE_CACHE_BYTES: usize = 4 << 20;
/// The runtime names that mean our own shim.
const BUILT_IN_RUNTIMES: [&str; 2] = ["io.containerd.runc.v2", "io.containerd.hoist.v2"];
/// How often shims are compared with what we know of them.
const RECONCILE: Duration = Duration::from_secs(30);
/// Where the daemon's identity is written.
const IDENTITY: Point = Point::new("hoistd.uuid");
/// The folder of shim sockets when the state folder's name is too long for one.
const SOCKETS_ELSEWHERE: &str = "/run/hoist/s";

/// The parts of a built daemon.
pub(crate) struct Daemon {
    pub(crate) db: Arc<Db>,
    pub(crate) exchange: Arc<Exchange>,
    pub(crate) jobs: Jobs,
    pub(crate) tasks: Tasks,
    pub(crate) transfer: transfer::Transfer,
    pub(crate) registry: registry::Config,
    pub(crate) unpacker: diff::Unpacker,
    pub(crate) uuid: String,
    background: tokio::sync::Mutex<JoinSet<()>>,
}

/// Builds every part; nothing serves yet.
pub(crate) async fn assemble(config: &Config, ledger: &mut Ledger) -> anyhow::Result<Daemon> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let programs = programs()?;
    let jobs = Jobs::new(Arc::clone(&clock));
    let exchange = Arc::new(Exchange::new(Arc::clone(&clock)));
    ledger.ready("io.containerd.event.v1", "exchange");
    let db = Arc::new(stores(config, &exchange, &clock, ledger).await?);
    let unpacker = unpacker(&programs, ledger)?;
    let shims = Manager::new(
        shim_config(config, &programs)?,
        Arc::clone(&exchange),
        Arc::clone(&clock),
    );
    ledger.ready("io.containerd.shim.v1", "manager");
    let tasks = Tasks::new(
        shims.clone(),
        tasks::from_store(Db::clone(&db)),
        jobs.clone(),
        Arc::clone(&clock),
    );
    ledger
        .ready("io.containerd.runtime.v2", "task")
        .export("log-uri-schemes", "fifo,binary,binary-v2,file,cri-log");
    restore(&db, &shims).await;
    transfer::release_interrupted(&db).await?;
    let transfer = transfer(config, &unpacker, &jobs, &clock);
    ledger.ready("io.containerd.transfer.v1", "local");
    let registry = registry::Config {
        proxies: proxies(),
        ..registry::Config::default()
    };
    ledger.ready("io.containerd.streaming.v1", "manager");
    note_services(ledger);
    let uuid = uuid(config)?;
    let background = background(config, &db, &shims);
    Ok(Daemon {
        db,
        exchange,
        jobs,
        tasks,
        transfer,
        registry,
        unpacker,
        uuid,
        background: tokio::sync::Mutex::new(background),
    })
}

/// Blobs, snapshots, and the names for everything.
async fn stores(
    config: &Config,
    exchange: &Arc<Exchange>,
    clock: &Arc<dyn Clock>,
    ledger: &mut Ledger,
) -> anyhow::Result<Db> {
    let files = Files::real();
    let root = config.root.join("io.containerd.content.v1.content");
    let content = content::Local::open(&root, files.clone(), Arc::clone(clock))?;
    ledger
        .ready("io.containerd.content.v1", "content")
        .export("root", root.display().to_string());
    let drivers = drivers(config, &files, ledger)?;
    let store = metadata::Config {
        path: config.root.join(STORE),
        cache_bytes: STORE_CACHE_BYTES,
    };
    let (exchange, clock) = (Arc::clone(exchange), Arc::clone(clock));
    let db = Db::open(&store, Arc::new(content), drivers, exchange, clock).await?;
    ledger
        .ready("io.containerd.metadata.v1", "bolt")
        .export("policy", "shared")
        .export("path", store.path.display().to_string());
    ledger.ready("io.containerd.gc.v1", "scheduler");
    ledger.ready("io.containerd.lease.v1", "manager");
    Ok(db)
}

fn unpacker(programs: &Programs, ledger: &mut Ledger) -> anyhow::Result<diff::Unpacker> {
    let image = SealedImage::from_path(&programs.unpack)
        .with_context(|| format!("load {}", programs.unpack.display()))?;
    ledger.ready("io.containerd.differ.v1", "walking");
    Ok(diff::Unpacker::new(image))
}

fn transfer(
    config: &Config,
    unpacker: &diff::Unpacker,
    jobs: &Jobs,
    clock: &Arc<dyn Clock>,
) -> transfer::Transfer {
    let applier = Arc::new(transfer::Worker {
        unpacker: unpacker.clone(),
        limits: diff::Limits::default(),
        skip_devices: false,
    });
    let mut settings = transfer::Config::new(applier, jobs.clone(), Arc::clone(clock));
    settings.max_concurrent_downloads = config.transfer.max_concurrent_downloads;
    transfer::Transfer::new(settings)
}

/// The snapshot drivers that this host can run.
fn drivers(
    config: &Config,
    files: &Files,
    ledger: &mut Ledger,
) -> anyhow::Result<Vec<Arc<dyn Driver>>> {
    const KIND: &str = "io.containerd.snapshotter.v1";
    let mut drivers: Vec<Arc<dyn Driver>> = Vec::new();
    if ledger.wants(KIND, "overlayfs") {
        let root = config
            .overlay
            .root_path
            .clone()
            .unwrap_or_else(|| config.root.join(format!("{KIND}.overlayfs")));
        let settings = snapshots::overlay::Config {
            files: files.clone(),
            removal: if config.overlay.sync_remove {
                Removal::Now
            } else {
                Removal::AtCleanup
            },
            upperdir_label: config.overlay.upperdir_label,
            slow_chown: config.overlay.slow_chown,
            mount_options: config.overlay.mount_options.clone(),
        };
        match snapshots::overlay::Overlay::open(&root, settings) {
            Ok(driver) => {
                ledger
                    .ready(KIND, "overlayfs")
                    .export("root", root.display().to_string())
                    .capable(driver.capabilities().iter().copied());
                drivers.push(Arc::new(driver));
            }
            Err(error) => ledger.skipped(KIND, "overlayfs", &model::chain(&error)),
        }
    }
    if ledger.wants(KIND, "native") {
        let root = config.root.join(format!("{KIND}.native"));
        let driver = snapshots::native::Native::open(
            &root,
            snapshots::native::Config {
                files: files.clone(),
                removal: Removal::AtCleanup,
            },
        )?;
        ledger
            .ready(KIND, "native")
            .export("root", root.display().to_string());
        drivers.push(Arc::new(driver));
    }
    Ok(drivers)
}

/// The programs beside our own.
struct Programs {
    own: PathBuf,
    shim: PathBuf,
    unpack: PathBuf,
}

fn programs() -> anyhow::Result<Programs> {
    let own = std::env::current_exe().context("find our own program")?;
    Ok(Programs {
        shim: own.with_file_name("hoist-shim"),
        unpack: own.with_file_name("hoist-unpack"),
        own,
    })
}

#[expect(clippy::disallowed_methods, reason = "a program reads its environment")]
fn shim_config(config: &Config, programs: &Programs) -> anyhow::Result<shims::Config> {
    let image = SealedImage::from_path(&programs.shim)
        .with_context(|| format!("load {}", programs.shim.display()))?;
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut search_path: Vec<PathBuf> = std::env::split_paths(&path).collect();
    search_path.extend(programs.own.parent().map(PathBuf::from));
    let mut environment: Vec<(OsString, OsString)> = vec![("PATH".into(), path)];
    environment.extend(config.shim_env.iter().filter_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        Some((key.into(), value.into()))
    }));
    let sockets = config.state.join("s");
    let short = sockets.as_os_str().len() <= shim_protocol::address::SOCKET_DIR_BYTES_MAX;
    Ok(shims::Config {
        state: config.state.join(BUNDLES),
        root: config.root.join(BUNDLES),
        socket_dir: if short {
            sockets
        } else {
            SOCKETS_ELSEWHERE.into()
        },
        grpc_address: config.address.display().to_string(),
        ttrpc_address: config.ttrpc_address.display().to_string(),
        daemon_binary: programs.own.clone(),
        daemon_version: API_VERSION.to_owned(),
        debug: matches!(config.log_level.as_str(), "debug" | "trace"),
        environment,
        search_path,
        built_in: Some(BuiltIn {
            image: Arc::new(image),
            names: BUILT_IN_RUNTIMES.map(str::to_owned).to_vec(),
        }),
        timeouts: Timeouts::UPSTREAM,
    })
}

/// Proxies for registries, from the usual variables.
#[expect(clippy::disallowed_methods, reason = "a program reads its environment")]
fn proxies() -> registry::Proxies {
    let read = |names: [&str; 2]| {
        names
            .into_iter()
            .find_map(|name| std::env::var(name).ok())
            .filter(|value| !value.is_empty())
    };
    registry::Proxies {
        http: read(["http_proxy", "HTTP_PROXY"]),
        https: read(["https_proxy", "HTTPS_PROXY"]),
        no_proxy: read(["no_proxy", "NO_PROXY"]),
    }
}

/// Finds the shims of an earlier run.
async fn restore(db: &Arc<Db>, shims: &Manager) {
    let restored = shims.restore(tasks::known_to_store(Db::clone(db))).await;
    if restored != shims::Restored::default() {
        tracing::info!(
            alive = restored.alive,
            dead = restored.dead,
            unclear = restored.unclear,
            foreign = restored.foreign,
            "found tasks of an earlier run"
        );
    }
}

/// What goes on by itself.
fn background(config: &Config, db: &Arc<Db>, shims: &Manager) -> JoinSet<()> {
    let mut background = JoinSet::new();
    let shims = shims.clone();
    background.spawn(async move {
        let mut ticks = tokio::time::interval(RECONCILE);
        ticks.tick().await;
        loop {
            ticks.tick().await;
            shims.reconcile().await;
        }
    });
    let gc = db.gc();
    let schedule = Schedule {
        pause_threshold: config.gc.pause_threshold,
        deletion_threshold: config.gc.deletion_threshold,
        mutation_threshold: config.gc.mutation_threshold,
        schedule_delay: config.gc.schedule_delay,
        startup_delay: config.gc.startup_delay,
    };
    background.spawn(async move { gc.schedule(schedule).await });
    background
}

/// The gRPC fronts, which come with the parts behind them.
fn note_services(ledger: &mut Ledger) {
    for id in [
        "containers",
        "content",
        "diff",
        "images",
        "introspection",
        "namespaces",
        "snapshots",
        "tasks",
    ] {
        ledger.ready("io.containerd.service.v1", &format!("{id}-service"));
    }
    let fronts = [
        "containers",
        "content",
        "diff",
        "events",
        "healthcheck",
        "images",
        "introspection",
        "leases",
        "namespaces",
        "snapshots",
        "streaming",
        "tasks",
        "transfer",
        "version",
    ];
    for id in fronts {
        ledger.ready("io.containerd.grpc.v1", id);
    }
    for id in ["mounts", "sandbox-controllers", "sandboxes", "cri"] {
        ledger.skipped("io.containerd.grpc.v1", id, "not built in this version");
    }
}

/// The daemon's identity, kept over restarts.
fn uuid(config: &Config) -> anyhow::Result<String> {
    let path = config.root.join("io.containerd.grpc.v1.introspection/uuid");
    match std::fs::read_to_string(&path) {
        Ok(text) if text.len() == 36 => return Ok(text),
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| format!("read {}", path.display())),
    }
    let uuid = std::fs::read_to_string("/proc/sys/kernel/random/uuid").context("make a uuid")?;
    let uuid = uuid.trim().to_owned();
    let folder = path.parent().context("the uuid lies in a folder")?;
    let files = Files::real();
    files.make_dir_all(IDENTITY, folder, 0o700)?;
    files.atomic_write(IDENTITY, &path, uuid.as_bytes(), 0o600)?;
    Ok(uuid)
}

impl Daemon {
    /// The gRPC services.
    pub(crate) fn routes(
        &self,
        parts: Vec<services::Part>,
        config: &Config,
    ) -> tonic::service::Routes {
        crate::routes::routes(self, parts, config)
    }

    /// The ttrpc services, for shims.
    pub(crate) fn ttrpc(&self) -> ttrpc::server::Server {
        crate::routes::ttrpc(self.tasks.shims().clone())
    }

    /// The version that clients see.
    pub(crate) fn version() -> &'static str {
        API_VERSION
    }

    /// Writes jobs and tasks to the log.
    pub(crate) async fn dump(&self) {
        let jobs = self.jobs.list();
        tracing::info!(count = jobs.len(), "dump of jobs");
        for job in jobs {
            tracing::info!(job = ?job, "job");
        }
        let shims = self.tasks.shims().list(None);
        tracing::info!(count = shims.len(), "dump of tasks");
        for shim in shims {
            tracing::info!(namespace = %shim.namespace(), id = %shim.id(), bundle = ?shim.bundle(), "task");
        }
    }

    /// Ends what goes on by itself.
    pub(crate) async fn stop(&self) {
        self.background.lock().await.shutdown().await;
    }
}
