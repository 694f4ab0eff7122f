//! The command line that every shim understands (containerd, runtime v2 `README.md`).

use std::ffi::OsString;

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// Start a shim for a group, or find it.
    Start,
    /// Be the shim: the listening socket is descriptor 3.
    Serve,
    /// Clean up after a shim that is gone.
    Delete,
    /// Tell what this runtime can do.
    Info,
    /// Tell the version.
    Version,
}

/// The command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Arguments {
    /// What to do.
    pub(crate) action: Action,
    /// The daemon's namespace.
    pub(crate) namespace: String,
    /// Socket of the daemon for clients.
    pub(crate) address: String,
    /// Identifier of the container.
    pub(crate) id: String,
    /// The bundle; empty is the working folder.
    pub(crate) bundle: String,
    /// [`Action::Start`] has prepared this process.
    pub(crate) started: bool,
    /// Log details.
    pub(crate) debug: bool,
}

impl Arguments {
    /// Reads the words after the program's name.
    pub(crate) fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Self, String> {
        let mut words = words.into_iter().map(|word| {
            word.into_string()
                .map_err(|_| "argument is not UTF-8".to_owned())
        });
        let mut parsed = Self {
            action: Action::Serve,
            namespace: String::new(),
            address: String::new(),
            id: String::new(),
            bundle: String::new(),
            started: false,
            debug: false,
        };
        let mut action = None;
        while let Some(word) = words.next() {
            let word = word?;
            let Some(flag) = word.strip_prefix('-') else {
                action = Some(match word.as_str() {
                    "start" => Action::Start,
                    "delete" => Action::Delete,
                    shim_protocol::bootstrap::SERVE => Action::Serve,
                    _ => return Err(format!("unknown action {word:?}")),
                });
                continue;
            };
            let flag = flag.strip_prefix('-').unwrap_or(flag);
            let (flag, inline) = flag
                .split_once('=')
                .map_or((flag, None), |(flag, value)| (flag, Some(value.to_owned())));
            match flag {
                "debug" => {
                    parsed.debug = inline.is_none_or(|value| value == "true" || value == "1");
                    continue;
                }
                "started" => {
                    parsed.started = true;
                    continue;
                }
                "v" | "version" => {
                    return Ok(Self {
                        action: Action::Version,
                        ..parsed
                    });
                }
                "info" => {
                    return Ok(Self {
                        action: Action::Info,
                        ..parsed
                    });
                }
                _ => {}
            }
            let value = match inline {
                Some(value) => value,
                None => words
                    .next()
                    .ok_or_else(|| format!("flag -{flag} needs a value"))??,
            };
            match flag {
                "namespace" => parsed.namespace = value,
                "address" => parsed.address = value,
                "id" => parsed.id = value,
                "bundle" => parsed.bundle = value,
                "publish-binary" | "socket" | "debug-socket" => {}
                _ => return Err(format!("unknown flag -{flag}")),
            }
        }
        parsed.action = action.ok_or("no action is named")?;
        parsed.check()?;
        Ok(parsed)
    }

    fn check(&self) -> Result<(), String> {
        if self.namespace.is_empty() {
            return Err("shim namespace cannot be empty".to_owned());
        }
        model::Namespace::new(self.namespace.as_str()).map_err(|error| error.to_string())?;
        model::ContainerId::new(self.id.as_str()).map_err(|error| error.to_string())?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Arguments, String> {
        Arguments::parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn the_upstream_command_line_is_understood() {
        let parsed =
            parse("-namespace default -address /a.sock -publish-binary /c -id c1 -debug start")
                .unwrap();
        assert_eq!(
            (parsed.action, parsed.id.as_str(), parsed.debug),
            (Action::Start, "c1", true)
        );
        assert_eq!(parse("-v").unwrap().action, Action::Version);
        assert_eq!(parse("-info").unwrap().action, Action::Info);
        let parsed = parse("--namespace=x -id c1 -bundle /b delete").unwrap();
        assert_eq!(
            (parsed.action, parsed.bundle.as_str()),
            (Action::Delete, "/b")
        );
        for bad in [
            "",
            "start",
            "-namespace x -id ../c start",
            "-namespace x -id c what",
            "-namespace",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
