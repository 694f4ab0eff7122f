//! Values of any type: how containerd names what an [`Any`] holds.
//!
//! The wire carries the bare full name, `containerd.events.TaskExit`, where protobuf's own convention has a prefix,
//! `type.googleapis.com/containerd.events.TaskExit`. We write the first and read both. A few values are JSON under a
//! name of their own; those names contain slashes and are compared whole.

use prost::Name;
use prost_types::Any;

/// JSON: an OCI runtime specification.
pub const RUNTIME_SPEC: &str = "types.containerd.io/opencontainers/runtime-spec/1/Spec";
/// JSON: the process section of an OCI runtime specification.
pub const RUNTIME_PROCESS: &str = "types.containerd.io/opencontainers/runtime-spec/1/Process";
/// JSON: the Linux resources section of an OCI runtime specification.
pub const LINUX_RESOURCES: &str =
    "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources";
/// JSON: the Windows resources section of an OCI runtime specification.
pub const WINDOWS_RESOURCES: &str =
    "types.containerd.io/opencontainers/runtime-spec/1/WindowsResources";
/// JSON: the features of an OCI runtime (runtime-spec, features.md).
pub const RUNTIME_FEATURES: &str =
    "types.containerd.io/opencontainers/runtime-spec/1/features/Features";
/// JSON: CRI's metadata of a container, kept as an extension of its record.
pub const CRI_CONTAINER_METADATA: &str = "github.com/containerd/cri/pkg/store/container/Metadata";
/// JSON: CRI's metadata of a pod, kept as an extension of its record.
pub const CRI_SANDBOX_METADATA: &str = "github.com/containerd/cri/pkg/store/sandbox/Metadata";
/// JSON: resources of a pod that CRI changed after its start.
pub const CRI_UPDATED_RESOURCES: &str = "io.containerd.cri.v1/UpdatedResources";
/// JSON: an answer of a registry that was no success, in the details of a status.
pub const REGISTRY_UNEXPECTED_STATUS: &str =
    "github.com/containerd/containerd/v2/core/remotes/errors/ErrUnexpectedStatus";
/// JSON: the networks that `ctr run --cni` attached, kept as an extension of the container's record.
pub const CTR_NETWORK_METADATA: &str =
    "github.com/containerd/containerd/v2/cmd/ctr/commands/NetworkMetaData";
/// Protobuf: keys for layers that are encrypted.
pub const OCICRYPT_PAYLOAD: &str = "io.containerd.ocicrypt.v1.Payload";

/// Why an [`Any`] could not be read as the type asked for.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// It holds another type.
    #[error("read {found:?} as {wanted:?}: not the same type")]
    OtherType {
        /// The type url found, cut to 200 characters.
        found: String,
        /// The full name of the type asked for.
        wanted: String,
    },
    /// Its bytes are no message of the type.
    #[error("decode {wanted:?}")]
    Malformed {
        /// The full name of the type asked for.
        wanted: String,
        /// What the decoder stumbled on.
        source: prost::DecodeError,
    },
}

/// Packs a message under its bare full name.
pub fn pack<M: Name>(message: &M) -> Any {
    Any {
        type_url: M::full_name(),
        value: message.encode_to_vec(),
    }
}

/// Packs a JSON value under one of the names of this module.
pub fn pack_json(type_url: &str, json: Vec<u8>) -> Any {
    Any {
        type_url: type_url.to_owned(),
        value: json,
    }
}

/// Reads a message; the type url may have a prefix.
pub fn unpack<M: Name + Default>(any: &Any) -> Result<M, UnpackError> {
    if !is::<M>(any) {
        return Err(UnpackError::OtherType {
            found: any.type_url.chars().take(200).collect(),
            wanted: M::full_name(),
        });
    }
    M::decode(any.value.as_slice()).map_err(|source| UnpackError::Malformed {
        wanted: M::full_name(),
        source,
    })
}

/// Whether the value says it is an `M`; the type url may have a prefix.
pub fn is<M: Name>(any: &Any) -> bool {
    let name = bare(&any.type_url);
    name.strip_prefix(M::PACKAGE)
        .is_some_and(|rest| match rest.strip_prefix('.') {
            Some(rest) => rest == M::NAME,
            None => M::PACKAGE.is_empty() && rest == M::NAME,
        })
}

/// The full name in a type url: what stands after the last slash.
///
/// Names of JSON types have to be compared whole instead.
pub fn bare(type_url: &str) -> &str {
    type_url.rsplit_once('/').map_or(type_url, |(_, name)| name)
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::containerd::events::{TaskExit, TaskStart};

    #[test]
    fn packs_under_the_bare_name() {
        let any = pack(&TaskStart {
            container_id: "c".into(),
            pid: 7,
        });
        assert_eq!(any.type_url, "containerd.events.TaskStart");
        assert_eq!(any.value, b"\x0a\x01c\x10\x07");
    }

    #[test]
    fn reads_bare_and_prefixed_names_only_of_the_same_type() {
        let value = TaskStart {
            container_id: "c".into(),
            pid: 7,
        };
        for (type_url, good) in [
            ("containerd.events.TaskStart", true),
            ("/containerd.events.TaskStart", true),
            ("type.googleapis.com/containerd.events.TaskStart", true),
            ("a/b/containerd.events.TaskStart", true),
            ("containerd.events.TaskStarted", false),
            ("containerd.events.TaskExit", false),
            ("TaskStart", false),
            ("containerd.events", false),
            ("containerd.eventsTaskStart", false),
            ("containerd.events.TaskStart/", false),
            ("", false),
        ] {
            let any = Any {
                type_url: type_url.into(),
                value: value.encode_to_vec(),
            };
            assert_eq!(is::<TaskStart>(&any), good, "{type_url}");
            match unpack::<TaskStart>(&any) {
                Ok(read) => assert!(good && read == value, "{type_url}"),
                Err(UnpackError::OtherType { .. }) => assert!(!good, "{type_url}"),
                Err(error) => panic!("{type_url}: {error}"),
            }
        }
    }

    #[test]
    fn names_inside_messages_and_of_well_known_types() {
        use crate::containerd::services::containers::v1::container::Runtime;
        assert_eq!(
            pack(&Runtime::default()).type_url,
            "containerd.services.containers.v1.Container.Runtime"
        );
        assert_eq!(pack(&()).type_url, "google.protobuf.Empty");
        assert!(is::<()>(&pack(&())));
    }

    #[test]
    fn damaged_bytes_are_an_error() {
        let any = Any {
            type_url: TaskExit::full_name(),
            value: vec![0xff],
        };
        assert!(matches!(
            unpack::<TaskExit>(&any),
            Err(UnpackError::Malformed { .. })
        ));
    }
}
