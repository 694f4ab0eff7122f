//! Id mappings as the labels and mount options write them: `container:host:length[,…]`.

use std::fmt;
use std::str::FromStr;

/// Most mappings of one list (the kernel's limit of lines in a map, user_namespaces(7)).
const MAPPINGS_MAX: usize = 340;

/// One range of a mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdMapping {
    /// First id inside.
    pub container: u32,
    /// First id outside.
    pub host: u32,
    /// How many ids.
    pub length: u32,
}

/// A list of ranges, for users or for groups.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct IdMap(Vec<IdMapping>);

/// A user and group as numbers of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// The text is no mapping.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid id mapping {text:?}: expected container:host:length, comma-separated")]
pub struct InvalidIdMap {
    /// The refused text, cut to 200 characters.
    pub text: String,
}

impl IdMap {
    /// The ranges.
    pub fn ranges(&self) -> &[IdMapping] {
        &self.0
    }

    /// The host's id for an id inside; `None` when no range holds it. An empty map leaves ids as they are.
    pub fn to_host(&self, id: u32) -> Option<u32> {
        if self.0.is_empty() {
            return Some(id);
        }
        self.0.iter().find_map(|range| {
            let offset = id.checked_sub(range.container)?;
            let host = range.host.checked_add(offset)?;
            (offset < range.length && host != u32::MAX).then_some(host)
        })
    }
}

impl FromStr for IdMap {
    type Err = InvalidIdMap;

    fn from_str(text: &str) -> Result<Self, InvalidIdMap> {
        let refuse = || InvalidIdMap {
            text: text.chars().take(200).collect(),
        };
        let mut ranges = Vec::new();
        for range in text.split(',').filter(|_| !text.is_empty()) {
            let mut numbers = range.splitn(3, ':').map(|number| {
                let plain = number.bytes().all(|byte| byte.is_ascii_digit());
                let number = number.parse::<u32>().ok().filter(|_| plain);
                number.filter(|number| *number != u32::MAX)
            });
            let mut next = || numbers.next().flatten().ok_or_else(refuse);
            let (container, host, length) = (next()?, next()?, next()?);
            let fits = |first: u32| first.checked_add(length).is_some();
            if length == 0 || !fits(container) || !fits(host) || ranges.len() == MAPPINGS_MAX {
                return Err(refuse());
            }
            ranges.push(IdMapping {
                container,
                host,
                length,
            });
        }
        Ok(Self(ranges))
    }
}

impl fmt::Display for IdMap {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, range) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            let IdMapping {
                container,
                host,
                length,
            } = range;
            write!(formatter, "{comma}{container}:{host}:{length}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_are_parsed_and_applied() {
        let map: IdMap = "0:100000:65536,70000:5:1".parse().unwrap();
        assert_eq!(map.to_string(), "0:100000:65536,70000:5:1");
        assert_eq!(map.to_host(0), Some(100_000));
        assert_eq!(map.to_host(65535), Some(165_535));
        assert_eq!(map.to_host(65536), None);
        assert_eq!(map.to_host(70000), Some(5));
        assert_eq!("".parse::<IdMap>().unwrap().to_host(7), Some(7));
    }

    #[test]
    fn what_is_no_mapping_is_refused() {
        for bad in [
            "0",
            "0:1",
            "a:b:c",
            "0:0:0",
            "-1:0:1",
            "+1:0:1",
            "0:0:1:2",
            "0:0:1,",
            ",",
            "4294967295:0:1",
            "0:4294967290:10",
            "0:0:99999999999",
            " 0:0:1",
            "0:0:1 ",
        ] {
            assert!(bad.parse::<IdMap>().is_err(), "{bad}");
        }
        let many = vec!["0:0:1"; MAPPINGS_MAX + 1].join(",");
        assert!(many.parse::<IdMap>().is_err());
    }
}
