//! The program that inflates and applies one layer, with no rights but those it needs for it.

use std::io::Write;
use std::os::fd::OwnedFd;
use std::process::ExitCode;

fn main() -> ExitCode {
    // The default hook reads files for a backtrace, which the isolated process may not.
    std::panic::set_hook(Box::new(|panic| {
        drop(writeln!(std::io::stderr(), "{panic}"));
        std::process::abort();
    }));
    let socket: Option<OwnedFd> = sys::spawn::inherited(diff::worker::SOCKET);
    match socket {
        Some(socket) => ExitCode::from(diff::worker::serve(&socket)),
        None => {
            drop(writeln!(
                std::io::stderr(),
                "hoist-unpack is started by hoistd, with a socket as descriptor 3"
            ));
            ExitCode::from(64)
        }
    }
}
