//! The command line: global flags, a command, its flags, the rest.
//!
//! By hand, since a parser that builds its grammar at run time costs as much as a container's whole start.

use std::collections::BTreeMap;

/// Flags before the command that take a value.
const GLOBAL_VALUES: [&str; 4] = ["root", "log", "log-format", "criu"];
/// Flags before the command that take none; `rootless` and `systemd-cgroup` may be written `name=bool`.
const GLOBAL_SWITCHES: [&str; 6] = [
    "debug",
    "systemd-cgroup",
    "rootless",
    "version",
    "v",
    "help",
];

/// Commands with their flags: those with a value, those without.
const COMMANDS: [(&str, &[&str], &[&str]); 15] = [
    (
        "create",
        &["bundle", "b", "console-socket", "pid-file", "preserve-fds"],
        &["no-pivot", "no-new-keyring"],
    ),
    (
        "run",
        &["bundle", "b", "console-socket", "pid-file", "preserve-fds"],
        &[
            "no-pivot",
            "no-new-keyring",
            "detach",
            "d",
            "keep",
            "no-subreaper",
        ],
    ),
    ("start", &[], &[]),
    (
        "exec",
        &[
            "console-socket",
            "cwd",
            "env",
            "e",
            "user",
            "u",
            "additional-gids",
            "g",
            "process",
            "p",
            "pid-file",
            "process-label",
            "apparmor",
            "cap",
            "c",
            "preserve-fds",
            "cgroup",
        ],
        &["tty", "t", "detach", "d", "no-new-privs", "ignore-paused"],
    ),
    ("kill", &[], &["all", "a"]),
    ("delete", &[], &["force", "f"]),
    ("state", &[], &[]),
    ("list", &["format", "f"], &["quiet", "q"]),
    ("ps", &["format", "f"], &[]),
    ("pause", &[], &[]),
    ("resume", &[], &[]),
    (
        "update",
        &[
            "resources",
            "r",
            "blkio-weight",
            "cpu-period",
            "cpu-quota",
            "cpu-burst",
            "cpu-share",
            "cpu-rt-period",
            "cpu-rt-runtime",
            "cpuset-cpus",
            "cpuset-mems",
            "memory",
            "memory-reservation",
            "memory-swap",
            "pids-limit",
            "cpu-idle",
        ],
        &[],
    ),
    ("spec", &["bundle", "b"], &["rootless"]),
    ("features", &[], &[]),
    ("events", &["interval"], &["stats"]),
];

/// Flags with their values, in the order given.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Flags(BTreeMap<String, Vec<String>>);

impl Flags {
    /// The last value under any of the names.
    pub(crate) fn value(&self, names: &[&str]) -> Option<&str> {
        names
            .iter()
            .find_map(|name| self.0.get(*name)?.last())
            .map(String::as_str)
    }

    /// All values under any of the names.
    pub(crate) fn values(&self, names: &[&str]) -> Vec<&str> {
        names
            .iter()
            .filter_map(|name| self.0.get(*name))
            .flatten()
            .map(String::as_str)
            .collect()
    }

    /// Whether a switch is on.
    pub(crate) fn on(&self, names: &[&str]) -> bool {
        self.value(names).is_some_and(|value| value != "false")
    }
}

/// A command line.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Parsed {
    /// Flags before the command.
    pub(crate) global: Flags,
    /// The command; empty when none was given.
    pub(crate) command: String,
    /// Flags of the command.
    pub(crate) flags: Flags,
    /// What follows.
    pub(crate) rest: Vec<String>,
}

/// Reads a command line.
pub(crate) fn parse(arguments: &[String]) -> Result<Parsed, String> {
    let mut parsed = Parsed::default();
    let at = flags(
        arguments,
        &GLOBAL_VALUES,
        &GLOBAL_SWITCHES,
        &mut parsed.global,
    )?;
    let Some(command) = arguments.get(at) else {
        return Ok(parsed);
    };
    let Some((_, values, switches)) = COMMANDS.iter().find(|(name, ..)| name == command) else {
        return Err(format!("no such command: {command:?}"));
    };
    parsed.command.clone_from(command);
    let mut rest = &arguments[at + 1..];
    // As runc's own parser, which looks for flags behind the container's name only where no program may follow.
    loop {
        let used = flags(rest, values, switches, &mut parsed.flags)?;
        rest = &rest[used..];
        match rest.split_first() {
            Some((first, more)) if command != "exec" && first != "--" => {
                parsed.rest.push(first.clone());
                rest = more;
            }
            _ => break,
        }
    }
    let ended = rest.first().is_some_and(|first| first == "--");
    parsed.rest.extend_from_slice(&rest[usize::from(ended)..]);
    Ok(parsed)
}

/// Reads flags up to the first word that is none; answers how many words it used.
fn flags(
    words: &[String],
    values: &[&str],
    switches: &[&str],
    into: &mut Flags,
) -> Result<usize, String> {
    let mut at = 0;
    while let Some(word) = words.get(at) {
        let Some(name) = word.strip_prefix("--").or_else(|| word.strip_prefix('-')) else {
            break;
        };
        if name.is_empty() {
            break;
        }
        let (name, inline) = match name.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (name, None),
        };
        let value = if switches.contains(&name) {
            inline.unwrap_or_else(|| "true".to_owned())
        } else if values.contains(&name) {
            match inline {
                Some(value) => value,
                None => {
                    at += 1;
                    words
                        .get(at)
                        .cloned()
                        .ok_or_else(|| format!("flag needs an argument: -{name}"))?
                }
            }
        } else {
            return Err(format!("flag provided but not defined: -{name}"));
        };
        into.0.entry(name.to_owned()).or_default().push(value);
        at += 1;
    }
    Ok(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Parsed, String> {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        parse(&words)
    }

    #[test]
    fn lines_of_containerd_are_read() {
        let line = "--root /run/x --log /l --log-format json --systemd-cgroup create --bundle /b --pid-file /p --no-pivot c1";
        let parsed = read(line).unwrap();
        assert_eq!(parsed.command, "create");
        assert_eq!(parsed.global.value(&["root"]), Some("/run/x"));
        assert!(parsed.global.on(&["systemd-cgroup"]) && parsed.flags.on(&["no-pivot"]));
        assert_eq!(parsed.flags.value(&["bundle", "b"]), Some("/b"));
        assert_eq!(parsed.rest, ["c1"]);
    }

    #[test]
    fn a_program_keeps_its_own_flags() {
        let parsed = read("exec -t --env A=b -e C=d c1 sh -c true -d").unwrap();
        assert_eq!(parsed.rest, ["c1", "sh", "-c", "true", "-d"]);
        assert_eq!(parsed.flags.values(&["env", "e"]), ["A=b", "C=d"]);
        assert!(!parsed.flags.on(&["detach", "d"]));
    }

    #[test]
    fn flags_may_follow_the_name() {
        assert!(read("delete c1 --force").unwrap().flags.on(&["force", "f"]));
        assert!(read("kill c1 9 -a").unwrap().flags.on(&["all", "a"]));
    }

    #[test]
    fn unknown_words_are_refused() {
        for bad in [
            "fly",
            "create --wings x",
            "create --bundle",
            "--colour create",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
