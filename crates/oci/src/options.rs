//! What a caller asks for beyond the defaults.

use std::collections::BTreeMap;

use spec::image::ContainerConfig;
use spec::runtime::{
    Cpu, Device, DeviceRule, IdMapping, Linux, Memory, Mount, Namespace, Pids, Process, Resources,
    Rlimit, Seccomp, Spec, User,
};

use crate::{DEFAULT_PATH, Error, capabilities, environment, seccomp};

/// Microseconds of the period over which [`Options::cpus`] is measured.
const CPU_PERIOD_MICROS: u64 = 100_000;

/// How much of the host a container may touch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Privileges {
    /// The default sets.
    #[default]
    Confined,
    /// Everything that the caller itself may do: these capabilities, nothing masked, no filter, no profile.
    All {
        /// The capabilities to give, most often the daemon's own bounding set.
        capabilities: Vec<String>,
        /// Whether every device may be used.
        all_devices: bool,
    },
}

/// Which system call filter.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum SeccompChoice {
    /// Whatever stands.
    #[default]
    Keep,
    /// None.
    Unconfined,
    /// [`seccomp::default_profile`] for this architecture, by Go's name.
    Default {
        /// `amd64`, `arm64`, …
        architecture: String,
    },
    /// The caller's own.
    Profile(Box<Seccomp>),
}

/// A device of the host, as the caller found it.
#[derive(Debug, Clone, PartialEq)]
pub struct HostDevice {
    /// The node to make.
    pub node: Device,
    /// Some of `r`, `w`, `m`.
    pub access: String,
}

/// What a caller asks for; everything absent leaves what stands.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Options {
    /// Merged into the environment; a bare name removes.
    pub env: Vec<String>,
    /// Replaces all arguments, entry point included.
    pub args: Option<Vec<String>>,
    /// The working folder.
    pub cwd: Option<String>,
    /// The user, resolved by [`crate::user::resolve`].
    pub user: Option<User>,
    /// Whether the process gets a terminal.
    pub terminal: bool,
    /// The host name.
    pub hostname: Option<String>,
    /// Mounts after the default ones; one for a default destination replaces it.
    pub mounts: Vec<Mount>,
    /// Capabilities to add: `NET_ADMIN`, `CAP_NET_ADMIN` or `ALL`.
    pub capabilities_add: Vec<String>,
    /// Capabilities to drop.
    pub capabilities_drop: Vec<String>,
    /// How much of the host the container may touch.
    pub privileges: Privileges,
    /// Whether set-user-id programs work.
    pub allow_new_privileges: bool,
    /// Whether the root file system can't be written.
    pub read_only: bool,
    /// The root file system, when it is not the bundle's.
    pub rootfs: Option<String>,
    /// Bytes of memory.
    pub memory_bytes: Option<i64>,
    /// Bytes of memory and swap together.
    pub memory_swap_bytes: Option<i64>,
    /// Processors, such as 1.5.
    pub cpus: Option<f64>,
    /// The relative weight of processor time.
    pub cpu_shares: Option<u64>,
    /// Processors to run on, as a list.
    pub cpuset_cpus: Option<String>,
    /// Memory nodes to use, as a list.
    pub cpuset_mems: Option<String>,
    /// The number of processes.
    pub pids_limit: Option<i64>,
    /// Namespaces to share with the host: `network`, `pid`, `ipc`, `uts`, `cgroup`.
    pub host_namespaces: Vec<String>,
    /// Namespaces to join or make anew.
    pub namespaces: Vec<Namespace>,
    /// User and group ids of a user namespace.
    pub id_mappings: Option<(Vec<IdMapping>, Vec<IdMapping>)>,
    /// Devices of the host.
    pub devices: Vec<HostDevice>,
    /// Limits, by name.
    pub rlimits: Vec<Rlimit>,
    /// The system call filter.
    pub seccomp: SeccompChoice,
    /// The AppArmor profile.
    pub apparmor_profile: Option<String>,
    /// The SELinux labels of the process and of its mounts.
    pub selinux_labels: Option<(String, String)>,
    /// The cgroup; empty for none.
    pub cgroups_path: Option<String>,
    /// Kernel parameters.
    pub sysctl: BTreeMap<String, String>,
    /// Arbitrary metadata.
    pub annotations: BTreeMap<String, String>,
    /// Bytes of `/dev/shm`.
    pub shm_bytes: Option<u64>,
    /// The propagation of the root mount.
    pub rootfs_propagation: Option<String>,
    /// `oom_score_adj`.
    pub oom_score_adj: Option<i32>,
}

/// Takes arguments, environment and working folder from an image; `args` replace the image's `Cmd`.
///
/// The environment that stands is kept on top of the image's. [`image_user`] names the user to resolve.
pub fn apply_image(spec: &mut Spec, config: &ContainerConfig, args: &[String]) {
    let process = spec.process.get_or_insert_default();
    let base = if config.env.is_empty() {
        vec![DEFAULT_PATH.to_owned()]
    } else {
        config.env.clone()
    };
    process.env = environment::merge(&base, &process.env);
    let rest = if args.is_empty() { &config.cmd } else { args };
    process.args = [&config.entrypoint[..], rest].concat();
    process.cwd = config
        .working_dir
        .clone()
        .filter(|folder| !folder.is_empty())
        .unwrap_or_else(|| "/".to_owned());
}

/// The user that an image runs as, to be resolved in its root file system; absent means root.
pub fn image_user(config: &ContainerConfig) -> Option<&str> {
    config.user.as_deref().filter(|user| !user.is_empty())
}

/// Applies options to a specification.
pub fn apply_options(spec: &mut Spec, options: &Options) -> Result<(), Error> {
    let process = spec.process.get_or_insert_default();
    apply_process(process, options);
    if let Some(hostname) = &options.hostname {
        spec.hostname = Some(hostname.clone());
    }
    let root = spec.root.get_or_insert_default();
    if let Some(path) = &options.rootfs {
        root.path.clone_from(path);
    }
    root.readonly |= options.read_only;
    for mount in &options.mounts {
        spec.mounts
            .retain(|held| held.destination != mount.destination);
        spec.mounts.push(mount.clone());
    }
    if let Some(bytes) = options.shm_bytes {
        set_shm(&mut spec.mounts, bytes);
    }
    spec.annotations.extend(options.annotations.clone());
    apply_linux(spec.linux.get_or_insert_default(), options)?;
    apply_privileges(spec, options)?;
    apply_seccomp(spec, &options.seccomp);
    Ok(())
}

fn apply_process(process: &mut Process, options: &Options) {
    process.env = environment::merge(&process.env, &options.env);
    if let Some(args) = &options.args {
        process.args.clone_from(args);
    }
    if let Some(cwd) = &options.cwd {
        process.cwd.clone_from(cwd);
    }
    if let Some(user) = &options.user {
        process.user = user.clone();
    }
    if options.terminal {
        process.terminal = true;
        process.env = environment::merge(&["TERM=xterm".to_owned()], &process.env);
    }
    if options.allow_new_privileges {
        process.no_new_privileges = false;
    }
    if options.oom_score_adj.is_some() {
        process.oom_score_adj = options.oom_score_adj;
    }
    if let Some(profile) = &options.apparmor_profile {
        process.apparmor_profile = Some(profile.clone());
    }
    if let Some((label, _)) = &options.selinux_labels {
        process.selinux_label = Some(label.clone());
    }
    for limit in &options.rlimits {
        process.rlimits.retain(|held| held.kind != limit.kind);
        process.rlimits.push(limit.clone());
    }
}

fn set_shm(mounts: &mut [Mount], bytes: u64) {
    for mount in mounts {
        if mount.destination == "/dev/shm" && mount.kind.as_deref() == Some("tmpfs") {
            mount.options.retain(|option| !option.starts_with("size="));
            mount.options.push(format!("size={bytes}"));
        }
    }
}

fn apply_linux(linux: &mut Linux, options: &Options) -> Result<(), Error> {
    for kind in &options.host_namespaces {
        linux.namespaces.retain(|held| held.kind != *kind);
    }
    for namespace in &options.namespaces {
        set_namespace(linux, namespace.clone());
    }
    if let Some((uids, gids)) = &options.id_mappings {
        linux.uid_mappings.clone_from(uids);
        linux.gid_mappings.clone_from(gids);
        set_namespace(
            linux,
            Namespace {
                kind: "user".to_owned(),
                path: None,
            },
        );
    }
    if let Some(path) = &options.cgroups_path {
        linux.cgroups_path = Some(path.clone()).filter(|path| !path.is_empty());
    }
    if let Some((_, label)) = &options.selinux_labels {
        linux.mount_label = Some(label.clone());
    }
    if let Some(propagation) = &options.rootfs_propagation {
        linux.rootfs_propagation = Some(propagation.clone());
    }
    linux.sysctl.extend(options.sysctl.clone());
    let resources = linux.resources.get_or_insert_default();
    apply_resources(resources, options)?;
    for device in &options.devices {
        linux.devices.retain(|held| held.path != device.node.path);
        linux.devices.push(device.node.clone());
        resources.devices.push(DeviceRule {
            allow: true,
            kind: Some(device.node.kind.clone()),
            major: Some(device.node.major),
            minor: Some(device.node.minor),
            access: Some(device.access.clone()),
        });
    }
    Ok(())
}

fn set_namespace(linux: &mut Linux, namespace: Namespace) {
    linux.namespaces.retain(|held| held.kind != namespace.kind);
    linux.namespaces.push(namespace);
}

fn apply_resources(resources: &mut Resources, options: &Options) -> Result<(), Error> {
    if options.memory_bytes.is_some() || options.memory_swap_bytes.is_some() {
        let memory = resources.memory.get_or_insert_with(Memory::default);
        memory.limit = options.memory_bytes.or(memory.limit);
        memory.swap = options.memory_swap_bytes.or(memory.swap);
    }
    if let Some(limit) = options.pids_limit {
        resources.pids = Some(Pids { limit: Some(limit) });
    }
    let cpu = resources.cpu.get_or_insert_with(Cpu::default);
    if let Some(cpus) = options.cpus {
        cpu.quota = Some(quota(cpus)?);
        cpu.period = Some(CPU_PERIOD_MICROS);
    }
    cpu.shares = options.cpu_shares.or(cpu.shares);
    cpu.cpus = options.cpuset_cpus.clone().or(cpu.cpus.take());
    cpu.mems = options.cpuset_mems.clone().or(cpu.mems.take());
    if *cpu == Cpu::default() {
        resources.cpu = None;
    }
    Ok(())
}

/// Microseconds each period; below a thousandth of a processor the kernel refuses.
fn quota(cpus: f64) -> Result<i64, Error> {
    const CPUS: std::ops::RangeInclusive<f64> = 0.01..=1_048_576.0;
    if !CPUS.contains(&cpus) {
        return Err(Error::Invalid {
            what: "cpus",
            value: cpus.to_string(),
            why: "must be at least 0.01",
        });
    }
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the range above fits an i64"
    )]
    let micros = (cpus * 100_000.0) as i64;
    Ok(micros)
}

fn apply_privileges(spec: &mut Spec, options: &Options) -> Result<(), Error> {
    let process = spec.process.get_or_insert_default();
    let linux = spec.linux.get_or_insert_default();
    let mut all = capabilities::owned(capabilities::KNOWN);
    if let Privileges::All {
        capabilities,
        all_devices,
    } = &options.privileges
    {
        all.clone_from(capabilities);
        process.capabilities = Some(capabilities::same(capabilities));
        process.apparmor_profile = None;
        process.selinux_label = None;
        linux.masked_paths.clear();
        linux.readonly_paths.clear();
        linux.seccomp = None;
        for mount in &mut spec.mounts {
            if matches!(mount.kind.as_deref(), Some("sysfs" | "cgroup" | "cgroup2")) {
                mount.options.retain(|option| option != "ro");
            }
        }
        if *all_devices {
            linux.resources.get_or_insert_default().devices = vec![DeviceRule {
                allow: true,
                access: Some("rwm".to_owned()),
                ..DeviceRule::default()
            }];
        }
    }
    let sets = process.capabilities.get_or_insert_default();
    capabilities::change(
        sets,
        &options.capabilities_add,
        &options.capabilities_drop,
        &all,
    )
}

fn apply_seccomp(spec: &mut Spec, choice: &SeccompChoice) {
    let bounding = spec
        .process
        .as_ref()
        .and_then(|process| process.capabilities.as_ref())
        .map_or(&[][..], |sets| &sets.bounding);
    let profile = match choice {
        SeccompChoice::Keep => return,
        SeccompChoice::Unconfined => None,
        SeccompChoice::Default { architecture } => {
            Some(seccomp::default_profile(architecture, bounding))
        }
        SeccompChoice::Profile(profile) => Some((**profile).clone()),
    };
    spec.linux.get_or_insert_default().seccomp = profile;
}
