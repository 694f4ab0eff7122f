//! From `user:group` to numbers, with the root file system's own `/etc/passwd` and `/etc/group`.
//!
//! Both files belong to the image and are not trusted: their size is bounded and a line that does not parse is no
//! entry. Ids are at most 2³¹-1, as runc takes them, so that nothing wraps round to root.

use spec::runtime::User;

use crate::Error;

/// Longest `/etc/passwd` or `/etc/group` that is read, in bytes.
pub const FILE_BYTES_MAX: usize = 10 << 20;
/// Most supplementary groups (`NGROUPS_MAX`).
pub const GROUPS_MAX: usize = 65_536;

const PASSWD: &str = "/etc/passwd";
const GROUP: &str = "/etc/group";
const ID_MAX: i64 = i32::MAX as i64;

struct PasswdEntry<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
}

struct GroupEntry<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

/// Resolves `user`, `uid`, `user:group` and any mix of names and numbers; empty texts stand for missing files.
///
/// A number needs no entry. Without a group the entry's group is taken, or 0, and the groups that list the user
/// as a member become supplementary; with a group there are none. The primary group is always the first of them.
pub fn resolve(passwd: &str, group: &str, user: &str) -> Result<User, Error> {
    for (text, file) in [(passwd, PASSWD), (group, GROUP)] {
        if text.len() > FILE_BYTES_MAX {
            return Err(Error::FileTooLong {
                file,
                limit: FILE_BYTES_MAX,
            });
        }
    }
    let (name, group_name) = match user.split_once(':') {
        Some((_, rest)) if rest.contains(':') => {
            return Err(Error::InvalidUser {
                user: user.to_owned(),
            });
        }
        Some((name, group)) => (name, Some(group)),
        None => (user, None),
    };
    let entry = find_user(passwd, user, name)?;
    let Some(group_name) = group_name else {
        let gids = entry
            .name
            .map(|name| supplementary(group, name))
            .unwrap_or_default();
        return Ok(assemble(entry.uid, entry.gid, gids));
    };
    let gid = find_group(group, user, group_name)?;
    Ok(assemble(entry.uid, gid, Vec::new()))
}

/// Ids of more groups by name or number, for a caller that adds them to [`User::additional_gids`].
pub fn groups(group: &str, names: &[String]) -> Result<Vec<u32>, Error> {
    names
        .iter()
        .map(|name| find_group(group, name, name))
        .collect()
}

struct Found<'a> {
    /// Absent for a number without entry.
    name: Option<&'a str>,
    uid: u32,
    gid: u32,
}

fn find_user<'a>(passwd: &'a str, whole: &str, name: &str) -> Result<Found<'a>, Error> {
    let number = parse_id(name).map_err(|OutOfRange| Error::IdOutOfRange {
        user: whole.to_owned(),
        what: "uid",
    })?;
    let mut entries = passwd.lines().filter_map(passwd_entry);
    let found = entries.find(|entry| match number {
        Some(uid) => entry.uid == uid,
        None => entry.name == name,
    });
    match (found, number) {
        (Some(entry), _) => Ok(Found {
            name: Some(entry.name),
            uid: entry.uid,
            gid: entry.gid,
        }),
        (None, Some(uid)) => Ok(Found {
            name: None,
            uid,
            gid: 0,
        }),
        (None, None) => Err(Error::NoSuchUser {
            what: "user",
            name: name.to_owned(),
            file: PASSWD,
        }),
    }
}

fn find_group(group: &str, whole: &str, name: &str) -> Result<u32, Error> {
    let number = parse_id(name).map_err(|OutOfRange| Error::IdOutOfRange {
        user: whole.to_owned(),
        what: "gid",
    })?;
    if let Some(gid) = number {
        return Ok(gid);
    }
    group
        .lines()
        .filter_map(group_entry)
        .find(|entry| entry.name == name)
        .map(|entry| entry.gid)
        .ok_or_else(|| Error::NoSuchUser {
            what: "group",
            name: name.to_owned(),
            file: GROUP,
        })
}

fn supplementary(group: &str, user: &str) -> Vec<u32> {
    group
        .lines()
        .filter_map(group_entry)
        .filter(|entry| entry.name != user && entry.members.split(',').any(|name| name == user))
        .map(|entry| entry.gid)
        .take(GROUPS_MAX - 1)
        .collect()
}

fn assemble(uid: u32, gid: u32, mut additional_gids: Vec<u32>) -> User {
    if !additional_gids.contains(&gid) {
        additional_gids.insert(0, gid);
    }
    User {
        uid,
        gid,
        additional_gids,
        ..User::default()
    }
}

struct OutOfRange;

/// The number, or `None` for a name. What consists of digits is a number even when none fits.
fn parse_id(text: &str) -> Result<Option<u32>, OutOfRange> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(None);
    }
    match text.parse::<i64>() {
        Ok(id) if (0..=ID_MAX).contains(&id) => Ok(u32::try_from(id).ok()),
        _ => Err(OutOfRange),
    }
}

/// Ids in the files obey the same range; other lines are no entries.
fn file_id(text: &str) -> Option<u32> {
    parse_id(text).ok().flatten()
}

fn passwd_entry(line: &str) -> Option<PasswdEntry<'_>> {
    let mut fields = line.trim().split(':');
    let name = fields.next().filter(|name| !name.is_empty())?;
    fields.next()?;
    Some(PasswdEntry {
        name,
        uid: file_id(fields.next()?)?,
        gid: file_id(fields.next()?)?,
    })
}

fn group_entry(line: &str) -> Option<GroupEntry<'_>> {
    let mut fields = line.trim().split(':');
    let name = fields.next().filter(|name| !name.is_empty())?;
    fields.next()?;
    Some(GroupEntry {
        name,
        gid: file_id(fields.next()?)?,
        members: fields.next().unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const USERS: &str = "root:x:0:0:root:/root:/bin/sh\nbad line\n:x:1:1::/:\nalice:x:1000:1001:A:/home:/bin/sh\nevil:x:4294967296:0::/:\nneg:x:-1:0::/:\nroot2:x:0:5::/:\n";
    const GROUPS: &str = "root:x:0:\nwheel:x:10:alice,root\nalice:x:1001:alice\naudio:x:20:bob,alice\nhuge:x:99999999999:alice\n";

    #[test]
    fn users_resolve_as_runc_does() {
        let cases: &[(&str, u32, u32, &[u32])] = &[
            ("root", 0, 0, &[0, 10]),
            ("0", 0, 0, &[0, 10]),
            ("alice", 1000, 1001, &[1001, 10, 20]),
            ("1000", 1000, 1001, &[1001, 10, 20]),
            ("4242", 4242, 0, &[0]),
            ("alice:audio", 1000, 20, &[20]),
            ("alice:77", 1000, 77, &[77]),
            ("12:34", 12, 34, &[34]),
            ("2147483647", 2_147_483_647, 0, &[0]),
            ("007", 7, 0, &[0]),
        ];
        for (text, uid, gid, groups) in cases {
            let user = resolve(USERS, GROUPS, text).unwrap();
            assert_eq!(
                (user.uid, user.gid, &user.additional_gids[..]),
                (*uid, *gid, *groups),
                "{text}"
            );
        }
    }

    #[test]
    fn nothing_wraps_round_to_root() {
        for text in [
            "4294967296",
            "-1",
            "2147483648",
            "99999999999999999999999",
            "0:4294967296",
            "1:-5",
            "evil",
            "neg",
            "nobody",
            "alice:nogroup",
            "alice:huge",
            "a:b:c",
            "",
        ] {
            assert!(resolve(USERS, GROUPS, text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_huge_file_is_refused() {
        let huge = "x".repeat(FILE_BYTES_MAX + 1);
        assert!(matches!(
            resolve(&huge, "", "1"),
            Err(Error::FileTooLong { .. })
        ));
    }

    #[test]
    fn missing_files_still_allow_numbers() {
        assert_eq!(resolve("", "", "5:6").unwrap().gid, 6);
        assert!(resolve("", "", "root").is_err());
    }
}
