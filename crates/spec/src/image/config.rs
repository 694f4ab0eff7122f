//! The configuration of an image (config.md), with the fields that docker adds.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::record::null_is_absent as null;

record! {
    /// The configuration of an image for one platform.
    open struct ImageConfiguration {
        /// When the image was built, RFC 3339.
        created: Option<String>,
        /// Who built it.
        author: Option<String>,
        /// The processor architecture, as Go names it.
        architecture: String,
        /// The operating system, as Go names it.
        os: String,
        /// The version of the operating system.
        #[serde(rename = "os.version")]
        os_version: Option<String>,
        /// Features that the operating system must have.
        #[serde(rename = "os.features")]
        os_features: Vec<String>,
        /// The variant of the architecture.
        variant: Option<String>,
        /// How containers run by default.
        config: Option<ContainerConfig>,
        /// The layers.
        rootfs: RootFs,
        /// How each layer was made.
        history: Vec<History>,
    }
}

impl ImageConfiguration {
    /// Reads the document.
    pub fn from_slice(bytes: &[u8]) -> Result<Self, crate::Error> {
        crate::parse("image configuration", bytes, crate::IMAGE_JSON_BYTES_MAX)
    }
}

record! {
    /// The layers of an image.
    struct RootFs {
        /// Always `layers`.
        #[serde(rename = "type")]
        kind: String,
        /// Digests of the uncompressed layers, the base first.
        #[serde(rename = "diff_ids")]
        diff_ids: Vec<String>,
    }
}

record! {
    /// How one layer was made.
    struct History {
        /// When, RFC 3339.
        created: Option<String>,
        /// By which command.
        #[serde(rename = "created_by")]
        created_by: Option<String>,
        /// By whom.
        author: Option<String>,
        /// In which words.
        comment: Option<String>,
        /// Whether the step made no layer.
        #[serde(rename = "empty_layer")]
        empty_layer: bool,
    }
}

/// The value of a set's entry: `{}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Empty {}

/// How containers of an image run by default (config.md#properties), with docker's additions.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerConfig {
    /// The user: `user`, `uid`, `user:group`, …
    #[serde(deserialize_with = "null", skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Ports that the image listens on: `80/tcp`.
    #[serde(deserialize_with = "null", skip_serializing_if = "BTreeMap::is_empty")]
    pub exposed_ports: BTreeMap<String, Empty>,
    /// `NAME=value` pairs.
    #[serde(deserialize_with = "null", skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// The program and its first arguments.
    #[serde(deserialize_with = "null", skip_serializing_if = "Vec::is_empty")]
    pub entrypoint: Vec<String>,
    /// Default arguments, or the program when there is no entry point.
    #[serde(deserialize_with = "null", skip_serializing_if = "Vec::is_empty")]
    pub cmd: Vec<String>,
    /// Paths that hold data of the container's own.
    #[serde(deserialize_with = "null", skip_serializing_if = "BTreeMap::is_empty")]
    pub volumes: BTreeMap<String, Empty>,
    /// The working folder.
    #[serde(deserialize_with = "null", skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
    /// Arbitrary metadata.
    #[serde(deserialize_with = "null", skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The signal that asks the process to stop: `SIGTERM`, `15`.
    #[serde(deserialize_with = "null", skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
    /// Whether `entrypoint` or `cmd` is one escaped command line; Windows only.
    #[serde(deserialize_with = "null", skip_serializing_if = "is_false")]
    pub args_escaped: bool,
    /// Docker: how to find out whether the container is healthy.
    #[serde(deserialize_with = "null", skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
    /// Docker: seconds between the stop signal and the kill.
    #[serde(deserialize_with = "null", skip_serializing_if = "Option::is_none")]
    pub stop_timeout: Option<i64>,
    /// Docker: the shell of the shell form of instructions.
    #[serde(deserialize_with = "null", skip_serializing_if = "Vec::is_empty")]
    pub shell: Vec<String>,
    /// Docker: triggers for builds upon this image.
    #[serde(deserialize_with = "null", skip_serializing_if = "Vec::is_empty")]
    pub on_build: Vec<String>,
    /// Fields that we do not know.
    #[serde(flatten)]
    pub extra: crate::Extra,
}

/// How to find out whether a container is healthy; times in nanoseconds, zero inherits.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Healthcheck {
    /// `NONE`, or `CMD` or `CMD-SHELL` and the command.
    #[serde(deserialize_with = "null", skip_serializing_if = "Vec::is_empty")]
    pub test: Vec<String>,
    /// Between two checks.
    #[serde(skip_serializing_if = "is_zero")]
    pub interval: i64,
    /// Until a check counts as failed.
    #[serde(skip_serializing_if = "is_zero")]
    pub timeout: i64,
    /// While the container starts and failures do not count.
    #[serde(skip_serializing_if = "is_zero")]
    pub start_period: i64,
    /// Between two checks while the container starts.
    #[serde(skip_serializing_if = "is_zero")]
    pub start_interval: i64,
    /// Failures in a row until the container counts as unhealthy.
    #[serde(skip_serializing_if = "is_zero")]
    pub retries: i64,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes fields by reference"
)]
fn is_false(value: &bool) -> bool {
    !value
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes fields by reference"
)]
fn is_zero(value: &i64) -> bool {
    *value == 0
}
