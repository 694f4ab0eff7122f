//! The commands.

mod create;
mod describe;
mod exec;
mod inspect;
mod run;
mod update;

use std::fmt;
use std::io;
use std::path::PathBuf;

use oci_runtime::{Container, Error};

use crate::arguments::Parsed;

/// Where state is kept unless `--root` says otherwise.
const DEFAULT_ROOT: &str = "/run/hoist-runtime";

/// Why a command failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The runtime failed.
    Runtime(Error),
    /// The command line or a file is wrong.
    Usage(String),
    /// `exec` failed before the program ran: statuses of programs end below this one's.
    Exec(Box<Self>),
}

impl Failure {
    pub(crate) fn file(action: &str, path: &std::path::Path, error: impl Into<io::Error>) -> Self {
        Self::Usage(format!("{action} {}: {}", path.display(), error.into()))
    }

    /// The status of the program.
    pub(crate) fn status(&self) -> u8 {
        match self {
            Self::Exec(_) => 255,
            Self::Runtime(_) | Self::Usage(_) => 1,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Runtime(error) => formatter.write_str(&model::chain(error)),
            Self::Usage(message) => formatter.write_str(message),
            Self::Exec(failure) => write!(formatter, "exec failed: {failure}"),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Runtime(error)
    }
}

/// What a command needs to know.
#[derive(Debug)]
pub(crate) struct Context<'a> {
    pub(crate) parsed: &'a Parsed,
    pub(crate) root: PathBuf,
}

impl Context<'_> {
    /// The container that the command line names.
    pub(crate) fn id(&self) -> Result<&str, Failure> {
        self.parsed
            .rest
            .first()
            .map(String::as_str)
            .ok_or_else(|| Failure::Usage("a container's name is needed".to_owned()))
    }

    pub(crate) fn container(&self) -> Result<Container, Failure> {
        Ok(Container::load(&self.root, self.id()?)?)
    }
}

/// Runs the command; the answer is the status of the program.
pub(crate) fn run(parsed: &Parsed) -> Result<u8, Failure> {
    let context = Context {
        parsed,
        root: PathBuf::from(parsed.global.value(&["root"]).unwrap_or(DEFAULT_ROOT)),
    };
    if parsed.global.on(&["version", "v"]) {
        return describe::version();
    }
    match parsed.command.as_str() {
        "create" => create::create(&context),
        "run" => create::run(&context),
        "start" => done(context.container()?.start()),
        "exec" => exec::exec(&context).map_err(|failure| Failure::Exec(Box::new(failure))),
        "kill" => inspect::kill(&context),
        "delete" => inspect::delete(&context),
        "state" => inspect::state(&context),
        "list" => inspect::list(&context),
        "ps" => inspect::ps(&context),
        "pause" => done(context.container()?.pause()),
        "resume" => done(context.container()?.resume()),
        "update" => update::update(&context),
        "spec" => describe::spec(&context),
        "features" => describe::features(),
        "events" => inspect::events(&context),
        _ => Err(Failure::Usage("a command is needed".to_owned())),
    }
}

fn done(result: Result<(), Error>) -> Result<u8, Failure> {
    result?;
    Ok(0)
}
