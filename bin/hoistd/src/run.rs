//! The daemon's life: take the folders, bind, build, serve, drain, end.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::net::UnixListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio_stream::wrappers::UnixListenerStream;

use crate::assemble::{Daemon, assemble};
use crate::config::{Config, Identity};
use crate::ledger::Ledger;
use crate::notify::Notifier;
use crate::{foreign, servers};

/// Time that requests under way have to end after SIGTERM.
const DRAIN: Duration = Duration::from_secs(5);
/// Time for the parts to end after that.
const STOP: Duration = Duration::from_secs(5);
/// Streams that one client connection may have open.
const STREAMS_MAX: u32 = 4096;
/// Streams reset before they were served, after which a connection is closed (CVE-2023-44487).
const RESETS_MAX: usize = 256;
/// Flow-control windows: large enough that content streams run at the speed of the disk.
const WINDOW_BYTES: u32 = 4 << 20;

/// Runs the daemon to its end.
#[expect(clippy::disallowed_methods, reason = "a program reads its environment")]
pub(crate) fn run(config: &Config, identity: Identity) -> anyhow::Result<()> {
    let began = Instant::now();
    foreign::check(&config.root, &config.state)?;
    make_folders(config)?;
    let _lock = foreign::lock(&config.root)?;
    prepare_process(config);
    let grpc = servers::bind(&config.address, config.uid, config.gid)?;
    let ttrpc = servers::bind(&config.ttrpc_address, config.uid, config.gid)?;
    let notifier = Notifier::new(std::env::var_os("NOTIFY_SOCKET").map(PathBuf::from));
    tracing::info!(version = env!("CARGO_PKG_VERSION"), root = %config.root.display(), "starting {}", identity.word());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .max_blocking_threads(64)
        .thread_name("hoistd")
        .build()
        .context("start the threads")?;
    let ended = runtime.block_on(async {
        let mut ledger = Ledger::new(
            config.disabled_plugins.clone(),
            config.required_plugins.clone(),
        );
        let daemon = assemble(config, &mut ledger).await?;
        let parts = ledger.close()?;
        serve(
            daemon,
            parts,
            config,
            UnixListener::from_std(grpc)?,
            UnixListener::from_std(ttrpc)?,
            &notifier,
            began,
        )
        .await
    });
    // Blocking work that outlasts every limit must not keep the process.
    runtime.shutdown_timeout(Duration::from_secs(1));
    for path in [&config.address, &config.ttrpc_address] {
        if let Err(error) = fs::remove_file(path) {
            tracing::warn!(path = %path.display(), %error, "cannot remove the socket");
        }
    }
    tracing::info!("{} stopped", identity.word());
    ended
}

async fn serve(
    daemon: Daemon,
    parts: Vec<services::Part>,
    config: &Config,
    grpc: UnixListener,
    ttrpc: UnixListener,
    notifier: &Notifier,
    began: Instant,
) -> anyhow::Result<()> {
    let (stop, stopped) = watch::channel(false);
    let routes = daemon.routes(parts, config);
    let grpc_server = tonic::transport::Server::builder()
        .max_concurrent_streams(STREAMS_MAX)
        .http2_max_pending_accept_reset_streams(Some(RESETS_MAX))
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .add_routes(routes)
        .serve_with_incoming_shutdown(UnixListenerStream::new(grpc), flagged(stopped.clone()));
    let grpc_task = tokio::spawn(grpc_server);
    let ttrpc_task = tokio::spawn(daemon.ttrpc().serve(ttrpc, flagged(stopped)));
    notifier.send("READY=1");
    tracing::info!(
        "successfully booted in {:.6}s",
        began.elapsed().as_secs_f64()
    );
    wait_for_end(&daemon).await?;
    notifier.send("STOPPING=1");
    tracing::info!("draining: containers go on");
    let _all_servers_gone = stop.send(true);
    if tokio::time::timeout(DRAIN, async { tokio::join!(grpc_task, ttrpc_task) })
        .await
        .is_err()
    {
        tracing::warn!(limit = ?DRAIN, "requests still under way are cut off");
    }
    if tokio::time::timeout(STOP, daemon.stop()).await.is_err() {
        tracing::warn!(limit = ?STOP, "the parts did not end in time");
    }
    Ok(())
}

async fn flagged(mut stopped: watch::Receiver<bool>) {
    // An error means that the sender is gone, which ends the daemon all the same.
    let _sender_gone = stopped.wait_for(|stopped| *stopped).await;
}

/// Answers signals until one of them ends the daemon.
async fn wait_for_end(daemon: &Daemon) -> anyhow::Result<()> {
    let on = |kind| -> anyhow::Result<Signal> { signal(kind).context("watch for signals") };
    let mut terminate = on(SignalKind::terminate())?;
    let mut interrupt = on(SignalKind::interrupt())?;
    let mut dump = on(SignalKind::user_defined1())?;
    let mut hangup = on(SignalKind::hangup())?;
    let mut pipe = on(SignalKind::pipe())?;
    loop {
        tokio::select! {
            _ = terminate.recv() => { tracing::info!("received SIGTERM"); return Ok(()) }
            _ = interrupt.recv() => { tracing::info!("received SIGINT"); return Ok(()) }
            _ = dump.recv() => daemon.dump().await,
            _ = hangup.recv() => tracing::info!("received SIGHUP: no setting can change while running; restart to read the configuration anew"),
            _ = pipe.recv() => {}
        }
    }
}

/// Makes the folders of the daemon: the root is closed to other users, the state can be passed through.
fn make_folders(config: &Config) -> anyhow::Result<()> {
    for (path, mode) in [(&config.root, 0o700), (&config.state, 0o711)] {
        make_folder(path, mode).with_context(|| format!("make folder {path:?}"))?;
    }
    Ok(())
}

fn make_folder(path: &Path, mode: u32) -> std::io::Result<()> {
    DirBuilder::new().recursive(true).mode(mode).create(path)?;
    let folder = fs::File::open(path)?;
    folder.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(mode))
}

/// Limits and scores of the process; a restricted host refuses some, which is said and changes nothing else.
fn prepare_process(config: &Config) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let files = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: files.maximum,
            maximum: files.maximum,
        },
    ) {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
    if config.oom_score != 0
        && let Err(error) = fs::write("/proc/self/oom_score_adj", config.oom_score.to_string())
    {
        tracing::warn!(%error, score = config.oom_score, "cannot set the out-of-memory score");
    }
}
