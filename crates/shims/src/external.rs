//! Runs shims that are programs: `start`, `delete` and `-info` as containerd's contract has them.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use prost::Message;
use proto::Any;
use proto::containerd::task::v3::DeleteResponse;
use proto::containerd::types::{RuntimeInfo, RuntimeRequest};
use shim_protocol::bootstrap::{BootstrapParams, BootstrapResult, Extension, LogLevel};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio::process::Command;

use crate::exits::from_proto;
use crate::{Bundle, Config, Error, Exit, Program};

/// Longest output of a shim's command, in bytes.
const OUTPUT_BYTES_MAX: u64 = 4 << 20;
/// Longest part of an output that an error quotes, in characters.
const QUOTE_CHARS_MAX: usize = 1000;
/// The latest version of the contract that old shims may answer with.
const MAX_SHIM_VERSION: &str = "2";

/// One command of a shim.
struct Action<'a> {
    program: &'a Program,
    arguments: Vec<OsString>,
    folder: &'a Path,
    input: Vec<u8>,
    limit: Duration,
    /// Whether standard error belongs to the answer.
    combined: bool,
}

struct Output {
    success: bool,
    status: String,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

/// What a shim is told at its start.
pub(crate) fn params(config: &Config, bundle: &Bundle, options: Option<&Any>) -> BootstrapParams {
    let level = if config.debug {
        LogLevel::Debug
    } else {
        LogLevel::Info
    };
    let extension = |any: &Any| Extension {
        value: Some(any.clone()),
    };
    BootstrapParams {
        instance_id: bundle.id.to_string(),
        namespace: bundle.namespace.to_string(),
        log_level: level as i32,
        containerd_version: config.daemon_version.clone(),
        containerd_ttrpc_address: config.ttrpc_address.clone(),
        containerd_grpc_address: config.grpc_address.clone(),
        containerd_binary: config.daemon_binary.to_string_lossy().into_owned(),
        extensions: options.map(extension).into_iter().collect(),
        socket_dir: Some(config.socket_dir.to_string_lossy().into_owned()),
    }
}

/// Runs `start` and understands whatever it answers.
pub(crate) async fn start(
    config: &Config,
    program: &Program,
    bundle: &Bundle,
    runtime: &str,
    options: Option<&Any>,
) -> Result<BootstrapResult, Error> {
    let params = params(config, bundle, options);
    // These two never learned the message.
    let raw = runtime.ends_with("runc-v1") || runtime.ends_with("runhcs-v1");
    let raw = raw || runtime.ends_with("runc.v1") || runtime.ends_with("runhcs.v1");
    let input = if raw {
        options.map(Message::encode_to_vec).unwrap_or_default()
    } else {
        params.encode_to_vec()
    };
    let mut arguments = identity(config, bundle);
    if config.debug {
        arguments.push("-debug".into());
    }
    arguments.push("start".into());
    let output = run(
        config,
        bundle.namespace.as_str(),
        Action {
            program,
            arguments,
            folder: &bundle.path,
            input,
            limit: config.timeouts.start,
            combined: true,
        },
    )
    .await
    .map_err(|reason| start_failed(bundle, reason))?;
    if !output.success {
        let text = quote(&output.stdout);
        return Err(start_failed(bundle, format!("{}: {text}", output.status)));
    }
    BootstrapResult::parse(&output.stdout).map_err(|source| Error::Protocol {
        what: "answer at its start",
        source: Box::new(source),
    })
}

/// Runs `delete`: what a dead shim left is cleaned up, and how its task ended is told.
pub(crate) async fn delete(
    config: &Config,
    program: &Program,
    bundle: &Bundle,
) -> Result<Option<Exit>, Error> {
    let mut arguments = identity(config, bundle);
    arguments.extend(["-bundle".into(), bundle.path.clone().into()]);
    if config.debug {
        arguments.push("-debug".into());
    }
    arguments.push("delete".into());
    let output = run(
        config,
        bundle.namespace.as_str(),
        Action {
            program,
            arguments,
            folder: &bundle.path,
            input: Vec::new(),
            limit: config.timeouts.cleanup,
            combined: false,
        },
    )
    .await
    .map_err(|reason| start_failed(bundle, reason))?;
    if !output.success {
        let text = quote(&output.stderr);
        return Err(start_failed(bundle, format!("{}: {text}", output.status)));
    }
    let answer =
        DeleteResponse::decode(output.stdout.as_slice()).map_err(|source| Error::Protocol {
            what: "answer to delete",
            source: Box::new(source),
        })?;
    Ok(from_proto(answer.exited_at).map(|at| Exit {
        pid: answer.pid,
        status: answer.exit_status,
        at,
    }))
}

/// Runs `-info`.
pub(crate) async fn info(
    config: &Config,
    program: &Program,
    request: &RuntimeRequest,
) -> Result<RuntimeInfo, Error> {
    let input = request.options.as_ref().map(Message::encode_to_vec);
    let output = run(
        config,
        "",
        Action {
            program,
            arguments: vec!["-info".into()],
            folder: Path::new("/"),
            input: input.unwrap_or_default(),
            limit: config.timeouts.start,
            combined: false,
        },
    )
    .await;
    let reason = match output {
        Ok(output) if output.success => {
            return RuntimeInfo::decode(output.stdout.as_slice()).map_err(|source| {
                Error::Protocol {
                    what: "answer to -info",
                    source: Box::new(source),
                }
            });
        }
        Ok(output) => format!("{}: {}", output.status, quote(&output.stderr)),
        Err(reason) => reason,
    };
    Err(Error::Start {
        id: "-info".to_owned(),
        reason,
    })
}

fn start_failed(bundle: &Bundle, reason: String) -> Error {
    Error::Start {
        id: bundle.id.to_string(),
        reason,
    }
}

fn identity(config: &Config, bundle: &Bundle) -> Vec<OsString> {
    [
        ("-namespace", OsString::from(bundle.namespace.as_str())),
        ("-address", OsString::from(&config.grpc_address)),
        ("-publish-binary", config.daemon_binary.clone().into()),
        ("-id", OsString::from(bundle.id.as_str())),
    ]
    .into_iter()
    .flat_map(|(flag, value)| [OsString::from(flag), value])
    .collect()
}

fn quote(output: &[u8]) -> String {
    let text = String::from_utf8_lossy(output);
    text.trim().chars().take(QUOTE_CHARS_MAX).collect()
}

async fn run(config: &Config, namespace: &str, action: Action<'_>) -> Result<Output, String> {
    let limit = action.limit;
    tokio::time::timeout(limit, run_unlimited(config, namespace, action))
        .await
        .unwrap_or_else(|_| Err(format!("no end within {limit:?}")))
}

async fn run_unlimited(
    config: &Config,
    namespace: &str,
    action: Action<'_>,
) -> Result<Output, String> {
    let path = match action.program {
        Program::External(path) => path.clone(),
        Program::BuiltIn => match &config.built_in {
            Some(built_in) => built_in.image.exec_path(),
            None => return Err("our own shim is turned off".to_owned()),
        },
    };
    let text = |error: io::Error| format!("{}: {error}", path.display());
    let (out_reader, out_writer) = io::pipe().map_err(text)?;
    let (err_reader, err_writer) = if action.combined {
        (None, out_writer.try_clone().map_err(text)?)
    } else {
        let (reader, writer) = io::pipe().map_err(text)?;
        (Some(reader), writer)
    };
    let mut command = Command::new(&path);
    command
        .args(&action.arguments)
        .current_dir(action.folder)
        .env_clear()
        .envs(environment(config, namespace))
        .process_group(0)
        .kill_on_drop(true)
        .stdin(Stdio::piped())
        .stdout(OwnedFd::from(out_writer))
        .stderr(OwnedFd::from(err_writer));
    let mut child = command.spawn().map_err(text)?;
    // The command holds the writing ends of the pipes.
    drop(command);
    let stdin = child.stdin.take();
    let feed = async {
        if let Some(mut stdin) = stdin {
            // A shim need not read what it is told.
            drop(stdin.write_all(&action.input).await);
        }
    };
    let ((), stdout, stderr) = tokio::join!(
        feed,
        drain(Some(out_reader.into())),
        drain(err_reader.map(OwnedFd::from))
    );
    let status = child.wait().await.map_err(text)?;
    Ok(Output {
        success: status.success(),
        status: sys::spawn::describe(status),
        stdout: stdout.map_err(text)?,
        stderr: stderr.map_err(text)?,
    })
}

async fn drain(reader: Option<OwnedFd>) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(reader) = reader {
        pipe::Receiver::from_owned_fd(reader)?
            .take(OUTPUT_BYTES_MAX)
            .read_to_end(&mut bytes)
            .await?;
    }
    Ok(bytes)
}

fn environment(config: &Config, namespace: &str) -> Vec<(OsString, OsString)> {
    let own = [
        ("GOMAXPROCS", "2"),
        ("MAX_SHIM_VERSION", MAX_SHIM_VERSION),
        ("TTRPC_ADDRESS", &config.ttrpc_address),
        ("GRPC_ADDRESS", &config.grpc_address),
        ("NAMESPACE", namespace),
    ];
    let own = own
        .into_iter()
        .map(|(name, value)| (OsString::from(name), OsString::from(value)));
    config.environment.iter().cloned().chain(own).collect()
}

/// The program of a bundle: what `shim-binary-path` names, or ours when it names none.
pub(crate) fn program_of(bundle: &Bundle) -> Result<Program, Error> {
    let text = bundle.read(shim_protocol::bundle::SHIM_BINARY)?;
    let path = text.map(|text| {
        use std::os::unix::ffi::OsStrExt;
        PathBuf::from(OsStr::from_bytes(text.trim_ascii()))
    });
    Ok(match path {
        Some(path) if !path.as_os_str().is_empty() => Program::External(path),
        _ => Program::BuiltIn,
    })
}
