//! `containerd.services.tasks.v1.Tasks`.

use api::containerd::services::tasks::v1::tasks_server::Tasks as Service_;
use api::{from_wire, headers, status, to_wire};
use model::{ContainerId, ExecId, Namespace};
use proto::containerd::services::tasks::v1 as wire;
use proto::containerd::types::Metric;
use proto::containerd::v1::types::{Process, ProcessInfo};
use shims::{Exit, Stdio};
use tasks::{CreateRequest, Report, Tasks};
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status};

/// The service.
#[derive(Debug, Clone)]
pub struct Service {
    tasks: Tasks,
}

impl Service {
    /// Serves the given tasks.
    pub fn new(tasks: Tasks) -> Self {
        Self { tasks }
    }
}

/// The task that a call is about.
fn subject(metadata: &MetadataMap, id: &str) -> Result<(Namespace, ContainerId), Status> {
    let namespace = headers::namespace(metadata)?;
    let id = ContainerId::new(id).map_err(|error| Status::invalid_argument(error.to_string()))?;
    Ok((namespace, id))
}

/// The exec that a call is about; `""` is the first process.
fn exec(id: &str) -> Result<Option<ExecId>, Status> {
    if id.is_empty() {
        return Ok(None);
    }
    ExecId::new(id)
        .map(Some)
        .map_err(|error| Status::invalid_argument(error.to_string()))
}

fn process_to(report: Report) -> Process {
    let exited = report.process.exited_at.map(to_wire::timestamp);
    Process {
        container_id: String::new(),
        id: report
            .exec
            .map_or_else(|| report.id.to_string(), |exec| exec.to_string()),
        pid: report.process.pid,
        status: report.process.status,
        stdin: report.process.stdin,
        stdout: report.process.stdout,
        stderr: report.process.stderr,
        terminal: report.process.terminal,
        exit_status: report.process.exit_status,
        exited_at: exited,
    }
}

fn deleted(id: String, exit: Exit) -> wire::DeleteResponse {
    wire::DeleteResponse {
        id,
        pid: exit.pid,
        exit_status: exit.status,
        exited_at: Some(to_wire::timestamp(exit.at)),
    }
}

fn path(text: String) -> Option<std::path::PathBuf> {
    (!text.is_empty()).then(|| text.into())
}

#[tonic::async_trait]
impl Service_ for Service {
    async fn create(
        &self,
        request: Request<wire::CreateTaskRequest>,
    ) -> Result<Response<wire::CreateTaskResponse>, Status> {
        let (metadata, _, message) = request.into_parts();
        let (namespace, id) = subject(&metadata, &message.container_id)?;
        if !message.task_api_address.is_empty() {
            return Err(Status::unimplemented(
                "tasks in a sandbox of another shim: not implemented",
            ));
        }
        let checkpoint = message
            .checkpoint
            .map(|checkpoint| from_wire::descriptor("checkpoint", Some(checkpoint)))
            .transpose()?;
        let request = CreateRequest {
            rootfs: from_wire::mounts(message.rootfs),
            stdio: Stdio {
                stdin: message.stdin,
                stdout: message.stdout,
                stderr: message.stderr,
                terminal: message.terminal,
            },
            checkpoint,
            options: message.options,
            runtime_path: path(message.runtime_path),
        };
        let pid = self
            .tasks
            .create(&namespace, &id, request)
            .await
            .map_err(status::of)?;
        Ok(Response::new(wire::CreateTaskResponse {
            container_id: id.to_string(),
            pid,
        }))
    }

    async fn start(
        &self,
        request: Request<wire::StartRequest>,
    ) -> Result<Response<wire::StartResponse>, Status> {
        let (metadata, _, message) = request.into_parts();
        let (namespace, id) = subject(&metadata, &message.container_id)?;
        let exec = exec(&message.exec_id)?;
        let pid = self.tasks.start(&namespace, &id, exec.as_ref()).await;
        Ok(Response::new(wire::StartResponse {
            pid: pid.map_err(status::of)?,
        }))
    }

    async fn delete(
        &self,
        request: Request<wire::DeleteTaskRequest>,
    ) -> Result<Response<wire::DeleteResponse>, Status> {
        let (metadata, _, message) = request.into_parts();
        let (namespace, id) = subject(&metadata, &message.container_id)?;
        let exit = self.tasks.delete(&namespace, &id).await;
        Ok(Response::new(deleted(
            String::new(),
            exit.map_err(status::of)?,
        )))
    }

    async fn delete_process(
        &self,
        request: Request<wire::DeleteProcessRequest>,
    ) -> Result<Response<wire::DeleteResponse>, Status> {
        let (metadata, _, message) = request.into_parts();
        let (namespace, id) = subject(&metadata, &message.container_id)?;
        let exec = from_wire::required("exec_id", exec(&message.exec_id)?)?;
        let exit = self.tasks.delete_process(&namespace, &id, &exec).await;
        Ok(Response::new(deleted(
            exec.to_string(),
            exit.map_err(status::of)?,
        )))
    }

    async fn get(
        &self,
        request: Request<wire::GetRequest>,
    ) -> Result<Response<wire::GetResponse>, Status> {
        let (metadata, _, message) = request.into_parts();
        let (namespace, id) = subject(&metadata, &message.container_id)?;
        let exec = exec(&message.exec_id)?;
        let report = self.tasks.get(&namespace, &id, exec.as_ref()).await;
        Ok(Response::new(wire::GetResponse {
            process: Some(process_to(report.map_err(status::of)?)),
        }))
    }

    async fn list(
        &self,
        request: Request<wire::ListTasksRequest>,
    ) -> Result<Response<wire::ListTasksResponse>, Status> {
        let namespace = headers::namespace(request.metadata())?;
        let reports = self.tasks.list(&namespace).await;
        Ok(Response::new(wire::ListTasksResponse {
            tasks: reports.into_iter().map(process_to).collect(),
        }))
    }

    async fn kill(&self, request: Request<wire::KillRequest>) -> Result<Response<()>, Status> {
        let (metadata, _, message) = request.into_parts();
        let (namespace, id) = subject(&metadata, &message.container_id)?;
        let exec = exec(&message.exec_id)?;
        self.tasks
            .kill(&namespace, &id, exec.as_ref(), message.signal, message.all)
            .await
            .map_err(status::of)?;
        Ok(Response::new(()))
    }

    async fn exec(
        &self,
        request: Request<wire::ExecProcessRequest>,
    ) -> Result<Response<()>, Status> {
        let (metadata, _, message) = request.into_parts();
        let (namespace, id) = subject(&metadata, &message.container_id)?;
        let exec = exec(&message.exec_id)?
            .ok_or_else(|| Status::invalid_argument("exec id cannot be empty: invalid argument"))?;
        let stdio = Stdio {
            stdin: message.stdin,
            stdout: message.stdout,
            stderr: message.stderr,
            terminal: message.terminal,
        };
        self.tasks
            .exec(&namespace, &id, &exec, stdio, message.spec)
            .await
            .map_err(status::of)?;
        Ok(Response::new(()))
    }

    async fn resize_pty(
        &self,
        request: Request<wire::ResizePtyRequest>,
    ) -> Result<Response<()>, Status> {
        let (metadata, _, message) = request.into_parts();
        let (namespace, id) = subject(&metadata, &message.container_id)?;
        let exec = exec(&message.exec_id)?;
        let size = (message.width, message.height);
        self.tasks
            .resize_pty(&namespace, &id, exec.as_ref(), size)
            .await
            .map_err(status::of)?;
        Ok(Response::new(()))
    }

    async fn close_io(
        &self,
        request: Request<wire::CloseIoRequest>,
    ) -> Result<Response<()>, Status> {
        let (metadata, _, message) = request.into_parts();
        let (namespace, id) = subject(&metadata, &message.container_id)?;
        let exec = exec(&message.exec_id)?;
        self.tasks
            .close_io(&namespace, &id, exec.as_ref(), message.stdin)
            .await
            .map_err(status::of)?;
        Ok(Response::new(()))
    }

    async fn pause(
        &self,
        request: Request<wire::PauseTaskRequest>,
    ) -> Result<Response<()>, Status> {
        let (metadata, _, message) = request.into_parts();
        let (namespace, id) = subject(&metadata, &message.container_id)?;
        let paused = self.tasks.pause(&namespace, &id).await;
        Ok(Response::new(paused.map_err(status::of)?))
    }

    async fn resume(
        &self,
        request: Request<wire::ResumeTaskRequest>,
    ) -> Result<Response<()>, Status> {
        let (metadata, _, message) = request.into_parts();
        let (namespace, id) = subject(&metadata, &message.container_id)?;
        let resumed = self.tasks.resume(&namespace, &id).await;
        Ok(Response::new(resumed.map_err(status::of)?))
    }

    async fn list_pids(
        &self,
        request: Request<wire::ListPidsRequest>,
    ) -> Result<Response<wire::ListPidsResponse>, Status> {
        let (metadata, _, message) = request.into_parts();
        let (namespace, id) = subject(&metadata, &message.container_id)?;
        let pids = self.tasks.pids(&namespace, &id).await.map_err(status::of)?;
        let processes = pids
            .into_iter()
            .map(|(pid, info)| ProcessInfo { pid, info });
        Ok(Response::new(wire::ListPidsResponse {
            processes: processes.collect(),
        }))
    }

    async fn checkpoint(
        &self,
        request: Request<wire::CheckpointTaskRequest>,
    ) -> Result<Response<wire::CheckpointTaskResponse>, Status> {
        let (metadata, _, message) = request.into_parts();
        let (namespace, id) = subject(&metadata, &message.container_id)?;
        self.tasks
            .checkpoint(&namespace, &id)
            .await
            .map_err(status::of)?;
        Ok(Response::new(wire::CheckpointTaskResponse::default()))
    }

    async fn update(
        &self,
        request: Request<wire::UpdateTaskRequest>,
    ) -> Result<Response<()>, Status> {
        let (metadata, _, message) = request.into_parts();
        let (namespace, id) = subject(&metadata, &message.container_id)?;
        self.tasks
            .update(&namespace, &id, message.resources, message.annotations)
            .await
            .map_err(status::of)?;
        Ok(Response::new(()))
    }

    async fn metrics(
        &self,
        request: Request<wire::MetricsRequest>,
    ) -> Result<Response<wire::MetricsResponse>, Status> {
        let namespace = headers::namespace(request.metadata())?;
        let filters = request.into_inner().filters;
        let metrics = self
            .tasks
            .metrics(&namespace, &filters)
            .await
            .map_err(status::of)?;
        let metrics = metrics.into_iter().map(|metric| Metric {
            timestamp: Some(to_wire::timestamp(metric.at)),
            id: metric.id.to_string(),
            data: metric.data,
        });
        Ok(Response::new(wire::MetricsResponse {
            metrics: metrics.collect(),
        }))
    }

    async fn wait(
        &self,
        request: Request<wire::WaitRequest>,
    ) -> Result<Response<wire::WaitResponse>, Status> {
        let (metadata, _, message) = request.into_parts();
        let (namespace, id) = subject(&metadata, &message.container_id)?;
        let exec = exec(&message.exec_id)?;
        let exit = self.tasks.wait(&namespace, &id, exec.as_ref()).await;
        let exit = exit.map_err(status::of)?;
        Ok(Response::new(wire::WaitResponse {
            exit_status: exit.status,
            exited_at: Some(to_wire::timestamp(exit.at)),
        }))
    }
}
