//! Unpacking in the sandboxed worker.

use std::os::fd::OwnedFd;

use async_trait::async_trait;
use diff::{ApplyRequest, Canceller, Durability, Limits, Target, Unpacker};
use model::{Descriptor, Mount};

use crate::Error;
use crate::apply::{Applied, Applier, Progressed, Session};

/// Unpacks with `hoist-unpack`.
#[derive(Debug, Clone)]
pub struct Worker {
    /// Starts the workers.
    pub unpacker: Unpacker,
    /// What a layer may cost.
    pub limits: Limits,
    /// Leave out device nodes: the daemon runs in a user namespace.
    pub skip_devices: bool,
}

#[derive(Debug)]
struct Running {
    session: diff::Session,
    canceller: Canceller,
    worker: Worker,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.canceller.cancel();
    }
}

#[async_trait]
impl Applier for Worker {
    async fn session(&self) -> Result<Box<dyn Session>, Error> {
        let session = self.unpacker.session();
        let session = session.map_err(|error| Error::store("start", "the unpack worker", error))?;
        Ok(Box::new(Running {
            canceller: session.canceller(),
            session,
            worker: self.clone(),
        }))
    }
}

#[async_trait]
impl Session for Running {
    async fn apply(
        &mut self,
        descriptor: &Descriptor,
        layer: OwnedFd,
        mounts: &[Mount],
        mut progress: Progressed,
    ) -> Result<Applied, Error> {
        let (session, worker, mounts) =
            (self.session.clone(), self.worker.clone(), mounts.to_vec());
        let work = move || {
            let mut hear = |seen: diff::Progress| progress(seen.layer_bytes);
            session.apply(ApplyRequest {
                layer,
                target: Target::from_mounts(&mounts)?,
                limits: worker.limits,
                durability: Durability::Sync,
                skip_devices: worker.skip_devices,
                progress: Some(&mut hear),
            })
        };
        let digest = &descriptor.digest;
        let applied = tokio::task::spawn_blocking(work)
            .await
            .map_err(|_| Error::Canceled {
                target: digest.to_string(),
            })?;
        let applied = applied.map_err(|error| Error::store("unpack layer", digest, error))?;
        Ok(Applied {
            diff_id: applied.diff_id,
            durable: true,
        })
    }
}
