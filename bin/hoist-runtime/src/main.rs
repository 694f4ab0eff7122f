//! The OCI runtime as a command, with runc's command line.

mod arguments;
mod commands;
mod guard;
mod report;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = match std::env::args_os()
        .skip(1)
        .map(std::ffi::OsString::into_string)
        .collect()
    {
        Ok(arguments) => arguments,
        Err(_) => return report::usage("arguments must be UTF-8"),
    };
    let parsed = match arguments::parse(&arguments) {
        Ok(parsed) => parsed,
        Err(message) => return report::usage(&message),
    };
    let log = report::Log::new(&parsed.global);
    match commands::run(&parsed) {
        Ok(status) => ExitCode::from(status),
        Err(error) => log.failure(&error),
    }
}
