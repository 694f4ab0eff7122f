//! The labels that make references.

use model::{Labels, Timestamp};

use crate::key::{BLOBS, CONTAINERS, IMAGES, Key, SNAPSHOTS, key};

/// Label: the time (RFC 3339) after which a lease or image is removed, and until which content and snapshots stay.
pub const LABEL_EXPIRE: &str = "containerd.io/gc.expire";
const LABEL_ROOT: &str = "containerd.io/gc.root";
const LABEL_FLAT: &str = "containerd.io/gc.flat";
const FORWARD: &str = "containerd.io/gc.ref.";
const BACKWARD: &str = "containerd.io/gc.bref.";

/// The rows that an object's `gc.ref.*` labels name.
pub(super) fn forward(namespace: &str, labels: &Labels, out: &mut Vec<Key>) {
    references(FORWARD, namespace, labels, out);
}

/// The rows on whose life an object's `gc.bref.*` labels make it depend.
pub(super) fn backward(namespace: &str, labels: &Labels, out: &mut Vec<Key>) {
    references(BACKWARD, namespace, labels, out);
}

fn references(prefix: &'static str, namespace: &str, labels: &Labels, out: &mut Vec<Key>) {
    for (label, value) in labels.range(prefix.to_owned()..) {
        let Some(kind) = label.strip_prefix(prefix) else {
            break;
        };
        if let Some(name) = kind.strip_prefix("snapshot.") {
            // What follows a slash only tells several references apart.
            let driver = name.split('/').next().unwrap_or_default();
            out.push(key(SNAPSHOTS, &[namespace, driver, value]));
            continue;
        }
        let word = kind.split(['.', '/']).next().unwrap_or_default();
        let table = match word {
            "content" => BLOBS,
            "image" => IMAGES,
            // Nothing can keep a container but itself; as a parent it is fine.
            "container" if prefix == BACKWARD => CONTAINERS,
            _ => continue,
        };
        out.push(key(table, &[namespace, value]));
    }
}

/// Whether the labels make content or a snapshot a root.
pub(super) fn is_root(labels: &Labels, now: Timestamp) -> bool {
    let rooted = labels
        .range(LABEL_ROOT.to_owned()..)
        .next()
        .is_some_and(|(label, _)| label.starts_with(LABEL_ROOT));
    rooted || expiry(labels).is_some_and(|time| time >= now)
}

/// Whether a lease or image is over. An expiry that is no time is ignored.
pub(super) fn is_expired(labels: &Labels, now: Timestamp) -> bool {
    expiry(labels).is_some_and(|time| time < now)
}

fn expiry(labels: &Labels) -> Option<Timestamp> {
    labels.get(LABEL_EXPIRE)?.parse().ok()
}

/// Whether a lease holds its resources only, not what they refer to.
pub(super) fn is_flat(labels: &Labels) -> bool {
    labels.contains_key(LABEL_FLAT)
}
