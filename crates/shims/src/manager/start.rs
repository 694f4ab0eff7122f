//! Starts the shim of a task.

use model::{ContainerId, Namespace};
use shim_protocol::bootstrap::BootstrapResult;
use shim_protocol::bundle;

use crate::shim::Found;
use crate::{Bundle, Error, Manager, Program, Runtime, Shim, direct, external, runtime};

/// The first version whose shims can be given another container without being started again.
const SHARED_VERSION: i32 = 3;

/// A task that needs a shim.
#[derive(Debug, Clone)]
pub struct StartRequest {
    /// The namespace of the task.
    pub namespace: Namespace,
    /// The task.
    pub id: ContainerId,
    /// The runtime.
    pub runtime: Runtime,
    /// The runtime specification as the container's record has it, byte for byte.
    pub config: Option<Vec<u8>>,
    /// The sandbox of the container, whose shim serves it if that can be shared.
    pub sandbox: Option<ContainerId>,
}

impl Manager {
    /// Makes the bundle, and starts its shim or finds the one of its group. Leaves nothing when it fails.
    ///
    /// Not cancel-safe: a caller that may be dropped runs it as a task of its own.
    pub async fn start(&self, request: StartRequest) -> Result<Shim, Error> {
        let reservation = self.reserve(&request.namespace, &request.id)?;
        let program = runtime::resolve(&self.inner.config, &request.runtime)?;
        let bundle = Bundle::of(&self.inner.config.state, &request.namespace, &request.id);
        self.make_bundle(&bundle, request.config.clone()).await?;
        let opened = self.open(&bundle, &program, &request).await;
        match opened {
            Ok(shim) => {
                self.enter(reservation, &shim);
                Ok(shim)
            }
            Err(error) => {
                self.undo(&bundle, &program).await;
                Err(error)
            }
        }
    }

    async fn make_bundle(&self, bundle: &Bundle, config: Option<Vec<u8>>) -> Result<(), Error> {
        for attempt in 0.. {
            let (made, root) = (bundle.clone(), self.inner.config.root.clone());
            let content = config.clone();
            let created =
                tokio::task::spawn_blocking(move || made.create(&root, content.as_deref())).await;
            match created {
                Ok(Err(Error::AlreadyExists { .. })) if attempt == 0 => {
                    // No task has it: what an earlier run left, and did not clean up yet.
                    self.make_way(bundle).await?;
                }
                Ok(result) => return result,
                Err(_) => break,
            }
        }
        Err(Error::Start {
            id: bundle.id.to_string(),
            reason: "making the bundle was interrupted".to_owned(),
        })
    }

    async fn open(
        &self,
        bundle: &Bundle,
        program: &Program,
        request: &StartRequest,
    ) -> Result<Shim, Error> {
        let made = bundle.clone();
        let log = tokio::task::spawn_blocking(move || made.make_log())
            .await
            .unwrap_or_else(|_| bundle.make_log())?;
        let bootstrap = self.bootstrap(bundle, program, request).await?;
        let files = bundle.clone();
        let document = bootstrap.to_json();
        let (external, sandbox) = (program.clone(), request.sandbox.clone());
        let written = tokio::task::spawn_blocking(move || {
            if let Program::External(path) = external {
                files.write(bundle::SHIM_BINARY, path.as_os_str().as_encoded_bytes())?;
            }
            if let Some(sandbox) = sandbox {
                files.write(bundle::SANDBOX, sandbox.as_str().as_bytes())?;
            }
            files.write(bundle::BOOTSTRAP, &document)
        });
        written.await.unwrap_or(Ok(()))?;
        let found = Found {
            bundle: bundle.clone(),
            bootstrap,
            program: program.clone(),
            log: Some(log),
        };
        let timeouts = self.inner.config.timeouts;
        tokio::time::timeout(timeouts.start, Shim::open(found, timeouts))
            .await
            .unwrap_or(Err(Error::Timeout {
                method: "connect",
                limit: timeouts.start,
            }))
    }

    async fn bootstrap(
        &self,
        bundle: &Bundle,
        program: &Program,
        request: &StartRequest,
    ) -> Result<BootstrapResult, Error> {
        let config = &self.inner.config;
        let sandbox = request.sandbox.as_ref();
        if let Some(shared) = sandbox.and_then(|id| self.get(&request.namespace, id).ok())
            && shared.bootstrap().version >= SHARED_VERSION
        {
            return Ok(shared.bootstrap().clone());
        }
        let options = request.runtime.options.as_ref();
        let (Program::BuiltIn, Some(built_in)) = (program, &config.built_in) else {
            let name = request.runtime.name.as_str();
            return external::start(config, program, bundle, name, options).await;
        };
        let group = match &request.config {
            Some(document) => shim_protocol::group::of_config(document, bundle.id.as_str())
                .map_err(|source| Error::Refused {
                    message: model::chain(&source),
                    kind: model::ErrorKind::InvalidArgument,
                })?,
            None => bundle.id.to_string(),
        };
        let address = shim_protocol::address::of_group(
            &config.socket_dir.to_string_lossy(),
            &config.grpc_address,
            bundle.namespace.as_str(),
            &group,
        );
        let lock = self.group(&address);
        let _alone = lock.lock().await;
        let params = external::params(config, bundle, options);
        direct::start(config, built_in, bundle, params, &address).await
    }

    /// Removes what a failed start made; a shim that came up all the same is told to clean up.
    async fn undo(&self, bundle: &Bundle, program: &Program) {
        let is_external = matches!(program, Program::External(_));
        if is_external
            && let Err(error) = external::delete(&self.inner.config, program, bundle).await
        {
            tracing::debug!(id = %bundle.id, error = %model::chain(&error), "nothing to delete after a failed start");
        }
        let made = bundle.clone();
        let removed = tokio::task::spawn_blocking(move || made.remove()).await;
        if let Ok(Err(error)) = removed {
            tracing::warn!(id = %bundle.id, error = %model::chain(&error), "bundle of a failed start stays");
        }
    }
}
