//! The folder of one container, `<state>/io.containerd.runtime.v2.task/<namespace>/<id>`.
//!
//! | file | written by | holds |
//! |---|---|---|
//! | `config.json` | daemon | the runtime specification |
//! | `rootfs/` | daemon | mount point of the root file system |
//! | `work` | daemon | link to the folder that outlives the task |
//! | `log` | daemon | fifo on which the shim logs lines of text |
//! | `shim-binary-path`, `bootstrap.json`, `sandbox` | daemon | how to find the shim again |
//! | `address` | shim | its address, for daemons before 1.7 |
//! | `options.json`, `runtime` | shim | the runtime options, for `delete` without a shim |
//! | `init.pid` | shim | process id of the first process |
//! | `exit`, `exit-<exec id>` | shim | an [`crate::exit::ExitRecord`] |

use std::path::{Path, PathBuf};

/// The runtime specification.
pub const CONFIG: &str = "config.json";
/// Mount point of the root file system.
pub const ROOTFS: &str = "rootfs";
/// Link to the folder that outlives the task.
pub const WORK: &str = "work";
/// Fifo on which the shim logs.
pub const LOG: &str = "log";
/// Path of the shim's program.
pub const SHIM_BINARY: &str = "shim-binary-path";
/// The answer of the shim at its start, as JSON.
pub const BOOTSTRAP: &str = "bootstrap.json";
/// Identifier of the sandbox whose shim serves this container.
pub const SANDBOX: &str = "sandbox";
/// The shim's address as plain text.
pub const ADDRESS: &str = "address";
/// The runtime options as JSON.
pub const OPTIONS: &str = "options.json";
/// `BinaryName` of the runtime options.
pub const RUNTIME: &str = "runtime";
/// Process id of the first process, in decimal.
pub const INIT_PID: &str = "init.pid";
/// Link to a socket folder that is not the default one.
pub const SOCKET_DIR: &str = "s";

const EXIT: &str = "exit";

/// Below this folder runc and its kin keep `state.json`, one folder a namespace; `Options.root` replaces it.
pub const RUNC_ROOT: &str = "/run/containerd/runc";

/// Where the record of an ended process stands; the first process has no exec id.
pub fn exit_record(bundle: &Path, exec_id: Option<&model::ExecId>) -> PathBuf {
    exec_id.map_or_else(
        || bundle.join(EXIT),
        |exec| bundle.join(format!("{EXIT}-{exec}")),
    )
}

/// The exec id in the name of an exit record: `Some(None)` for the first process, `None` for any other file.
pub fn exit_record_name(name: &str) -> Option<Option<model::ExecId>> {
    if name == EXIT {
        return Some(None);
    }
    let exec = name.strip_prefix(EXIT)?.strip_prefix('-')?;
    model::ExecId::new(exec).ok().map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_exit_records_read_back() {
        let bundle = Path::new("/b");
        let exec = model::ExecId::new("e-1").unwrap();
        assert_eq!(exit_record(bundle, None), Path::new("/b/exit"));
        assert_eq!(exit_record(bundle, Some(&exec)), Path::new("/b/exit-e-1"));
        assert_eq!(exit_record_name("exit"), Some(None));
        assert_eq!(exit_record_name("exit-e-1"), Some(Some(exec)));
        assert_eq!(exit_record_name("exit-.tmp"), None);
        assert_eq!(exit_record_name("config.json"), None);
    }
}
