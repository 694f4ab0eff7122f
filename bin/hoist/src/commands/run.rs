//! `hoist run`.

use std::process::ExitCode;

use anyhow::{Context as _, bail};
use client::{Client, Error, Image};
use model::{ContainerId, Labels, Platform};
use oci::{Chain, Options, Privileges, SeccompChoice};
use proto::containerd::services::containers::v1::container::Runtime;
use proto::containerd::services::containers::v1::{Container, CreateContainerRequest};
use proto::containerd::services::leases::v1::DeleteRequest;
use proto::containerd::services::snapshots::v1::PrepareSnapshotRequest;
use proto::containerd::services::tasks::v1::{CreateTaskRequest, DeleteTaskRequest, StartRequest};
use proto::containerd::types::Mount;
use proto::typeurl;
use spec::runtime::Spec;
use tonic::Code;

use crate::cli::{Network, RunArgs};
use crate::commands::rm::{remove, snapshot};
use crate::context::{Context, SNAPSHOTTER};
use crate::fifo::Fifos;
use crate::session::{Attached, Ended, Session};
use crate::{image, log, output, rootfs};

/// The runtime of our containers.
const RUNTIME: &str = "io.containerd.runc.v2";

/// Runs a container; the answer is its status.
pub(crate) async fn run(context: &Context, args: RunArgs) -> anyhow::Result<ExitCode> {
    let id = match &args.name {
        Some(name) => name.clone(),
        None => made_up_name(),
    };
    ContainerId::new(id.as_str()).context("--name")?;
    let lease = image::lease(&context.client).await?;
    let created = create(context, &args, &id, &lease).await;
    // What bears the name belongs to somebody else until our own record stands.
    let owned = created.is_ok();
    let ended = match created {
        Ok(mounts) => start(context, &args, &id, mounts).await,
        Err(error) => Err(error),
    };
    let request = DeleteRequest {
        id: lease,
        sync: false,
    };
    let released = context
        .client
        .leases()
        .delete(request)
        .await
        .map_err(Error::call("delete the lease"));
    let failed = ended.is_err();
    if owned && (failed || (args.rm && matches!(ended, Ok(Ended::Exited(_))) && !args.detach)) {
        let removed = remove(context, &id, true).await;
        if !failed {
            removed?;
        }
    }
    released?;
    match ended {
        Ok(ended) => Ok(ended.code()),
        Err(error) => refused(error),
    }
}

/// A command that is not there or may not run has a status of its own, as with docker and in a shell.
pub(crate) fn refused(error: anyhow::Error) -> anyhow::Result<ExitCode> {
    let status = error.downcast_ref().and_then(command_status);
    let Some(status) = status else {
        return Err(error);
    };
    output::complain(&format!("{error:#}"));
    Ok(ExitCode::from(status))
}

/// 127 for a command that is not there, 126 for one that may not run.
pub(crate) fn command_status(error: &Error) -> Option<u8> {
    let Error::Call { status, .. } = error else {
        return None;
    };
    // The runtime begins so when the failure is the command's and not a mount's or a snapshot's.
    let of_command = status.message().contains("exec: \"");
    match status.code() {
        Code::NotFound if of_command => Some(127),
        Code::PermissionDenied if of_command => Some(126),
        _ => None,
    }
}

/// Makes snapshot and container; returns the mounts of the root file system.
async fn create(
    context: &Context,
    args: &RunArgs,
    id: &str,
    lease: &str,
) -> anyhow::Result<Vec<Mount>> {
    let (image, chain) = image::ensure(
        context,
        &args.image,
        &args.registry,
        args.platform.as_deref(),
    )
    .await?;
    let client = context.client.with_lease(lease)?;
    let prepare = PrepareSnapshotRequest {
        snapshotter: SNAPSHOTTER.to_owned(),
        key: id.to_owned(),
        parent: chain,
        ..Default::default()
    };
    let mounts = match client.snapshots().prepare(prepare).await {
        Ok(prepared) => prepared.into_inner().mounts,
        Err(status) if status.code() == Code::AlreadyExists => bail!(
            "container {id:?} exists already, or its root file system does: remove it or take another --name"
        ),
        Err(status) => {
            return Err(
                Error::call(format!("prepare the root file system of {id:?}"))(status).into(),
            );
        }
    };
    let recorded = record(context, &client, args, id, &image, &mounts).await;
    if recorded.is_err() {
        // The snapshot is ours even where the name is not.
        let _first_failure_counts = snapshot(context, SNAPSHOTTER, id).await;
    }
    recorded?;
    Ok(mounts)
}

/// Writes the container's record.
async fn record(
    context: &Context,
    client: &Client,
    args: &RunArgs,
    id: &str,
    image: &Image,
    mounts: &[Mount],
) -> anyhow::Result<()> {
    let spec = specification(context, args, id, image, mounts)?;
    let container = Container {
        id: id.to_owned(),
        labels: labels(context, args, image, id).await?,
        image: image.record.name.clone(),
        runtime: Some(Runtime {
            name: RUNTIME.to_owned(),
            options: None,
        }),
        spec: Some(typeurl::pack_json(
            typeurl::RUNTIME_SPEC,
            serde_json::to_vec(&spec)?,
        )),
        snapshotter: SNAPSHOTTER.to_owned(),
        snapshot_key: id.to_owned(),
        ..Default::default()
    };
    let request = CreateContainerRequest {
        container: Some(container),
    };
    client
        .containers()
        .create(request)
        .await
        .map_err(Error::call(format!("create container {id:?}")))?;
    Ok(())
}

async fn labels(
    context: &Context,
    args: &RunArgs,
    image: &Image,
    id: &str,
) -> anyhow::Result<Labels> {
    let mut labels = Labels::new();
    if args.detach {
        let path = log::path(
            &context.daemon_root().await?,
            context.namespace.as_str(),
            id,
        );
        labels.insert(log::LABEL.to_owned(), path.display().to_string());
    }
    if args.rm {
        labels.insert(
            crate::commands::ps::REMOVE_LABEL.to_owned(),
            "true".to_owned(),
        );
    }
    let stop_signal = image
        .config
        .config
        .as_ref()
        .and_then(|config| config.stop_signal.clone());
    if let Some(signal) = stop_signal {
        labels.insert("io.containerd.image.config.stop-signal".to_owned(), signal);
    }
    Ok(labels)
}

async fn start(
    context: &Context,
    args: &RunArgs,
    id: &str,
    rootfs: Vec<Mount>,
) -> anyhow::Result<Ended> {
    let session = Session {
        client: context.client.clone(),
        container: id.to_owned(),
        exec: String::new(),
        terminal: args.tty,
    };
    let mut task = CreateTaskRequest {
        container_id: id.to_owned(),
        rootfs,
        terminal: args.tty,
        ..Default::default()
    };
    let started = StartRequest {
        container_id: id.to_owned(),
        exec_id: String::new(),
    };
    let mut tasks = context.client.tasks();
    let create = Error::call(format!("create the task of {id:?}"));
    if args.detach {
        let path = log::path(
            &context.daemon_root().await?,
            context.namespace.as_str(),
            id,
        );
        log::make_folder(&path)?;
        task.stdout = log::uri(&path);
        if !args.tty {
            task.stderr.clone_from(&task.stdout);
        }
        tasks.create(task).await.map_err(create)?;
        tasks
            .start(started)
            .await
            .map_err(Error::call(format!("start {id:?}")))?;
        output::print(&format!("{id}\n"))?;
        return Ok(Ended::Detached);
    }
    let fifos = Fifos::create(&context.address, id, args.interactive, args.tty)?;
    let ends = Attached::outputs(&fifos)?;
    (task.stdin, task.stdout, task.stderr) = (
        fifos.stdin.clone(),
        fifos.stdout.clone(),
        fifos.stderr.clone(),
    );
    tasks.create(task).await.map_err(create)?;
    let attached = Attached::begin(&fifos, ends)?;
    let waiting = session.wait();
    tasks
        .start(started)
        .await
        .map_err(Error::call(format!("start {id:?}")))?;
    let ended = session.run(attached, waiting).await?;
    if matches!(ended, Ended::Exited(_)) {
        let request = DeleteTaskRequest {
            container_id: id.to_owned(),
        };
        tasks
            .delete(request)
            .await
            .map_err(Error::call(format!("delete the task of {id:?}")))?;
    }
    Ok(ended)
}

/// The runtime specification: the image's wishes, then the command line's.
fn specification(
    context: &Context,
    args: &RunArgs,
    id: &str,
    image: &Image,
    mounts: &[Mount],
) -> anyhow::Result<Spec> {
    let config = image.config.config.clone().unwrap_or_default();
    let mut config = config;
    if let Some(entrypoint) = &args.entrypoint {
        config.entrypoint = vec![entrypoint.clone()];
        config.cmd.clear();
    }
    let user = args.user.as_deref().or_else(|| oci::image_user(&config));
    let user = user
        .map(|user| {
            let passwd = rootfs::read(mounts, "etc/passwd")?;
            let group = rootfs::read(mounts, "etc/group")?;
            anyhow::Ok(oci::user::resolve(&passwd, &group, user)?)
        })
        .transpose()?;
    let mut options = Options {
        env: environment(&args.env),
        cwd: args.workdir.clone(),
        user,
        terminal: args.tty,
        hostname: Some(args.hostname.clone().unwrap_or_else(|| id.to_owned())),
        mounts: crate::commands::run::mounts::parse(&args.volume, &args.mount)?,
        capabilities_add: args.cap_add.clone(),
        capabilities_drop: args.cap_drop.clone(),
        read_only: args.read_only,
        memory_bytes: args
            .memory
            .as_deref()
            .map(mounts::bytes)
            .transpose()
            .context("--memory")?,
        cpus: args.cpus,
        pids_limit: args
            .pids_limit
            .map(|limit| if limit == 0 { -1 } else { limit }),
        seccomp: SeccompChoice::Default {
            architecture: Platform::host().architecture,
        },
        ..Options::default()
    };
    if args.net == Network::Host {
        options.host_namespaces.push("network".to_owned());
        options.mounts.extend(mounts::host_network());
    }
    if args.privileged {
        options.privileges = Privileges::All {
            capabilities: own_capabilities()?,
            all_devices: true,
        };
        options.seccomp = SeccompChoice::Unconfined;
    }
    let chain = Chain::new(context.namespace.as_str(), id)
        .image(&config, &args.command)
        .options(&options)?;
    Ok(chain.finish()?)
}

/// `KEY` alone takes our own value.
#[expect(
    clippy::disallowed_methods,
    reason = "passing our environment on is what the user asks for"
)]
fn environment(asked: &[String]) -> Vec<String> {
    let pass = |name: &String| match name.contains('=') {
        true => Some(name.clone()),
        false => std::env::var(name)
            .ok()
            .map(|value| format!("{name}={value}")),
    };
    asked.iter().filter_map(pass).collect()
}

/// The capabilities that this host lets root have (`capabilities(7)`: the bounding set).
fn own_capabilities() -> anyhow::Result<Vec<String>> {
    let status =
        std::fs::read_to_string("/proc/self/status").context("read our own capabilities")?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("CapBnd:"))
        .context("the kernel tells no bounding set")?;
    let bits = u64::from_str_radix(line.trim(), 16).context("read the bounding set")?;
    let names = oci::KNOWN_CAPABILITIES
        .iter()
        .enumerate()
        .filter(|(bit, _)| bits >> bit & 1 == 1);
    Ok(names.map(|(_, name)| (*name).to_string()).collect())
}

/// A name that nobody chose: letters that tell it from a made one, and enough chance not to meet another.
fn made_up_name() -> String {
    let mut bytes = [0_u8; 6];
    // Falls short only on a kernel without entropy, where the process id still tells names apart.
    let filled = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .unwrap_or_default();
    if filled < bytes.len() {
        bytes[..4].copy_from_slice(&std::process::id().to_le_bytes());
    }
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

mod mounts;
