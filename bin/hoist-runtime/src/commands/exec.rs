//! `exec`.

use std::path::Path;

use oci_runtime::ExecOptions;
use oci_runtime::spec::{Capabilities, Process};

use super::create::{finish, preserved, secure, stdio};
use super::run::{self, Ending};
use super::{Context, Failure};

/// Runs another process in a container.
pub(super) fn exec(context: &Context<'_>) -> Result<u8, Failure> {
    secure()?;
    let flags = &context.parsed.flags;
    let container = context.container()?;
    let process = match flags.value(&["process", "p"]) {
        Some(path) => read_process(Path::new(path))?,
        None => changed(
            context,
            container.spec().process.clone().unwrap_or_default(),
        )?,
    };
    let detach = flags.on(&["detach", "d"]);
    let created = container.exec(ExecOptions {
        process: &process,
        stdio: stdio(process.terminal, flags.value(&["console-socket"]), !detach)?,
        clone_parent: false,
        no_new_keyring: true,
        cgroup: flags.value(&["cgroup"]),
        ignore_paused: flags.on(&["ignore-paused"]),
        preserved_fds: preserved(flags.value(&["preserve-fds"]))?,
    })?;
    finish(context, &created)?;
    run::open(&created)?;
    if detach {
        return Ok(0);
    }
    Ending::of(&created)?.wait()
}

fn read_process(path: &Path) -> Result<Process, Failure> {
    let text = std::fs::read(path).map_err(|error| Failure::file("read", path, error))?;
    Process::from_slice(&text).map_err(|error| {
        Failure::Usage(format!("read {}: {}", path.display(), model::chain(&error)))
    })
}

/// The container's own process with what the command line changes.
fn changed(context: &Context<'_>, mut process: Process) -> Result<Process, Failure> {
    let flags = &context.parsed.flags;
    process.args = context.parsed.rest.get(1..).unwrap_or_default().to_vec();
    if process.args.is_empty() {
        return Err(Failure::Usage("process args cannot be empty".to_owned()));
    }
    if let Some(cwd) = flags.value(&["cwd"]) {
        cwd.clone_into(&mut process.cwd);
    }
    if let Some(profile) = flags.value(&["apparmor"]) {
        process.apparmor_profile = Some(profile.to_owned());
    }
    if let Some(label) = flags.value(&["process-label"]) {
        process.selinux_label = Some(label.to_owned());
    }
    let added: Vec<String> = flags
        .values(&["cap", "c"])
        .into_iter()
        .map(str::to_owned)
        .collect();
    if !added.is_empty() {
        let sets = process
            .capabilities
            .get_or_insert_with(Capabilities::default);
        for set in [&mut sets.bounding, &mut sets.effective, &mut sets.permitted] {
            set.extend(added.iter().cloned());
        }
    }
    process.terminal = flags.on(&["tty", "t"]);
    process
        .env
        .extend(flags.values(&["env", "e"]).into_iter().map(str::to_owned));
    if flags.on(&["no-new-privs"]) {
        process.no_new_privileges = true;
    }
    if let Some(user) = flags.value(&["user", "u"]) {
        let (uid, gid) = user.split_once(':').unwrap_or((user, ""));
        process.user.uid = number(uid)?;
        if !gid.is_empty() {
            process.user.gid = number(gid)?;
        }
    }
    for gid in flags.values(&["additional-gids", "g"]) {
        process.user.additional_gids.push(number(gid)?);
    }
    Ok(process)
}

/// Numbers only: names are for whoever knows the image.
fn number(text: &str) -> Result<u32, Failure> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits
        .then(|| text.parse().ok())
        .flatten()
        .ok_or_else(|| Failure::Usage(format!("parsing {text:?} as a number for the user failed")))
}
