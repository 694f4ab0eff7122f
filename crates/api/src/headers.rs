//! The namespace and the lease of a call: both travel as metadata, not in messages.

use model::{ErrorKind, InvalidId, Kinded, Namespace};
use tonic::metadata::{Ascii, MetadataMap, MetadataValue};

/// The namespace of a call over gRPC.
pub const NAMESPACE: &str = "containerd-namespace";
/// The lease of a call: what it makes is kept for as long as the lease lives.
pub const LEASE: &str = "containerd-lease";
/// The namespace of a call over ttrpc.
pub const NAMESPACE_TTRPC: &str = "containerd-namespace-ttrpc";

/// A call's metadata is not usable.
#[derive(Debug, thiserror::Error)]
pub enum InvalidHeader {
    /// There is no namespace.
    #[error("namespace is required: failed precondition")]
    NoNamespace,
    /// The namespace is no identifier.
    #[error("namespace validation")]
    Namespace {
        /// What is wrong with it.
        source: InvalidId,
    },
    /// The value has bytes other than visible ASCII.
    #[error("metadata {key:?} must be text: invalid argument")]
    NoText {
        /// The key.
        key: &'static str,
    },
}

impl Kinded for InvalidHeader {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NoNamespace => ErrorKind::FailedPrecondition,
            Self::Namespace { .. } | Self::NoText { .. } => ErrorKind::InvalidArgument,
        }
    }
}

impl From<InvalidHeader> for tonic::Status {
    fn from(error: InvalidHeader) -> Self {
        crate::status::of(error)
    }
}

/// The namespace of a gRPC call; the first value counts.
pub fn namespace(metadata: &MetadataMap) -> Result<Namespace, InvalidHeader> {
    namespace_of(text(metadata, NAMESPACE)?)
}

/// Checks a namespace that came some other way, such as ttrpc's metadata under [`NAMESPACE_TTRPC`].
pub fn namespace_of(value: Option<&str>) -> Result<Namespace, InvalidHeader> {
    let value = value
        .filter(|value| !value.is_empty())
        .ok_or(InvalidHeader::NoNamespace)?;
    Namespace::new(value).map_err(|source| InvalidHeader::Namespace { source })
}

/// The lease of a gRPC call, if it has one; whether that lease exists is the store's question.
pub fn lease(metadata: &MetadataMap) -> Result<Option<&str>, InvalidHeader> {
    let value = text(metadata, LEASE)?;
    Ok(value.filter(|value| !value.is_empty()))
}

/// Sets the namespace of a call that we make.
pub fn set_namespace(metadata: &mut MetadataMap, namespace: &Namespace) {
    let value = namespace.as_str().parse::<MetadataValue<Ascii>>();
    metadata.insert(NAMESPACE, value.expect("identifiers are visible ASCII"));
}

/// Sets the lease of a call that we make.
pub fn set_lease(metadata: &mut MetadataMap, lease: &str) -> Result<(), InvalidHeader> {
    let value = lease.parse::<MetadataValue<Ascii>>();
    let value = value.map_err(|_| InvalidHeader::NoText { key: LEASE })?;
    metadata.insert(LEASE, value);
    Ok(())
}

fn text<'a>(
    metadata: &'a MetadataMap,
    key: &'static str,
) -> Result<Option<&'a str>, InvalidHeader> {
    let value = metadata.get(key).map(MetadataValue::to_str);
    value.transpose().map_err(|_| InvalidHeader::NoText { key })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic::{Code, Status};

    fn metadata(key: &'static str, values: &[&str]) -> MetadataMap {
        let mut map = MetadataMap::new();
        for value in values {
            map.append(key, MetadataValue::try_from(*value).unwrap());
        }
        map
    }

    #[test]
    fn the_first_namespace_counts_and_is_checked() {
        for (values, wanted) in [
            (&["default", "../x"][..], Ok("default")),
            (
                &[],
                Err((
                    Code::FailedPrecondition,
                    "namespace is required: failed precondition",
                )),
            ),
            (
                &["", "b"],
                Err((
                    Code::FailedPrecondition,
                    "namespace is required: failed precondition",
                )),
            ),
            (
                &["a/b"],
                Err((
                    Code::InvalidArgument,
                    "namespace validation: identifier \"a/b\"",
                )),
            ),
            (
                &["ä"],
                Err((
                    Code::InvalidArgument,
                    "metadata \"containerd-namespace\" must be text",
                )),
            ),
        ] {
            let found = namespace(&metadata(NAMESPACE, values));
            match (found, wanted) {
                (Ok(found), Ok(wanted)) => assert_eq!(found.as_str(), wanted),
                (Err(error), Err((code, text))) => {
                    let status = Status::from(error);
                    assert_eq!(status.code(), code, "{values:?}");
                    assert!(status.message().starts_with(text), "{status}");
                }
                (found, wanted) => panic!("{values:?}: {found:?} instead of {wanted:?}"),
            }
        }
    }

    #[test]
    fn ttrpc_says_the_same() {
        assert_eq!(namespace_of(Some("k8s.io")).unwrap().as_str(), "k8s.io");
        assert!(matches!(
            namespace_of(None),
            Err(InvalidHeader::NoNamespace)
        ));
    }

    #[test]
    fn a_lease_is_any_text() {
        for (values, wanted) in [
            (&[][..], None),
            (&[""], None),
            (&["1/2 3#x"], Some("1/2 3#x")),
            (&["a", "b"], Some("a")),
        ] {
            assert_eq!(lease(&metadata(LEASE, values)).unwrap(), wanted);
        }
    }

    #[test]
    fn what_we_set_comes_back() {
        let mut map = MetadataMap::new();
        set_namespace(&mut map, &Namespace::new("moby").unwrap());
        set_lease(&mut map, "l").unwrap();
        assert_eq!(namespace(&map).unwrap().as_str(), "moby");
        assert_eq!(lease(&map).unwrap(), Some("l"));
        assert!(set_lease(&mut map, "a\nb").is_err());
    }
}
