//! What became of each part of the daemon, under upstream's names, for `Introspection.Plugins`.

use services::{Part, PartStatus};

/// The parts in the order in which they were built.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    disabled: Vec<String>,
    required: Vec<String>,
    parts: Vec<Part>,
}

/// A part that the configuration requires is not there.
#[derive(Debug, thiserror::Error)]
#[error("required plugin {uri} did not start: {reason}")]
pub(crate) struct Missing {
    uri: String,
    reason: String,
}

/// The platform that every part serves.
fn platform() -> String {
    model::Platform::host().format()
}

impl Ledger {
    /// A ledger that follows the configuration's lists.
    pub(crate) fn new(disabled: Vec<String>, required: Vec<String>) -> Self {
        Self {
            disabled,
            required,
            parts: Vec::new(),
        }
    }

    /// Whether the configuration wants the part; notes it as skipped if not.
    pub(crate) fn wants(&mut self, kind: &str, id: &str) -> bool {
        let wanted = !self.disabled.contains(&format!("{kind}.{id}"));
        if !wanted {
            self.skipped(kind, id, "disabled by the configuration");
        }
        wanted
    }

    /// Notes a part that serves.
    pub(crate) fn ready(&mut self, kind: &str, id: &str) -> &mut Part {
        self.note(kind, id, PartStatus::Ready)
    }

    /// Notes a part that this host or the configuration leaves out.
    pub(crate) fn skipped(&mut self, kind: &str, id: &str, reason: &str) {
        tracing::info!(plugin = %format!("{kind}.{id}"), reason, "skip loading plugin");
        self.note(
            kind,
            id,
            PartStatus::Skipped {
                reason: reason.to_owned(),
            },
        );
    }

    fn note(&mut self, kind: &str, id: &str, status: PartStatus) -> &mut Part {
        self.parts.push(Part {
            kind: kind.to_owned(),
            id: id.to_owned(),
            requires: Vec::new(),
            platforms: Vec::new(),
            exports: std::collections::BTreeMap::new(),
            capabilities: Vec::new(),
            status,
        });
        self.parts.last_mut().expect("it was just pushed")
    }

    /// Ends the assembly: every required part must serve.
    pub(crate) fn close(mut self) -> Result<Vec<Part>, Missing> {
        for uri in &self.required {
            let found = self
                .parts
                .iter()
                .find(|part| format!("{}.{}", part.kind, part.id) == *uri);
            let reason = match found.map(|part| &part.status) {
                Some(PartStatus::Ready) => continue,
                Some(PartStatus::Skipped { reason }) => reason.clone(),
                None => "no part has this name".to_owned(),
            };
            return Err(Missing {
                uri: uri.clone(),
                reason,
            });
        }
        for part in &mut self.parts {
            let placed = [
                "io.containerd.runtime.v2",
                "io.containerd.snapshotter.v1",
                "io.containerd.differ.v1",
            ];
            if placed.contains(&part.kind.as_str()) {
                part.platforms = vec![platform()];
            }
        }
        Ok(self.parts)
    }
}
