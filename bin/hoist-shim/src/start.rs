//! Becoming a shim: `start` for any daemon, `serve` for hoistd and for `start` itself.

use crate::cli::Arguments;
use crate::log::Log;
use crate::server::{Config, Shim};
use prost::Message;
use shim_protocol::bootstrap::{self, BootstrapParams, BootstrapResult, Extension, Input};
use shim_protocol::options::{RuncOptions, TYPE_URL};
use shim_protocol::{address, bundle, group};
use std::ffi::CString;
use std::fmt::Display;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use sys::worker::{Image, Program};

/// The descriptor on which a shim listens.
const LISTENER: i32 = 3;
/// The kernel's upper end of `oom_score_adj`.
const OOM_SCORE_MAX: i32 = 1000;

fn say<E: Display>(act: &str) -> impl FnOnce(E) -> String {
    move |error| format!("{act}: {error}")
}

#[expect(
    clippy::disallowed_methods,
    reason = "the environment is part of the shim contract, and this is the program"
)]
fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn standard_input() -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let limit = bootstrap::PARAMS_BYTES_MAX as u64;
    io::stdin()
        .take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(say("read standard input"))?;
    if bytes.len() as u64 > limit {
        return Err(format!("standard input holds more than {limit} bytes"));
    }
    Ok(bytes)
}

/// Starts the shim of the container's group, or finds it, and tells its address.
pub(crate) fn start(arguments: &Arguments) -> Result<(), String> {
    let input = Input::parse(&standard_input()?, &arguments.id);
    let modern = matches!(input, Input::Params(_));
    let params = params(arguments, input);
    let folder = std::env::current_dir().map_err(say("find the bundle"))?;
    let config = std::fs::read(folder.join(bundle::CONFIG)).map_err(say("read config.json"))?;
    let group = group::of_config(&config, &arguments.id).map_err(|error| model::chain(&error))?;
    let sockets = params
        .socket_dir
        .as_deref()
        .filter(|dir| !dir.is_empty())
        .unwrap_or(address::SOCKET_DIR);
    let address = address::of_group(
        sockets,
        &params.containerd_grpc_address,
        &arguments.namespace,
        &group,
    );
    if let Some(listener) = listen(&address)? {
        daemonize(arguments, &params, &folder, listener)?;
    }
    let path = folder.join(bundle::ADDRESS);
    std::fs::write(&path, &address).map_err(say("write address"))?;
    let mut result = BootstrapResult::ttrpc(address);
    if modern {
        return crate::info::write(&result.encode_to_vec());
    }
    // Daemons that do not say what they understand take the bare address.
    match environment("MAX_SHIM_VERSION").and_then(|version| version.parse::<i32>().ok()) {
        None => crate::info::write(result.address.as_bytes()),
        Some(version) => {
            result.version = version.clamp(2, bootstrap::VERSION);
            crate::info::write(&result.to_json())
        }
    }
}

/// What the daemon said, in the latest form.
fn params(arguments: &Arguments, input: Input) -> BootstrapParams {
    let mut params = match input {
        Input::Params(params) => *params,
        Input::Options(options) => BootstrapParams {
            extensions: options
                .into_iter()
                .map(|value| Extension { value: Some(value) })
                .collect(),
            ..BootstrapParams::default()
        },
    };
    params.instance_id.clone_from(&arguments.id);
    params.namespace.clone_from(&arguments.namespace);
    if params.containerd_grpc_address.is_empty() {
        params
            .containerd_grpc_address
            .clone_from(&arguments.address);
    }
    if params.containerd_ttrpc_address.is_empty() {
        params.containerd_ttrpc_address = environment("TTRPC_ADDRESS").unwrap_or_default();
    }
    if arguments.debug {
        params.log_level = params.log_level.min(bootstrap::LogLevel::Debug as i32);
    }
    params
}

/// Makes the socket; `None` when a shim answers there already.
fn listen(address: &str) -> Result<Option<UnixListener>, String> {
    let path = Path::new(address::path(address).ok_or("the address is no socket path")?);
    if let Some(folder) = path.parent() {
        use std::os::unix::fs::DirBuilderExt;
        let made = std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder);
        made.map_err(say("make the socket folder"))?;
    }
    // Nobody may connect in the moment between bind and chmod.
    let mask = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o177));
    let bound = bind(path);
    rustix::process::umask(mask);
    bound.map_err(say("make the socket"))
}

fn bind(path: &Path) -> io::Result<Option<UnixListener>> {
    match UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            if UnixStream::connect(path).is_ok() {
                return Ok(None);
            }
            std::fs::remove_file(path)?;
            UnixListener::bind(path).map(Some)
        }
        bound => bound.map(Some),
    }
}

/// Starts the shim itself from a sealed image of this program.
fn daemonize(
    arguments: &Arguments,
    params: &BootstrapParams,
    folder: &Path,
    listener: UnixListener,
) -> Result<(), String> {
    raise_oom_score().map_err(say("set the OOM score"))?;
    let bundle = folder.to_str().ok_or("the bundle's path is not UTF-8")?;
    let mut words = vec!["hoist-shim".to_owned(), "-started".to_owned()];
    words.extend(bootstrap::direct_arguments(params, bundle));
    let texts: Result<Vec<CString>, _> = words.into_iter().map(CString::new).collect();
    let image = sealed_self().map_err(say("seal the program"))?;
    let (reader, writer) = io::pipe().map_err(say("make a pipe"))?;
    let mut writer = writer;
    // Far below a pipe's capacity: written before anybody reads.
    writer
        .write_all(&params.encode_to_vec())
        .map_err(say("pass the parameters"))?;
    drop(writer);
    let null = || {
        File::options()
            .read(true)
            .write(true)
            .open("/dev/null")
            .map(OwnedFd::from)
    };
    let program = Program {
        image: Image::File(image.as_fd()),
        arguments: texts.map_err(say("pass the arguments"))?,
        environment: Vec::new(),
        fds: vec![
            reader.into(),
            null().map_err(say("open /dev/null"))?,
            null().map_err(say("open /dev/null"))?,
            listener.into(),
        ],
        session: true,
    };
    debug_assert_eq!(arguments.id, params.instance_id, "one container is meant");
    sys::worker::start(&program)
        .map(drop)
        .map_err(say("start the shim"))
}

/// This program where nothing in a container can write it: on a read-only mount of its own, or as sealed memory.
fn sealed_self() -> io::Result<OwnedFd> {
    let path = std::fs::read_link("/proc/self/exe")?;
    let mount = path
        .to_str()
        .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
        .and_then(|path| {
            let mount = sys::mount::clone_tree(rustix::fs::CWD, path, false)?;
            let read_only = sys::mount::Change {
                set: sys::mount::Attributes::MOUNT_ATTR_RDONLY,
                ..sys::mount::Change::default()
            };
            sys::mount::change(mount.as_fd(), read_only)?;
            Ok(mount)
        });
    match mount {
        Ok(mount) => Ok(mount),
        Err(_) => {
            let image = sys::sealed::SealedImage::from_path(Path::new("/proc/self/exe"))?;
            image.as_fd().try_clone_to_owned()
        }
    }
}

/// One above the parent's: the kernel takes a shim before its daemon.
fn raise_oom_score() -> io::Result<()> {
    let parent = rustix::process::getppid().map_or(1, |pid| pid.as_raw_nonzero().get());
    let text = std::fs::read_to_string(format!("/proc/{parent}/oom_score_adj"))?;
    let score: i32 = text
        .trim()
        .parse()
        .map_err(|_| io::ErrorKind::InvalidData)?;
    let wanted = (score + 1).min(OOM_SCORE_MAX);
    match std::fs::write("/proc/self/oom_score_adj", wanted.to_string()) {
        // Lowering needs a privilege; then the score that we inherited is higher, which is what is wanted.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        other => other,
    }
}

/// Is the shim, to the end.
pub(crate) fn serve(arguments: &Arguments) -> Result<(), String> {
    let listener = sys::worker::inherited(LISTENER).map_err(say("take the socket"))?;
    let params = match Input::parse(&standard_input()?, &arguments.id) {
        Input::Params(params) => *params,
        Input::Options(_) => {
            return Err("standard input holds no parameters for this container".to_owned());
        }
    };
    let socket = UnixListener::from(listener);
    let path = socket
        .local_addr()
        .ok()
        .and_then(|address| address.as_pathname().map(PathBuf::from));
    let path = path.ok_or("descriptor 3 is no listening socket with a path")?;
    if !arguments.started {
        raise_oom_score().map_err(say("set the OOM score"))?;
    }
    // A process group's leader can't make a session; it has what it needs then.
    let _leader = rustix::process::setsid().is_err();
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .map_err(say("become a subreaper"))?;
    join_cgroup(&params)?;
    let folder = if arguments.bundle.is_empty() {
        Path::new(".")
    } else {
        Path::new(&arguments.bundle)
    };
    let log = Log::open(folder, arguments.debug || params.debug());
    let config = Config {
        namespace: arguments.namespace.clone(),
        socket: path.clone(),
        ttrpc_address: params.containerd_ttrpc_address,
    };
    let mut shim = Shim::new(config, log, socket.into()).map_err(say("prepare the loop"))?;
    announce(&path)?;
    shim.run().map_err(|error| {
        shim.log.warn(&format!("the loop ended: {error}"));
        format!("wait for events: {error}")
    })
}

/// Tells the daemon that the shim serves, and lets go of what it was started with.
fn announce(socket: &Path) -> Result<(), String> {
    let mut result = BootstrapResult::ttrpc(format!("unix://{}", socket.display()));
    result
        .metadata
        .insert("pid".to_owned(), std::process::id().to_string());
    result.metadata.insert(
        bootstrap::SERVICE_KEY.to_owned(),
        bootstrap::SERVICE.to_owned(),
    );
    crate::info::write(&result.encode_to_vec())?;
    let null = File::options()
        .read(true)
        .write(true)
        .open("/dev/null")
        .map_err(say("open /dev/null"))?;
    rustix::stdio::dup2_stdin(&null)
        .and_then(|()| rustix::stdio::dup2_stdout(&null))
        .and_then(|()| rustix::stdio::dup2_stderr(&null))
        .map_err(say("close the standard streams"))?;
    std::env::set_current_dir("/").map_err(say("leave the bundle"))
}

fn join_cgroup(params: &BootstrapParams) -> Result<(), String> {
    let options =
        RuncOptions::from_any(params.extension(TYPE_URL)).map_err(|error| model::chain(&error))?;
    let group = options.shim_cgroup.trim_start_matches('/');
    if group.is_empty() {
        return Ok(());
    }
    if Path::new(group)
        .components()
        .any(|part| !matches!(part, std::path::Component::Normal(_)))
    {
        return Err(format!("shim_cgroup {group:?} is no path of names"));
    }
    let root = Path::new("/sys/fs/cgroup");
    let mut folders = vec![root.to_path_buf()];
    if !root.join("cgroup.controllers").exists() {
        let controllers = std::fs::read_dir(root).map_err(say("list cgroup controllers"))?;
        folders = controllers
            .filter_map(|entry| Some(entry.ok()?.path()))
            .collect();
    }
    let mut joined = false;
    for folder in folders {
        let file = folder.join(group).join("cgroup.procs");
        if file.exists() {
            std::fs::write(&file, "0").map_err(say("join shim_cgroup"))?;
            joined = true;
        }
    }
    if joined {
        Ok(())
    } else {
        Err(format!("shim_cgroup {group:?} does not exist"))
    }
}
