//! Mount options as `mount(8)` and the OCI runtime specification name them (config.md#linux-mount-options).

use sys::mount::{Attributes, Propagation};

use crate::error::{Error, Result};

/// The options of one mount, sorted by what they mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Options {
    /// A bind mount.
    pub(crate) bind: bool,
    /// A bind mount with everything below.
    pub(crate) recursive: bool,
    /// Attributes of this mount.
    pub(crate) set: Attributes,
    pub(crate) clear: Attributes,
    /// Attributes of this mount and all below.
    pub(crate) set_below: Attributes,
    pub(crate) clear_below: Attributes,
    /// The propagation, and whether of all below too; several are applied in turn.
    pub(crate) propagation: Vec<(Propagation, bool)>,
    /// Flags of the file system itself.
    pub(crate) superblock: Vec<&'static str>,
    /// What the file system reads.
    pub(crate) data: Vec<String>,
}

impl Options {
    /// Whether any attribute of this mount is named.
    pub(crate) fn names_attributes(&self) -> bool {
        !self.set.is_empty() || !self.clear.is_empty()
    }
}

/// `noatime` and friends exclude each other; relative is the absence of the others.
fn attribute(name: &str) -> Option<(Attributes, bool)> {
    Some(match name {
        "ro" => (Attributes::MOUNT_ATTR_RDONLY, true),
        "rw" => (Attributes::MOUNT_ATTR_RDONLY, false),
        "nosuid" => (Attributes::MOUNT_ATTR_NOSUID, true),
        "suid" => (Attributes::MOUNT_ATTR_NOSUID, false),
        "nodev" => (Attributes::MOUNT_ATTR_NODEV, true),
        "dev" => (Attributes::MOUNT_ATTR_NODEV, false),
        "noexec" => (Attributes::MOUNT_ATTR_NOEXEC, true),
        "exec" => (Attributes::MOUNT_ATTR_NOEXEC, false),
        "nodiratime" => (Attributes::MOUNT_ATTR_NODIRATIME, true),
        "diratime" => (Attributes::MOUNT_ATTR_NODIRATIME, false),
        "nosymfollow" => (Attributes::MOUNT_ATTR_NOSYMFOLLOW, true),
        "symfollow" => (Attributes::MOUNT_ATTR_NOSYMFOLLOW, false),
        "noatime" => (Attributes::MOUNT_ATTR_NOATIME, true),
        "strictatime" => (Attributes::MOUNT_ATTR_STRICTATIME, true),
        "relatime" | "atime" | "norelatime" | "nostrictatime" => {
            (Attributes::MOUNT_ATTR__ATIME, false)
        }
        _ => return None,
    })
}

fn propagation(name: &str) -> Option<(Propagation, bool)> {
    let (name, recursive) = match name.strip_prefix('r') {
        Some(rest) => (rest, true),
        None => (name, false),
    };
    let kind = match name {
        "shared" => Propagation::Shared,
        "slave" => Propagation::Slave,
        "private" => Propagation::Private,
        "unbindable" => Propagation::Unbindable,
        _ => return None,
    };
    Some((kind, recursive))
}

/// Reads `rootfsPropagation`, which takes the same words.
pub(crate) fn root_propagation(name: &str) -> Result<(Propagation, bool)> {
    propagation(name)
        .ok_or_else(|| Error::invalid("linux.rootfsPropagation", format!("unknown value {name:?}")))
}

fn superblock(name: &str) -> Option<&'static str> {
    ["sync", "dirsync", "lazytime", "mand", "silent"]
        .into_iter()
        .find(|known| *known == name)
}

/// Sorts the options of a mount at `destination`.
pub(crate) fn parse(destination: &str, list: &[String]) -> Result<Options> {
    let mut options = Options {
        bind: false,
        recursive: false,
        set: Attributes::empty(),
        clear: Attributes::empty(),
        set_below: Attributes::empty(),
        clear_below: Attributes::empty(),
        propagation: Vec::new(),
        superblock: Vec::new(),
        data: Vec::new(),
    };
    for name in list.iter().flat_map(|item| item.split(',')) {
        one(&mut options, destination, name)?;
    }
    Ok(options)
}

fn change(set: &mut Attributes, clear: &mut Attributes, (bits, on): (Attributes, bool)) {
    let mask = if bits.intersects(Attributes::MOUNT_ATTR__ATIME) {
        bits | Attributes::MOUNT_ATTR__ATIME
    } else {
        bits
    };
    set.remove(mask);
    clear.remove(mask);
    if on {
        set.insert(bits);
    } else {
        clear.insert(bits);
    }
}

fn one(options: &mut Options, destination: &str, name: &str) -> Result<()> {
    if let Some(found) = attribute(name) {
        change(&mut options.set, &mut options.clear, found);
    } else if let Some(found) = propagation(name) {
        options.propagation.push(found);
    } else if let Some(found) = name.strip_prefix('r').and_then(attribute) {
        change(&mut options.set_below, &mut options.clear_below, found);
    } else if let Some(flag) = superblock(name) {
        options.superblock.push(flag);
    } else {
        match name {
            "bind" => options.bind = true,
            "rbind" => {
                options.bind = true;
                options.recursive = true;
            }
            "" | "defaults" | "async" | "nolazytime" | "nomand" | "loud" | "remount" => {}
            "idmap" | "ridmap" | "tmpcopyup" => {
                return Err(Error::unimplemented(format!(
                    "mount option {name} of {destination}"
                )));
            }
            data => options.data.push(data.to_owned()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(list: &[&str]) -> Options {
        let list: Vec<String> = list.iter().map(|one| (*one).to_owned()).collect();
        parse("/x", &list).unwrap()
    }

    #[test]
    fn words_are_sorted_by_meaning() {
        let read = options(&[
            "rbind", "ro", "nosuid", "rprivate", "slave", "size=5", "sync",
        ]);
        assert!(read.bind && read.recursive && read.names_attributes());
        assert_eq!(
            read.set,
            Attributes::MOUNT_ATTR_RDONLY | Attributes::MOUNT_ATTR_NOSUID
        );
        assert_eq!(
            read.propagation,
            [(Propagation::Private, true), (Propagation::Slave, false)]
        );
        assert_eq!(read.data, ["size=5"]);
        assert_eq!(read.superblock, ["sync"]);
        assert_eq!(options(&["rro"]).set_below, Attributes::MOUNT_ATTR_RDONLY);
    }

    #[test]
    fn the_last_word_counts() {
        assert!(options(&["ro", "rw"]).set.is_empty());
        let read = options(&["noatime", "relatime"]);
        assert!(read.set.is_empty());
        assert_eq!(
            options(&["relatime", "noatime"]).set,
            Attributes::MOUNT_ATTR_NOATIME
        );
    }

    #[test]
    fn what_is_not_built_is_refused() {
        assert!(matches!(
            parse("/x", &["idmap".to_owned()]),
            Err(Error::Unimplemented { .. })
        ));
    }
}
