//! `hoist exec`.

use std::process::ExitCode;

use anyhow::Context as _;
use client::Error;
use proto::containerd::services::snapshots::v1::MountsRequest;
use proto::containerd::services::tasks::v1::{
    DeleteProcessRequest, ExecProcessRequest, StartRequest,
};
use proto::typeurl;
use spec::runtime::{Process, Spec};

use crate::cli::ExecArgs;
use crate::commands::run::refused;
use crate::context::Context;
use crate::fifo::Fifos;
use crate::rootfs;
use crate::session::{Attached, Ended, Session};

/// Runs a further process; the answer is its status.
pub(crate) async fn exec(context: &Context, args: ExecArgs) -> anyhow::Result<ExitCode> {
    match run_process(context, args).await {
        Err(error) => refused(error),
        ended => ended,
    }
}

async fn run_process(context: &Context, args: ExecArgs) -> anyhow::Result<ExitCode> {
    let container = context.container(&args.container).await?;
    let id = container.id.clone();
    let exec_id = format!(
        "exec-{}-{}",
        std::process::id(),
        model::Clock::now(&model::SystemClock).as_nanosecond() % 1_000_000_000
    );
    let spec = container
        .spec
        .as_ref()
        .context("the container has no specification")?;
    let spec: Spec =
        serde_json::from_slice(&spec.value).context("read the container's specification")?;
    let mut process = spec
        .process
        .context("the container's specification has no process")?;
    adjust(
        context,
        &args,
        &mut process,
        &container.snapshotter,
        &container.snapshot_key,
    )
    .await?;
    let request = ExecProcessRequest {
        container_id: id.clone(),
        exec_id: exec_id.clone(),
        terminal: args.tty,
        // Replaced by the path of a pipe where standard input is wanted.
        stdin: if args.interactive {
            "-".to_owned()
        } else {
            String::new()
        },
        spec: Some(typeurl::pack_json(
            typeurl::RUNTIME_PROCESS,
            serde_json::to_vec(&process)?,
        )),
        ..Default::default()
    };
    let session = Session {
        client: context.client.clone(),
        container: id.clone(),
        exec: exec_id.clone(),
        terminal: args.tty,
    };
    let mut tasks = context.client.tasks();
    let start = StartRequest {
        container_id: id.clone(),
        exec_id: exec_id.clone(),
    };
    let failed = Error::call(format!("exec in {id:?}"));
    if args.detach {
        tasks.exec(request).await.map_err(&failed)?;
        tasks.start(start).await.map_err(&failed)?;
        return Ok(ExitCode::SUCCESS);
    }
    attached(context, &session, request).await
}

/// Runs it with our standard streams until it ends.
async fn attached(
    context: &Context,
    session: &Session,
    mut request: ExecProcessRequest,
) -> anyhow::Result<ExitCode> {
    let (id, exec_id) = (session.container.clone(), session.exec.clone());
    let start = StartRequest {
        container_id: id.clone(),
        exec_id: exec_id.clone(),
    };
    let failed = Error::call(format!("exec in {id:?}"));
    let mut tasks = context.client.tasks();
    let interactive = !request.stdin.is_empty();
    let fifos = Fifos::create(&context.address, &exec_id, interactive, request.terminal)?;
    let ends = Attached::outputs(&fifos)?;
    (request.stdin, request.stdout, request.stderr) = (
        fifos.stdin.clone(),
        fifos.stdout.clone(),
        fifos.stderr.clone(),
    );
    tasks.exec(request).await.map_err(&failed)?;
    let waiting = session.wait();
    let ended = match tasks.start(start).await {
        Ok(_) => {
            let attached = Attached::begin(&fifos, ends)?;
            session.run(attached, waiting).await
        }
        Err(status) => Err(failed(status).into()),
    };
    if !matches!(ended, Ok(Ended::Detached)) {
        let request = DeleteProcessRequest {
            container_id: id,
            exec_id,
        };
        let deleted = tasks.delete_process(request).await;
        if ended.is_ok() {
            deleted.map_err(Error::call("delete the exec"))?;
        }
    }
    Ok(ended?.code())
}

async fn adjust(
    context: &Context,
    args: &ExecArgs,
    process: &mut Process,
    snapshotter: &str,
    key: &str,
) -> anyhow::Result<()> {
    process.args.clone_from(&args.command);
    process.terminal = args.tty;
    process.env = oci::merge_environment(&process.env, &args.env);
    if let Some(folder) = &args.workdir {
        process.cwd.clone_from(folder);
    }
    if let Some(user) = &args.user {
        let request = MountsRequest {
            snapshotter: snapshotter.to_owned(),
            key: key.to_owned(),
        };
        let mounts = context
            .client
            .snapshots()
            .mounts(request)
            .await
            .map_err(Error::call("look for the users"))?;
        let mounts = mounts.into_inner().mounts;
        let passwd = rootfs::read(&mounts, "etc/passwd")?;
        let group = rootfs::read(&mounts, "etc/group")?;
        process.user = oci::user::resolve(&passwd, &group, user)?;
    }
    Ok(())
}
