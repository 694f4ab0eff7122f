//! Field masks: which parts of a record an update touches.
//!
//! No mask replaces every field that may change. A path names a whole field, or one key of a map: everything after
//! the first dot is the key, dots included. A key without a value in the request is removed, and so is one whose value
//! is empty.

use std::collections::BTreeMap;

use model::{ErrorKind, Kinded, Labels};

/// Most paths in one mask.
pub const MASK_PATHS_MAX: usize = 4096;

/// What may be updated of one kind of record.
#[derive(Debug, Clone, Copy)]
pub struct Updatable {
    /// What the record is, for messages: `image`.
    pub object: &'static str,
    /// Fields that are replaced as a whole.
    pub fields: &'static [&'static str],
    /// Fields that are maps and may be updated key by key.
    pub maps: &'static [&'static str],
}

/// A mask that was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mask {
    /// Every field that may change is replaced.
    Everything,
    /// Only these.
    Paths(Vec<Path>),
}

/// One path of a mask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Path {
    /// The whole field.
    Field(&'static str),
    /// One key of a map.
    Key(&'static str, String),
}

/// A mask that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum InvalidMask {
    /// The record has no such field, or it may not be updated.
    #[error("cannot update field {path:?} of {object}: invalid argument")]
    Path {
        /// What the record is.
        object: &'static str,
        /// The path, cut to 200 characters.
        path: String,
    },
    /// There are more than [`MASK_PATHS_MAX`] paths.
    #[error("cannot update {count} fields of {object} at once: invalid argument")]
    Paths {
        /// What the record is.
        object: &'static str,
        /// How many paths there are.
        count: usize,
    },
}

impl Kinded for InvalidMask {
    fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidArgument
    }
}

impl From<InvalidMask> for tonic::Status {
    fn from(error: InvalidMask) -> Self {
        crate::status::of(error)
    }
}

impl Mask {
    /// Checks every path against what may be updated.
    pub fn new(
        mask: Option<&proto::FieldMask>,
        updatable: &Updatable,
    ) -> Result<Self, InvalidMask> {
        let object = updatable.object;
        let paths = mask.map_or(&[][..], |mask| &mask.paths);
        if paths.is_empty() {
            return Ok(Self::Everything);
        }
        if paths.len() > MASK_PATHS_MAX {
            let count = paths.len();
            return Err(InvalidMask::Paths { object, count });
        }
        let checked = paths.iter().map(|path| {
            find(path, updatable).ok_or_else(|| InvalidMask::Path {
                object,
                path: path.chars().take(200).collect(),
            })
        });
        checked.collect::<Result<_, _>>().map(Self::Paths)
    }

    /// Whether the whole field is replaced.
    pub fn replaces(&self, field: &str) -> bool {
        match self {
            Self::Everything => true,
            Self::Paths(paths) => paths.iter().any(|path| *path == *field),
        }
    }

    /// Updates a map from the request's, path by path; `empty` tells which values remove their key.
    pub fn merge<V: Clone>(
        &self,
        field: &str,
        current: &mut BTreeMap<String, V>,
        wanted: &BTreeMap<String, V>,
        empty: impl Fn(&V) -> bool,
    ) {
        let Self::Paths(paths) = self else {
            current.clone_from(wanted);
            current.retain(|_, value| !empty(value));
            return;
        };
        for path in paths {
            match path {
                Path::Field(name) if *name == field => current.clone_from(wanted),
                Path::Key(name, key) if *name == field => match wanted.get(key) {
                    Some(value) => drop(current.insert(key.clone(), value.clone())),
                    None => drop(current.remove(key)),
                },
                Path::Field(_) | Path::Key(..) => {}
            }
        }
        current.retain(|_, value| !empty(value));
    }

    /// As [`Mask::merge`] for the field `labels`.
    pub fn merge_labels(&self, current: &mut Labels, wanted: &Labels) {
        self.merge("labels", current, wanted, String::is_empty);
    }
}

impl PartialEq<str> for Path {
    fn eq(&self, field: &str) -> bool {
        matches!(self, Self::Field(name) if *name == field)
    }
}

fn find(path: &str, updatable: &Updatable) -> Option<Path> {
    if let Some((name, key)) = path.split_once('.') {
        let map = updatable.maps.iter().find(|map| **map == name)?;
        return (!key.is_empty()).then(|| Path::Key(map, key.to_owned()));
    }
    let all = updatable.fields.iter().chain(updatable.maps);
    all.copied().find(|field| *field == path).map(Path::Field)
}

#[cfg(test)]
mod tests {
    use super::*;

    const IMAGE: Updatable = Updatable {
        object: "image",
        fields: &["target"],
        maps: &["labels", "annotations"],
    };

    fn mask(paths: &[&str]) -> Result<Mask, InvalidMask> {
        let paths = paths.iter().map(|path| (*path).to_owned()).collect();
        Mask::new(Some(&proto::FieldMask { paths }), &IMAGE)
    }

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        let pairs = pairs.iter();
        pairs
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn only_known_paths_pass() {
        for (path, good) in [
            ("labels", true),
            ("labels.a.b/c", true),
            ("annotations.x", true),
            ("target", true),
            ("labels.", false),
            ("target.digest", false),
            ("name", false),
            ("Labels", false),
            (".", false),
            ("", false),
        ] {
            assert_eq!(mask(&[path]).is_ok(), good, "{path:?}");
        }
        let status = tonic::Status::from(mask(&["labels", "name"]).unwrap_err());
        assert_eq!(status.code(), tonic::Code::InvalidArgument);
        assert!(mask(&vec!["labels"; MASK_PATHS_MAX + 1]).is_err());
    }

    #[test]
    fn no_mask_means_everything() {
        assert_eq!(Mask::new(None, &IMAGE).unwrap(), Mask::Everything);
        assert_eq!(mask(&[]).unwrap(), Mask::Everything);
        assert!(Mask::Everything.replaces("target"));
        assert!(!mask(&["labels.x"]).unwrap().replaces("labels"));
        assert!(mask(&["labels", "target"]).unwrap().replaces("target"));
    }

    #[test]
    fn labels_are_set_replaced_and_removed() {
        let before = [("a", "1"), ("b.c", "2")];
        for (paths, wanted, after) in [
            (&[][..], &[("x", "9"), ("y", "")][..], &[("x", "9")][..]),
            (&["labels"], &[("x", "9"), ("y", "")], &[("x", "9")]),
            (
                &["labels.a"],
                &[("a", "9"), ("x", "9")],
                &[("a", "9"), ("b.c", "2")],
            ),
            (&["labels.b.c"], &[("b.c", "")], &[("a", "1")]),
            (&["labels.b.c"], &[], &[("a", "1")]),
            (
                &["labels.new"],
                &[("new", "v")],
                &[("a", "1"), ("b.c", "2"), ("new", "v")],
            ),
            (&["annotations.a", "target"], &[("a", "9")], &before),
        ] {
            let mut current = labels(&before);
            mask(paths)
                .unwrap()
                .merge_labels(&mut current, &labels(wanted));
            assert_eq!(current, labels(after), "{paths:?} {wanted:?}");
        }
    }
}
