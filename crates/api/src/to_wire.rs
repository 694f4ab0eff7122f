//! Values of `model` as messages; always possible.

use proto::containerd::types;

/// A descriptor; urls, platform and artifact type have no place in the message.
pub fn descriptor(descriptor: &model::Descriptor) -> types::Descriptor {
    types::Descriptor {
        media_type: descriptor.media_type.clone(),
        digest: descriptor.digest.as_str().to_owned(),
        size: size(descriptor.size),
        annotations: descriptor.annotations.clone(),
    }
}

/// A size in bytes; what no `int64` holds becomes the largest one.
pub fn size(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// A mount.
pub fn mount(mount: &model::Mount) -> types::Mount {
    types::Mount {
        r#type: mount.kind.clone(),
        source: mount.source.clone(),
        target: mount.target.clone(),
        options: mount.options.clone(),
    }
}

/// Mounts, in order.
pub fn mounts(mounts: &[model::Mount]) -> Vec<types::Mount> {
    mounts.iter().map(mount).collect()
}

/// A platform.
pub fn platform(platform: &model::Platform) -> types::Platform {
    types::Platform {
        os: platform.os.clone(),
        architecture: platform.architecture.clone(),
        variant: platform.variant.clone(),
        os_version: platform.os_version.clone(),
        os_features: platform.os_features.clone(),
    }
}

/// A moment; nanoseconds count forward also before 1970.
pub fn timestamp(timestamp: model::Timestamp) -> proto::Timestamp {
    const BILLION: i32 = 1_000_000_000;
    let (seconds, nanos) = (timestamp.as_second(), timestamp.subsec_nanosecond());
    if nanos < 0 {
        let (seconds, nanos) = (seconds - 1, nanos + BILLION);
        return proto::Timestamp { seconds, nanos };
    }
    proto::Timestamp { seconds, nanos }
}
