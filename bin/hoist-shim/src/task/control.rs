//! Calls that change or look at what runs.

use super::{Outcome, empty};
use crate::job::Work;
use crate::server::Shim;
use crate::state::{Call, Phase, ProcessKey, precondition};
use model::ErrorKind;
use prost::Message;
use proto::containerd::events::{TaskPaused, TaskResumed};
use proto::containerd::runc::v1::ProcessDetails;
use proto::containerd::task::v2::{
    CloseIoRequest, ConnectRequest, ConnectResponse, PauseRequest, PidsRequest, PidsResponse,
    ResizePtyRequest, ResumeRequest, ShutdownRequest, StateRequest, StatsRequest,
    UpdateTaskRequest,
};
use rustix::termios::Winsize;
use ttrpc::{Response, Status};

impl Shim {
    pub(super) fn pause(&mut self, call: Call, request: &PauseRequest) -> Outcome {
        let container = self.container(&request.id)?;
        match container.init.phase {
            Phase::Running if !container.paused => {}
            _ => return Err(precondition("cannot pause a container that is not running")),
        }
        self.work(&request.id, Work::Pause(call)).map(|()| None)
    }

    pub(super) fn resume(&mut self, call: Call, request: &ResumeRequest) -> Outcome {
        let container = self.container(&request.id)?;
        if !container.paused {
            return Err(precondition("cannot resume a container that is not paused"));
        }
        self.work(&request.id, Work::Resume(call)).map(|()| None)
    }

    pub(super) fn update(&mut self, call: Call, request: UpdateTaskRequest) -> Outcome {
        let container = self.container(&request.id)?;
        if container.init.exit().is_some() {
            return Err(precondition("cannot update a stopped container"));
        }
        let resources = request.resources.map(|any| any.value).unwrap_or_default();
        if resources.is_empty() {
            return Err(Status::new(
                ErrorKind::InvalidArgument,
                "resources are missing",
            ));
        }
        self.work(&request.id, Work::Update(call, resources))
            .map(|()| None)
    }

    pub(super) fn stats(&mut self, call: Call, request: &StatsRequest) -> Outcome {
        self.container(&request.id)?;
        self.work(&request.id, Work::Stats(call)).map(|()| None)
    }

    pub(super) fn pids(&mut self, call: Call, request: &PidsRequest) -> Outcome {
        self.container(&request.id)?;
        self.work(&request.id, Work::Pids(call)).map(|()| None)
    }

    pub(super) fn resize(&mut self, request: &ResizePtyRequest) -> Outcome {
        let process = self.container(&request.id)?.process(&request.exec_id)?;
        let size = |cells: u32| u16::try_from(cells).unwrap_or(u16::MAX);
        let size = Winsize {
            ws_row: size(request.height),
            ws_col: size(request.width),
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        // A process without a terminal has nothing to resize: no error upstream either.
        if let Some(console) = &process.console {
            rustix::termios::tcsetwinsize(console, size).map_err(|error| {
                Status::new(ErrorKind::Unknown, format!("resize the terminal: {error}"))
            })?;
        }
        empty()
    }

    pub(super) fn close_io(&mut self, request: &CloseIoRequest) -> Outcome {
        let process = self.container(&request.id)?.process(&request.exec_id)?;
        if request.stdin {
            process.held_input = None;
        }
        empty()
    }

    pub(super) fn connect(&mut self, request: &ConnectRequest) -> Outcome {
        let task_pid = self
            .container(&request.id)
            .map_or(0, |container| container.init.pid.unsigned_abs());
        let response = ConnectResponse {
            shim_pid: std::process::id(),
            task_pid,
            version: String::new(),
        };
        Ok(Some(response.encode_to_vec()))
    }

    pub(super) fn shutdown(&mut self, request: &ShutdownRequest) -> Outcome {
        if self.containers.is_empty() || request.now {
            self.stop();
        }
        empty()
    }

    pub(super) fn reopen_logs(&mut self, request: &StateRequest) -> Outcome {
        self.container(&request.id)?;
        for relay in self.relays.values() {
            if relay.key.container == request.id
                && (request.exec_id.is_empty() || relay.key.exec == request.exec_id)
            {
                relay.reopen().map_err(|error| {
                    Status::new(ErrorKind::Unknown, format!("reopen the log: {error}"))
                })?;
            }
        }
        empty()
    }

    /// A worker has finished.
    pub(crate) fn worked(&mut self, id: &str, work: Work, result: Result<Vec<u8>, Status>) {
        let result = result.and_then(|payload| match &work {
            Work::Pids(_) => self.name_execs(id, &payload),
            _ => Ok(payload),
        });
        if result.is_ok() {
            match &work {
                Work::Pause(_) => self.paused(id, true),
                Work::Resume(_) => self.paused(id, false),
                _ => {}
            }
        }
        match (work, result) {
            (Work::Delete(key), Ok(_)) => self.start_drain(&key),
            (Work::Delete(key), Err(status)) => {
                let deleting = self
                    .process(&key)
                    .and_then(|process| process.deleting.take());
                if let Some(deleting) = deleting {
                    self.refuse(deleting.call, status);
                }
            }
            (work, Ok(payload)) => {
                if let Some(call) = work.call() {
                    self.answer(call, &Response::ok(payload));
                }
            }
            (work, Err(status)) => match work.call() {
                Some(call) => self.refuse(call, status),
                None => self.log.warn(&format!("container {id}: {status}")),
            },
        }
    }

    fn paused(&mut self, id: &str, paused: bool) {
        if let Some(container) = self.containers.get_mut(id) {
            container.paused = paused;
        }
        let container_id = id.to_owned();
        if paused {
            self.publish("/tasks/paused", &TaskPaused { container_id });
        } else {
            self.publish("/tasks/resumed", &TaskResumed { container_id });
        }
    }

    /// Tells which of the processes are execs.
    fn name_execs(&self, id: &str, payload: &[u8]) -> Result<Vec<u8>, Status> {
        let mut response = PidsResponse::decode(payload)
            .map_err(|_| Status::new(ErrorKind::Internal, "the worker's answer is broken"))?;
        for process in &mut response.processes {
            let key = i32::try_from(process.pid)
                .ok()
                .and_then(|pid| self.pids.get(&pid));
            if let Some(ProcessKey { exec, .. }) =
                key.filter(|key| key.container == id && !key.is_init())
            {
                process.info = Some(proto::typeurl::pack(&ProcessDetails {
                    exec_id: exec.clone(),
                }));
            }
        }
        Ok(response.encode_to_vec())
    }
}
