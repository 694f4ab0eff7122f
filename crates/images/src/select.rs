//! Which manifest of an image is meant for a platform.

use std::cmp::Ordering;

use model::{Descriptor, ErrorKind, Kinded, PlatformMatcher};

use crate::{
    Config, DESCRIPTORS_MAX, DOCUMENT_BYTES_MAX, Document, Error, INDEX_DEPTH_MAX, Manifest, media,
};

/// The manifest that was chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selected {
    /// Where it stands.
    pub descriptor: Descriptor,
    /// What it says.
    pub manifest: Manifest,
}

/// Those entries of an index that are wanted, best first; an entry without a platform may be anything and comes last.
pub fn wanted(entries: Vec<Descriptor>, matcher: &PlatformMatcher) -> Vec<Descriptor> {
    let fits = |entry: &Descriptor| {
        entry
            .platform
            .as_ref()
            .is_none_or(|platform| matcher.matches(platform))
    };
    let mut kept: Vec<Descriptor> = entries.into_iter().filter(fits).collect();
    kept.sort_by(|left, right| match (&left.platform, &right.platform) {
        (Some(left), Some(right)) if matcher.less(left, right) => Ordering::Less,
        (Some(left), Some(right)) if matcher.less(right, left) => Ordering::Greater,
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        _ => Ordering::Equal,
    });
    kept
}

/// The first `most` of [`wanted`] entries; 0 for all.
///
/// # Errors
/// None is left although some are wanted.
pub fn limit(
    mut entries: Vec<Descriptor>,
    most: usize,
    index: &Descriptor,
) -> Result<Vec<Descriptor>, Error> {
    if most > 0 {
        if entries.is_empty() {
            return Err(Error::NoMatch {
                digest: index.digest.clone(),
            });
        }
        entries.truncate(most);
    }
    Ok(entries)
}

/// Finds the manifest of an image for a platform. `read` gets content that `descriptor` names, whole and verified.
///
/// A manifest that is the image itself is taken as it is. In an index, an entry without a platform is judged by its
/// configuration; content that is not there is passed over as long as something else fits.
///
/// # Errors
/// Nothing fits, a document is malformed, indexes nest too deep, or `read` fails.
pub fn select<E>(
    image: &Descriptor,
    matcher: &PlatformMatcher,
    mut read: impl FnMut(&Descriptor) -> Result<Vec<u8>, E>,
) -> Result<Selected, Error>
where
    E: Kinded + Send + Sync + 'static,
{
    let mut read = |descriptor: &Descriptor| bounded(descriptor, &mut read);
    let mut visited = 0;
    let mut missing = None;
    // Depth first, in order: the stack's top is the next best.
    let mut stack = vec![(image.clone(), 0)];
    while let Some((descriptor, depth)) = stack.pop() {
        visited += 1;
        if visited > DESCRIPTORS_MAX || depth > INDEX_DEPTH_MAX {
            return Err(Error::Invalid {
                what: "index",
                reason: format!(
                    "it nests deeper than {INDEX_DEPTH_MAX} or has more than {DESCRIPTORS_MAX} entries"
                ),
            });
        }
        let known =
            media::is_index(&descriptor.media_type) || media::is_manifest(&descriptor.media_type);
        if !known && depth == 0 {
            return Err(Error::MediaType {
                media_type: crate::document::cut(&descriptor.media_type),
                digest: descriptor.digest,
            });
        }
        if !known {
            continue;
        }
        let found =
            read(&descriptor).and_then(|bytes| Document::parse(&descriptor.media_type, &bytes));
        match found {
            Ok(Document::Index(index)) => {
                let below = wanted(index.manifests, matcher);
                stack.extend(below.into_iter().rev().map(|entry| (entry, depth + 1)));
            }
            Ok(Document::Manifest(manifest)) => {
                let named = depth == 0 || descriptor.platform.is_some();
                if named || config_fits(&manifest, matcher, &mut read)? {
                    return Ok(Selected {
                        descriptor,
                        manifest,
                    });
                }
            }
            Err(error) if error.kind() == ErrorKind::NotFound && depth > 0 => {
                missing.get_or_insert(error);
            }
            Err(error) => return Err(error),
        }
    }
    Err(missing.unwrap_or_else(|| Error::NoMatch {
        digest: image.digest.clone(),
    }))
}

/// Reads the configuration of a manifest. `read` gets content that a descriptor names, whole and verified.
///
/// # Errors
/// The configuration is malformed or no image's, or `read` fails.
pub fn config_of<E>(
    manifest: &Manifest,
    mut read: impl FnMut(&Descriptor) -> Result<Vec<u8>, E>,
) -> Result<Config, Error>
where
    E: Kinded + Send + Sync + 'static,
{
    if !media::is_config(&manifest.config.media_type) {
        return Err(Error::MediaType {
            media_type: crate::document::cut(&manifest.config.media_type),
            digest: manifest.config.digest.clone(),
        });
    }
    Config::parse(&bounded(&manifest.config, &mut read)?)
}

fn config_fits(
    manifest: &Manifest,
    matcher: &PlatformMatcher,
    read: &mut impl FnMut(&Descriptor) -> Result<Vec<u8>, Error>,
) -> Result<bool, Error> {
    if !media::is_config(&manifest.config.media_type) {
        return Ok(false);
    }
    match read(&manifest.config) {
        Ok(bytes) => Ok(matcher.matches(&Config::parse(&bytes)?.platform)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn bounded<E>(
    descriptor: &Descriptor,
    read: &mut impl FnMut(&Descriptor) -> Result<Vec<u8>, E>,
) -> Result<Vec<u8>, Error>
where
    E: Kinded + Send + Sync + 'static,
{
    if descriptor.size > DOCUMENT_BYTES_MAX {
        return Err(Error::TooMany {
            what: "manifest",
            count: descriptor.size,
            unit: "bytes",
            limit: DOCUMENT_BYTES_MAX,
        });
    }
    read(descriptor).map_err(|source| Error::Content {
        digest: descriptor.digest.clone(),
        kind: source.kind(),
        source: Box::new(source),
    })
}

#[cfg(test)]
mod tests;
