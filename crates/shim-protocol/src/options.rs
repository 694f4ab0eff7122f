//! `containerd.runc.v1.Options`: what a client may say about the runtime.

use crate::Error;
use prost::Message;
use prost_types::Any;
use serde::{Deserialize, Serialize};

/// The type of [`RuncOptions`] in an `Any`.
pub const TYPE_URL: &str = "containerd.runc.v1.Options";

/// The built-in runtime answers to this name, because dockerd always sends it.
const BUILT_IN: &str = "runc";

/// The options of runc and its kin. As JSON it is the bundle's `options.json`.
#[derive(Clone, PartialEq, Eq, prost::Message, Serialize, Deserialize)]
#[serde(default)]
pub struct RuncOptions {
    /// Do not use `pivot_root`.
    #[prost(bool, tag = "1")]
    #[serde(skip_serializing_if = "is_false")]
    pub no_pivot_root: bool,
    /// Keep the session keyring.
    #[prost(bool, tag = "2")]
    #[serde(skip_serializing_if = "is_false")]
    pub no_new_keyring: bool,
    /// The cgroup of the shim itself.
    #[prost(string, tag = "3")]
    #[serde(skip_serializing_if = "String::is_empty")]
    pub shim_cgroup: String,
    /// Owner of the stdio pipes.
    #[prost(uint32, tag = "4")]
    #[serde(skip_serializing_if = "is_zero")]
    pub io_uid: u32,
    /// Group of the stdio pipes.
    #[prost(uint32, tag = "5")]
    #[serde(skip_serializing_if = "is_zero")]
    pub io_gid: u32,
    /// An external runtime; see [`RuncOptions::external_runtime`].
    #[prost(string, tag = "6")]
    #[serde(skip_serializing_if = "String::is_empty")]
    pub binary_name: String,
    /// Folder below which state is kept, one folder a namespace.
    #[prost(string, tag = "7")]
    #[serde(skip_serializing_if = "String::is_empty")]
    pub root: String,
    /// cgroups are made by systemd.
    #[prost(bool, tag = "9")]
    #[serde(skip_serializing_if = "is_false")]
    pub systemd_cgroup: bool,
    /// Where a checkpoint is kept.
    #[prost(string, tag = "10")]
    #[serde(skip_serializing_if = "String::is_empty")]
    pub criu_image_path: String,
    /// Where criu keeps its logs.
    #[prost(string, tag = "11")]
    #[serde(skip_serializing_if = "String::is_empty")]
    pub criu_work_path: String,
    /// Address of a task service that runs already.
    #[prost(string, tag = "12")]
    #[serde(skip_serializing_if = "String::is_empty")]
    pub task_api_address: String,
    /// Version of that service.
    #[prost(uint32, tag = "13")]
    #[serde(skip_serializing_if = "is_zero")]
    pub task_api_version: u32,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde prescribes the signature"
)]
fn is_false(value: &bool) -> bool {
    !value
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde prescribes the signature"
)]
fn is_zero(value: &u32) -> bool {
    *value == 0
}

impl RuncOptions {
    /// Reads the options of a request; an absent or empty `Any` is all defaults.
    pub fn from_any(any: Option<&Any>) -> Result<Self, Error> {
        let Some(any) = any.filter(|any| !any.type_url.is_empty() || !any.value.is_empty()) else {
            return Ok(Self::default());
        };
        let type_url = any.type_url.rsplit('/').next().unwrap_or_default();
        if type_url != TYPE_URL {
            return Err(Error::OptionsType {
                type_url: any.type_url.clone(),
            });
        }
        Self::decode(any.value.as_slice()).map_err(|source| Error::Decode {
            what: "runtime options",
            source,
        })
    }

    /// The options as a request carries them.
    pub fn to_any(&self) -> Any {
        Any {
            type_url: TYPE_URL.to_owned(),
            value: self.encode_to_vec(),
        }
    }

    /// Reads the bundle's `options.json`.
    pub fn from_json(text: &[u8]) -> Result<Self, Error> {
        serde_json::from_slice(text).map_err(|source| Error::Json {
            what: "options.json",
            source,
        })
    }

    /// The text of the bundle's `options.json`.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings, numbers and flags can be written as JSON")
    }

    /// The external runtime to use instead of the built-in one.
    pub fn external_runtime(&self) -> Option<&str> {
        Some(self.binary_name.as_str()).filter(|name| !name.is_empty() && *name != BUILT_IN)
    }

    /// The folder in which the state of a namespace's containers is kept.
    pub fn state_root(&self, namespace: &str) -> std::path::PathBuf {
        let root = if self.root.is_empty() {
            crate::bundle::RUNC_ROOT
        } else {
            &self.root
        };
        std::path::Path::new(root).join(namespace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_survive_both_forms() {
        let options = RuncOptions {
            root: "/r".into(),
            systemd_cgroup: true,
            io_uid: 7,
            ..RuncOptions::default()
        };
        assert_eq!(
            RuncOptions::from_any(Some(&options.to_any())).unwrap(),
            options
        );
        assert_eq!(
            options.to_json(),
            br#"{"io_uid":7,"root":"/r","systemd_cgroup":true}"#
        );
        assert_eq!(RuncOptions::from_json(&options.to_json()).unwrap(), options);
        assert_eq!(RuncOptions::from_any(None).unwrap(), RuncOptions::default());
        let foreign = Any {
            type_url: "runtimeoptions.v1.Options".into(),
            value: vec![],
        };
        assert!(RuncOptions::from_any(Some(&foreign)).is_err());
    }

    #[test]
    fn runc_by_name_is_the_built_in_runtime() {
        for (name, external) in [
            ("", None),
            ("runc", None),
            ("crun", Some("crun")),
            ("/usr/bin/runc", Some("/usr/bin/runc")),
        ] {
            let options = RuncOptions {
                binary_name: name.into(),
                ..RuncOptions::default()
            };
            assert_eq!(options.external_runtime(), external);
        }
    }
}
