//! Messages as values of `model`: everything is checked here, once.

use model::{ErrorKind, Kinded};
use proto::containerd::types;

/// A field of a request that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum InvalidField {
    /// The field has to be there.
    #[error("{field} must be set: invalid argument")]
    Missing {
        /// The field as the message names it.
        field: &'static str,
    },
    /// The text is no digest.
    #[error("read {field}")]
    Digest {
        /// The field as the message names it.
        field: &'static str,
        /// What is wrong with it.
        source: model::InvalidDigest,
    },
    /// A size or offset is negative.
    #[error("{field} must not be negative, but is {value}: invalid argument")]
    Negative {
        /// The field as the message names it.
        field: &'static str,
        /// The value found.
        value: i64,
    },
    /// A moment lies outside of the years -9999 to 9999, or its nanoseconds outside of a second.
    #[error("{field} of {seconds} s and {nanos} ns is no time: invalid argument")]
    Time {
        /// The field as the message names it.
        field: &'static str,
        /// Seconds since 1970.
        seconds: i64,
        /// Nanoseconds.
        nanos: i32,
    },
    /// A label is too long or has no key.
    #[error("check {field}")]
    Label {
        /// The field as the message names it.
        field: &'static str,
        /// What is wrong with it.
        source: model::InvalidLabel,
    },
}

impl Kinded for InvalidField {
    fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidArgument
    }
}

impl From<InvalidField> for tonic::Status {
    fn from(error: InvalidField) -> Self {
        crate::status::of(error)
    }
}

/// A message that has to be there.
pub fn required<T>(field: &'static str, value: Option<T>) -> Result<T, InvalidField> {
    value.ok_or(InvalidField::Missing { field })
}

/// A text that has to be there.
pub fn not_empty(field: &'static str, value: String) -> Result<String, InvalidField> {
    if value.is_empty() {
        return Err(InvalidField::Missing { field });
    }
    Ok(value)
}

/// A digest.
pub fn digest(field: &'static str, text: &str) -> Result<model::Digest, InvalidField> {
    let read = text.parse();
    read.map_err(|source| InvalidField::Digest { field, source })
}

/// A digest, or none when the text is empty.
pub fn optional_digest(
    field: &'static str,
    text: &str,
) -> Result<Option<model::Digest>, InvalidField> {
    if text.is_empty() {
        return Ok(None);
    }
    digest(field, text).map(Some)
}

/// A size or offset in bytes.
pub fn size(field: &'static str, value: i64) -> Result<u64, InvalidField> {
    u64::try_from(value).map_err(|_| InvalidField::Negative { field, value })
}

/// A descriptor that has to be there.
pub fn descriptor(
    field: &'static str,
    value: Option<types::Descriptor>,
) -> Result<model::Descriptor, InvalidField> {
    let wire = required(field, value)?;
    let mut descriptor = model::Descriptor::new(
        wire.media_type,
        digest(field, &wire.digest)?,
        size(field, wire.size)?,
    );
    descriptor.annotations = wire.annotations;
    Ok(descriptor)
}

/// A mount; its parts are checked where it is performed.
pub fn mount(wire: types::Mount) -> model::Mount {
    model::Mount {
        kind: wire.r#type,
        source: wire.source,
        target: wire.target,
        options: wire.options,
    }
}

/// Mounts, in order.
pub fn mounts(wire: Vec<types::Mount>) -> Vec<model::Mount> {
    wire.into_iter().map(mount).collect()
}

/// A platform; not normalised.
pub fn platform(wire: types::Platform) -> model::Platform {
    model::Platform {
        os: wire.os,
        architecture: wire.architecture,
        variant: wire.variant,
        os_version: wire.os_version,
        os_features: wire.os_features,
    }
}

/// Labels within the limits.
pub fn labels(field: &'static str, labels: model::Labels) -> Result<model::Labels, InvalidField> {
    model::check_labels(&labels).map_err(|source| InvalidField::Label { field, source })?;
    Ok(labels)
}

/// A moment.
pub fn timestamp(
    field: &'static str,
    wire: proto::Timestamp,
) -> Result<model::Timestamp, InvalidField> {
    let proto::Timestamp { seconds, nanos } = wire;
    let refuse = || InvalidField::Time {
        field,
        seconds,
        nanos,
    };
    if !(0..1_000_000_000).contains(&nanos) {
        return Err(refuse());
    }
    model::Timestamp::new(seconds, nanos).map_err(|_| refuse())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::to_wire;

    fn sha256(digit: &str) -> String {
        format!("sha256:{}", digit.repeat(64))
    }

    #[test]
    fn descriptors_come_back() {
        let mut descriptor = model::Descriptor::new("a/b", sha256("a").parse().unwrap(), 7);
        descriptor.annotations.insert("k".into(), "v".into());
        let wire = to_wire::descriptor(&descriptor);
        assert_eq!(super::descriptor("target", Some(wire)).unwrap(), descriptor);
    }

    #[test]
    fn bad_descriptors_are_invalid_arguments() {
        let good = types::Descriptor {
            digest: sha256("a"),
            ..Default::default()
        };
        for (wire, text) in [
            (None, "target must be set: invalid argument"),
            (
                Some(types::Descriptor {
                    size: -1,
                    ..good.clone()
                }),
                "target must not be negative, but is -1: invalid argument",
            ),
            (
                Some(types::Descriptor {
                    digest: "../x".into(),
                    ..good
                }),
                "read target: invalid digest \"../x\"",
            ),
        ] {
            let status = tonic::Status::from(descriptor("target", wire).unwrap_err());
            assert_eq!(status.code(), tonic::Code::InvalidArgument);
            assert!(status.message().starts_with(text), "{status}");
        }
    }

    #[test]
    fn empty_digests_are_none_only_where_optional() {
        assert!(optional_digest("expected", "").unwrap().is_none());
        assert!(optional_digest("expected", "sha256:").is_err());
        assert!(digest("digest", "").is_err());
    }

    #[test]
    fn mounts_and_platforms_come_back() {
        let mount = model::Mount {
            kind: "overlay".into(),
            source: "overlay".into(),
            target: "t".into(),
            options: vec!["lowerdir=/a:/b".into(), "ro".into()],
        };
        let mounts_in = vec![mount.clone(), mount];
        assert_eq!(mounts(to_wire::mounts(&mounts_in)), mounts_in);
        let platform_in = model::Platform {
            os: "linux".into(),
            architecture: "arm".into(),
            variant: "v7".into(),
            os_version: "1".into(),
            os_features: vec!["f".into()],
        };
        assert_eq!(platform(to_wire::platform(&platform_in)), platform_in);
    }

    #[test]
    fn moments_come_back_also_before_1970() {
        for (seconds, nanos) in [(0, 0), (1, 5), (-1, 999_999_999), (-62_135_596_800, 0)] {
            let wire = proto::Timestamp { seconds, nanos };
            let moment = timestamp("created_at", wire).unwrap();
            assert_eq!(to_wire::timestamp(moment), wire);
        }
        for (seconds, nanos) in [(0, -1), (0, 1_000_000_000), (i64::MAX, 0), (i64::MIN, 0)] {
            let wire = proto::Timestamp { seconds, nanos };
            assert!(timestamp("created_at", wire).is_err(), "{wire:?}");
        }
    }

    #[test]
    fn labels_are_checked() {
        let long = "x".repeat(model::LABEL_BYTES_MAX);
        for (key, value, good) in [
            ("k", "v", true),
            ("", "v", false),
            ("k", long.as_str(), false),
        ] {
            let one = model::Labels::from([(key.to_owned(), value.to_owned())]);
            assert_eq!(labels("labels", one).is_ok(), good);
        }
    }
}
