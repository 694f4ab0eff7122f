//! A part of the daemon as `Introspection.Plugins` shows it.

use std::collections::BTreeMap;

/// A part under upstream's names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The type, such as `io.containerd.snapshotter.v1`.
    pub kind: String,
    /// The id within the type, such as `overlayfs`.
    pub id: String,
    /// Types that it is built upon.
    pub requires: Vec<String>,
    /// Platforms that it serves, such as `linux/amd64`.
    pub platforms: Vec<String>,
    /// What it tells the world, such as its root folder.
    pub exports: BTreeMap<String, String>,
    /// What it can do, such as `rebase`.
    pub capabilities: Vec<String>,
    /// Whether it serves.
    pub status: PartStatus,
}

/// Whether a part serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PartStatus {
    /// It serves.
    Ready,
    /// Host or configuration leave it out.
    Skipped {
        /// Why.
        reason: String,
    },
}

impl Part {
    /// Adds something that the part tells the world.
    pub fn export(&mut self, key: &str, value: impl Into<String>) -> &mut Self {
        self.exports.insert(key.to_owned(), value.into());
        self
    }

    /// Adds what the part can do.
    pub fn capable(
        &mut self,
        capabilities: impl IntoIterator<Item = impl Into<String>>,
    ) -> &mut Self {
        self.capabilities
            .extend(capabilities.into_iter().map(Into::into));
        self
    }
}
