//! Conformance suites: every driver runs [`driver_suite`], every snapshotter [`snapshotter_suite`].
//!
//! They look at contents through real mounts, made in a mount namespace of their own thread, so that nothing shows in
//! the host's table or stays behind. Without the rights for that they print `SKIPPED` and judge nothing.
#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "a test suite")]

mod driver;
mod snapshotter;

use std::ffi::CString;
use std::path::Path;

use model::Mount;
use rustix::mount::{MountFlags, MountPropagationFlags};

pub use driver::driver_suite;
pub use snapshotter::snapshotter_suite;

/// Says whether this process can mount, and prints `SKIPPED` with the reason when not.
pub fn can_mount(what: &str) -> bool {
    let tried = in_own_mounts(|| ());
    if let Err(reason) = &tried {
        eprintln!("SKIPPED: {what}: {reason}");
    }
    tried.is_ok()
}

/// Performs the mounts, shows the mounted root to `body`, and forgets the mounts.
///
/// # Panics
/// When a mount fails or `body` panics.
pub fn mounted<T: Send>(mounts: &[Mount], body: impl FnOnce(&Path) -> T + Send) -> T {
    let target = tempfile::tempdir().unwrap();
    let target = target.path();
    let shown = in_own_mounts(|| {
        for mount in mounts {
            perform(mount, target);
        }
        body(target)
    });
    shown.unwrap()
}

/// Runs `body` in a thread with a mount namespace of its own.
fn in_own_mounts<T: Send>(body: impl FnOnce() -> T + Send) -> Result<T, String> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            sys::namespace::unshare(sys::namespace::Kind::Mount.flag())
                .map_err(|error| format!("no mount namespace: {error}"))?;
            let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
            rustix::mount::mount_change("/", private)
                .map_err(|error| format!("mounts can't be made private: {error}"))?;
            Ok(body())
        });
        match thread.join() {
            Ok(outcome) => outcome,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

fn perform(mount: &Mount, target: &Path) {
    let has = |wanted: &str| mount.options.iter().any(|option| option == wanted);
    if mount.kind == "bind" {
        rustix::mount::mount_bind_recursive(&*mount.source, target).unwrap();
        if has("ro") {
            let flags = MountFlags::BIND | MountFlags::RDONLY;
            rustix::mount::mount_remount(target, flags, c"").unwrap();
        }
        return;
    }
    let mut flags = MountFlags::empty();
    flags.set(MountFlags::RDONLY, has("ro"));
    let data: Vec<&str> = mount
        .options
        .iter()
        .map(String::as_str)
        .filter(|option| !matches!(*option, "ro" | "rw"))
        .collect();
    let data = CString::new(data.join(",")).unwrap();
    let made = rustix::mount::mount(&*mount.source, target, &*mount.kind, flags, Some(&*data));
    made.unwrap_or_else(|error| panic!("mount {mount:?}: {error}"));
}
