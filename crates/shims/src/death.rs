//! What happens when a shim dies: its exit records are told, what it left is removed.

use std::path::Path;
use std::sync::Arc;

use shim_protocol::bootstrap::BootstrapResult;

use crate::exits::{self, KILLED};
use crate::manager::Reservation;
use crate::{Bundle, Exit, Manager, Shim, external};

/// Waits for the end of a shim; a task that was deleted in order ends the watch.
pub(crate) fn watch(manager: &Manager, shim: &Shim) {
    let inner = Arc::downgrade(&manager.inner);
    let shim = shim.clone();
    tokio::spawn(async move {
        shim.closed().await;
        let Some(inner) = inner.upgrade() else {
            return;
        };
        if shim.is_released() {
            return;
        }
        let manager = Manager { inner };
        tracing::info!(namespace = %shim.namespace(), id = %shim.id(), "shim disconnected: cleaning up after it");
        if let Some(exit) = manager.bury(shim.bundle(), Some(&shim), None).await {
            shim.died(exit);
        }
    });
}

impl Manager {
    /// Tells how a dead shim's processes ended and removes what it left; `None` when somebody else does.
    ///
    /// Either `shim` has the place in the table, or the caller reserved it.
    pub(crate) async fn bury(
        &self,
        bundle: &Bundle,
        shim: Option<&Shim>,
        reservation: Option<Reservation>,
    ) -> Option<Exit> {
        let withdrawn = shim.and_then(|shim| self.withdraw(shim));
        let reservation = withdrawn.or(reservation)?;
        let deleted = match external::program_of(bundle) {
            Ok(program) => external::delete(&self.inner.config, &program, bundle).await,
            Err(error) => Err(error),
        };
        // Read after the deletion: what the shim left running ended only then.
        let read = bundle.clone();
        let records = tokio::task::spawn_blocking(move || exits::read_all(&read))
            .await
            .unwrap_or_default();
        let now = self.inner.clock.now();
        let fallback = match deleted {
            Ok(Some(exit)) => exit,
            Ok(None) => Exit {
                pid: 0,
                status: KILLED,
                at: now,
            },
            Err(error) => {
                tracing::warn!(namespace = %bundle.namespace, id = %bundle.id, error = %model::chain(&error), "dead shim's delete failed");
                Exit::unknown(now)
            }
        };
        self.remove_socket(bundle).await;
        let mut last = None;
        let events = &self.inner.events;
        let (namespace, id) = (&bundle.namespace, &bundle.id);
        let first =
            |exec: Option<&model::ExecId>, pid| shim.is_none_or(|shim| shim.tells_first(exec, pid));
        for (exec, exit) in records {
            if first(exec.as_ref(), exit.pid) {
                exits::publish_exit(events, namespace, id, exec.as_ref(), exit);
            }
            if exec.is_none() {
                last = Some(exit);
            }
        }
        let exit = last.unwrap_or(fallback);
        if last.is_none() {
            exits::publish_exit(events, namespace, id, None, exit);
        }
        let gone = bundle.clone();
        let removed = tokio::task::spawn_blocking(move || gone.remove()).await;
        if let Ok(Err(error)) = removed {
            tracing::warn!(%namespace, %id, error = %model::chain(&error), "dead shim's bundle stays");
        }
        // Who hears of the deletion may make a task of the same name at once.
        drop(reservation);
        exits::publish_delete(events, namespace, id, exit);
        Some(exit)
    }

    /// Removes the socket of a dead shim of ours; one that somebody listens on stays.
    async fn remove_socket(&self, bundle: &Bundle) {
        let Ok(Some(document)) = bundle.read(shim_protocol::bundle::BOOTSTRAP) else {
            return;
        };
        let Ok(bootstrap) = BootstrapResult::parse(&document) else {
            return;
        };
        let folder = &self.inner.config.socket_dir;
        let path = shim_protocol::address::path(&bootstrap.address)
            .map(Path::new)
            .filter(|path| path.parent() == Some(folder));
        let Some(path) = path else {
            return;
        };
        let lock = self.group(&bootstrap.address);
        let _alone = lock.lock().await;
        match tokio::net::UnixStream::connect(path).await {
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                if let Err(error) = std::fs::remove_file(path) {
                    tracing::warn!(socket = %path.display(), %error, "dead shim's socket stays");
                }
            }
            _ => {}
        }
    }
}
