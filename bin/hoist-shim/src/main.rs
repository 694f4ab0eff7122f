//! One small process per pod or lone container: holds standard streams and exit statuses, outlives the daemon and
//! runs the OCI runtime inside itself.
//!
//! One thread, one loop ([`server`]), no call that can block: what can block runs in a forked child ([`job`]).
//! Speaks ttrpc, services `containerd.task.v2.Task` and `containerd.task.v3.Task`.

mod cli;
mod delete;
mod exits;
mod info;
mod job;
mod log;
mod publisher;
mod relay;
mod server;
mod sink;
mod start;
mod state;
mod stats;
mod stdio;
mod task;

use cli::{Action, Arguments};
use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    let result =
        Arguments::parse(std::env::args_os().skip(1)).and_then(|arguments| {
            match arguments.action {
                Action::Start => start::start(&arguments),
                Action::Serve => start::serve(&arguments),
                Action::Delete => delete::delete(&arguments),
                Action::Info => info::info(),
                Action::Version => info::version(),
            }
        });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Whoever started us reads standard error; when it is gone nobody is left to tell.
            let _gone = writeln!(std::io::stderr(), "hoist-shim: {error}").is_err();
            ExitCode::FAILURE
        }
    }
}
