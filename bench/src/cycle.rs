//! The calls that a client makes to run containers.

use std::time::Instant;

use anyhow::Context;
use client::Client;
use proto::containerd::services::containers::v1::container::Runtime;
use proto::containerd::services::containers::v1::{
    Container, CreateContainerRequest, DeleteContainerRequest,
};
use proto::containerd::services::leases::v1::DeleteRequest;
use proto::containerd::services::snapshots::v1::{PrepareSnapshotRequest, RemoveSnapshotRequest};
use proto::containerd::services::tasks::v1::{
    CreateTaskRequest, DeleteProcessRequest, DeleteTaskRequest, ExecProcessRequest, KillRequest,
    StartRequest, WaitRequest,
};
use proto::typeurl;

use crate::daemon::{Daemon, NAMESPACE};
use crate::image::{self, SNAPSHOT, SNAPSHOTTER};
use crate::memory;

/// Memory of idle containers, each.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Idle {
    /// Proportional memory of the shim and growth of the daemon.
    pub(crate) pss_kb_per_container: f64,
    /// Private dirty memory of the shim.
    pub(crate) private_dirty_kb_per_container: f64,
}

/// A client that stays connected.
#[derive(Debug)]
pub(crate) struct Bench {
    client: Client,
    lease: String,
}

impl Bench {
    /// Connects and brings the root file system in.
    pub(crate) async fn new(daemon: &Daemon) -> anyhow::Result<Self> {
        let client = daemon.connect().await?;
        let lease = image::prepare(&client)
            .await
            .with_context(|| format!("prepare {}", daemon.name()))?;
        Ok(Self { client, lease })
    }

    /// Containers per second, one after the other.
    pub(crate) async fn cycles(&self, count: usize) -> anyhow::Result<f64> {
        let began = Instant::now();
        for index in 0..count {
            let id = format!("cycle-{index}");
            self.create(&id, &["/bin/true"]).await?;
            let status = self.start_and_wait(&id).await?;
            anyhow::ensure!(status == 0, "container {id} ended with {status}");
            self.delete(&id).await?;
        }
        Ok(count as f64 / began.elapsed().as_secs_f64())
    }

    /// Milliseconds of one process in a running container.
    pub(crate) async fn exec(&self, count: usize) -> anyhow::Result<f64> {
        let id = "exec";
        self.create(id, &["/bin/sleep", "1000"]).await?;
        let mut tasks = self.client.tasks();
        tasks
            .start(StartRequest {
                container_id: id.to_owned(),
                ..Default::default()
            })
            .await?;
        let process = serde_json::json!({
            "cwd": "/", "args": ["/bin/true"], "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0},
        });
        let began = Instant::now();
        for index in 0..count.max(1) {
            let exec_id = format!("e{index}");
            let request = ExecProcessRequest {
                container_id: id.to_owned(),
                exec_id: exec_id.clone(),
                spec: Some(typeurl::pack_json(
                    typeurl::RUNTIME_PROCESS,
                    process.to_string().into_bytes(),
                )),
                ..Default::default()
            };
            tasks.exec(request).await?;
            tasks
                .start(StartRequest {
                    container_id: id.to_owned(),
                    exec_id: exec_id.clone(),
                })
                .await?;
            tasks
                .wait(WaitRequest {
                    container_id: id.to_owned(),
                    exec_id: exec_id.clone(),
                })
                .await?;
            tasks
                .delete_process(DeleteProcessRequest {
                    container_id: id.to_owned(),
                    exec_id,
                })
                .await?;
        }
        let each = began.elapsed().as_secs_f64() * 1000.0 / count.max(1) as f64;
        self.end(id).await?;
        Ok(each)
    }

    /// Memory of containers that only sleep.
    pub(crate) async fn idle(&self, count: usize, daemon: &Daemon) -> anyhow::Result<Idle> {
        let pss = |pid: Option<u32>| pid.and_then(memory::of).map_or(0, |usage| usage.pss_kb);
        let before = pss(daemon.pid());
        for index in 0..count {
            let id = format!("idle-{index}");
            self.create(&id, &["/bin/sleep", "1000"]).await?;
            let request = StartRequest {
                container_id: id,
                ..Default::default()
            };
            self.client.tasks().start(request).await?;
        }
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        let shims: Vec<_> = memory::shims(&daemon.socket())
            .into_iter()
            .filter_map(memory::of)
            .collect();
        let grown = pss(daemon.pid()).saturating_sub(before);
        let total = shims.iter().map(|usage| usage.pss_kb).sum::<u64>() + grown;
        let dirty = shims
            .iter()
            .map(|usage| usage.private_dirty_kb)
            .sum::<u64>();
        anyhow::ensure!(
            shims.len() >= count,
            "{} shims for {count} containers",
            shims.len()
        );
        for index in 0..count {
            self.end(&format!("idle-{index}")).await?;
        }
        Ok(Idle {
            pss_kb_per_container: total as f64 / count as f64,
            private_dirty_kb_per_container: dirty as f64 / shims.len() as f64,
        })
    }

    /// Takes everything away.
    pub(crate) async fn clean(self) -> anyhow::Result<()> {
        let request = RemoveSnapshotRequest {
            snapshotter: SNAPSHOTTER.to_owned(),
            key: SNAPSHOT.to_owned(),
        };
        self.client.snapshots().remove(request).await?;
        self.client
            .leases()
            .delete(DeleteRequest {
                id: self.lease,
                sync: true,
            })
            .await?;
        Ok(())
    }

    async fn create(&self, id: &str, args: &[&str]) -> anyhow::Result<()> {
        let mut spec = oci::defaults(NAMESPACE, id);
        if let Some(process) = &mut spec.process {
            process.args = args.iter().map(|argument| (*argument).to_owned()).collect();
        }
        let container = Container {
            id: id.to_owned(),
            runtime: Some(Runtime {
                name: "io.containerd.runc.v2".to_owned(),
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
        let prepare = PrepareSnapshotRequest {
            snapshotter: SNAPSHOTTER.to_owned(),
            key: id.to_owned(),
            parent: SNAPSHOT.to_owned(),
            ..Default::default()
        };
        let client = self.client.with_lease(&self.lease)?;
        let rootfs = client
            .snapshots()
            .prepare(prepare)
            .await?
            .into_inner()
            .mounts;
        self.client
            .containers()
            .create(CreateContainerRequest {
                container: Some(container),
            })
            .await?;
        let request = CreateTaskRequest {
            container_id: id.to_owned(),
            rootfs,
            ..Default::default()
        };
        self.client.tasks().create(request).await?;
        Ok(())
    }

    async fn start_and_wait(&self, id: &str) -> anyhow::Result<u32> {
        let mut waiting = self.client.tasks();
        let request = WaitRequest {
            container_id: id.to_owned(),
            ..Default::default()
        };
        let wait = tokio::spawn(async move { waiting.wait(request).await });
        self.client
            .tasks()
            .start(StartRequest {
                container_id: id.to_owned(),
                ..Default::default()
            })
            .await?;
        Ok(wait.await??.into_inner().exit_status)
    }

    async fn end(&self, id: &str) -> anyhow::Result<()> {
        let kill = KillRequest {
            container_id: id.to_owned(),
            signal: 9,
            ..Default::default()
        };
        self.client.tasks().kill(kill).await?;
        self.client
            .tasks()
            .wait(WaitRequest {
                container_id: id.to_owned(),
                ..Default::default()
            })
            .await?;
        self.delete(id).await
    }

    async fn delete(&self, id: &str) -> anyhow::Result<()> {
        self.client
            .tasks()
            .delete(DeleteTaskRequest {
                container_id: id.to_owned(),
            })
            .await?;
        self.client
            .containers()
            .delete(DeleteContainerRequest { id: id.to_owned() })
            .await?;
        let request = RemoveSnapshotRequest {
            snapshotter: SNAPSHOTTER.to_owned(),
            key: id.to_owned(),
        };
        self.client.snapshots().remove(request).await?;
        Ok(())
    }
}
