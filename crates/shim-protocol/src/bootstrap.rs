//! What a shim is told at its start and what it answers.
//!
//! # With an execution of its own (`start`, any daemon)
//!
//! The daemon runs `<shim> -namespace <ns> -address <daemon socket> -publish-binary <daemon> -id <id> [-debug] start`
//! in the bundle, with environment variables `TTRPC_ADDRESS`, `GRPC_ADDRESS`, `NAMESPACE`, `MAX_SHIM_VERSION`.
//! Standard input holds [`BootstrapParams`]; older daemons write an encoded `Any` with the options, or nothing.
//! Standard output and error are read together and hold nothing but the answer: binary [`BootstrapResult`], a JSON
//! document (daemons from 1.7), or the bare address (before).
//!
//! # Direct bootstrap (hoistd and `hoist-shim`)
//!
//! One execution and no intermediate process. hoistd
//!
//! 1. takes [`crate::address::of_group`], binds and listens (socket 0600 in a folder 0700) itself; an address in use
//!    that can be connected to is the group's shim, which it uses instead;
//! 2. makes the bundle with `config.json` and, if it wants the shim's log, the fifo `log`, which it keeps open for
//!    reading;
//! 3. starts its sealed image of `hoist-shim` with [`direct_arguments`], the bundle as working folder, any environment
//!    (none is read), and these descriptors, all others closed:
//!
//!    | fd | is |
//!    |---|---|
//!    | 0 | [`BootstrapParams`], to its end, at most [`PARAMS_BYTES_MAX`]; a pipe that is written and closed, or a file |
//!    | 1 | write end of a pipe: the shim writes [`BootstrapResult`] in binary and closes it when it serves |
//!    | 2 | text of a failure before that; a pipe, a file or `/dev/null` |
//!    | 3 | the listening socket |
//!
//! The process that hoistd started **is** the shim: its pidfd tells of the shim's death, and hoistd reaps it (when
//! hoistd is gone, init does). End of fd 1 without a byte means failure; the shim has removed nothing then, so hoistd
//! unlinks the socket. Waiting for fd 1 is optional: connections and calls wait in the socket's backlog, so that
//! hoistd may connect and send Create at once. The shim itself makes a session, becomes a subreaper, raises its
//! `oom_score_adj` one above its parent's, joins `Options.shim_cgroup`, replaces 0-2 by `/dev/null` and leaves the
//! working folder. It unlinks the socket when it ends in order.
//!
//! A result's `metadata` has `pid` (the shim's process id, in decimal) and, on [`SERVICE_KEY`], the name of the
//! service with which hoistd reaches what the task service lacks.

use crate::Error;
use prost::Message;
use prost_types::Any;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// Longest [`BootstrapParams`] in bytes that a shim reads.
pub const PARAMS_BYTES_MAX: usize = 1 << 20;

/// Latest version of the contract: the task service v3.
pub const VERSION: i32 = 3;

/// Key in [`BootstrapResult::metadata`]: the name of our own service in this shim.
pub const SERVICE_KEY: &str = "hoist.service";

/// Our own service: `ReopenLogs(StateRequest) -> Empty` opens the logs of a container's processes anew after they
/// were renamed.
pub const SERVICE: &str = "hoist.shim.v1.Shim";

/// The command after which a shim serves on descriptor 3.
pub const SERVE: &str = "serve";

/// What a daemon tells a shim (`containerd.runtime.bootstrap.v1.BootstrapParams`).
#[derive(Clone, PartialEq, prost::Message)]
pub struct BootstrapParams {
    /// Identifier of the container.
    #[prost(string, tag = "1")]
    pub instance_id: String,
    /// Its namespace.
    #[prost(string, tag = "2")]
    pub namespace: String,
    /// Lines below this level are not logged; a [`LogLevel`] as number.
    #[prost(int32, tag = "3")]
    pub log_level: i32,
    /// Version of the daemon.
    #[prost(string, tag = "4")]
    pub containerd_version: String,
    /// Socket of the daemon that takes events.
    #[prost(string, tag = "5")]
    pub containerd_ttrpc_address: String,
    /// Socket of the daemon for clients.
    #[prost(string, tag = "6")]
    pub containerd_grpc_address: String,
    /// Program of the daemon.
    #[prost(string, tag = "7")]
    pub containerd_binary: String,
    /// The runtime options, and what later versions add.
    #[prost(message, repeated, tag = "8")]
    pub extensions: Vec<Extension>,
    /// Where the shim makes its socket; absent for the default.
    #[prost(string, optional, tag = "9")]
    pub socket_dir: Option<String>,
}

/// One extension of [`BootstrapParams`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct Extension {
    /// The value with its type.
    #[prost(message, optional, tag = "1")]
    pub value: Option<Any>,
}

/// Levels of [`BootstrapParams::log_level`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
#[repr(i32)]
pub enum LogLevel {
    Trace = -8,
    Debug = -4,
    Info = 0,
    Warn = 4,
    Error = 8,
    Fatal = 10,
    Panic = 12,
}

impl BootstrapParams {
    /// The value of the extension with this type.
    pub fn extension(&self, type_url: &str) -> Option<&Any> {
        self.extensions
            .iter()
            .filter_map(|extension| extension.value.as_ref())
            .find(|any| any.type_url == type_url)
    }

    /// True when the daemon wants details logged.
    pub fn debug(&self) -> bool {
        self.log_level <= LogLevel::Debug as i32
    }
}

/// What a shim answers (`containerd.runtime.bootstrap.v1.BootstrapResult`).
#[derive(Clone, PartialEq, prost::Message)]
pub struct BootstrapResult {
    /// Version of the task service it serves.
    #[prost(int32, tag = "1")]
    pub version: i32,
    /// Where it listens, such as `unix:///run/containerd/s/…`.
    #[prost(string, tag = "2")]
    pub address: String,
    /// `ttrpc` or `grpc`.
    #[prost(string, tag = "3")]
    pub protocol: String,
    /// Reserved by upstream.
    #[prost(int32, repeated, tag = "4")]
    pub capabilities: Vec<i32>,
    /// What else the shim says of itself.
    #[prost(map = "string, string", tag = "5")]
    pub metadata: HashMap<String, String>,
}

/// The document of `bootstrap.json`.
#[derive(Serialize, Deserialize)]
struct Document {
    #[serde(default)]
    version: i32,
    #[serde(default)]
    address: String,
    #[serde(default)]
    protocol: String,
    #[serde(default, skip_serializing_if = "HashMap::is_empty")]
    metadata: HashMap<String, String>,
}

impl BootstrapResult {
    /// The answer of a ttrpc shim of the latest version.
    pub fn ttrpc(address: impl Into<String>) -> Self {
        Self {
            version: VERSION,
            address: address.into(),
            protocol: "ttrpc".to_owned(),
            ..Self::default()
        }
    }

    /// Reads the answer of any shim: binary, JSON, or a bare address.
    ///
    /// Fails when the shim speaks a later version than [`VERSION`].
    pub fn parse(answer: &[u8]) -> Result<Self, Error> {
        let binary = Self::decode(answer)
            .ok()
            .filter(|result| result.version > 0 && !result.address.is_empty());
        let result = match binary {
            Some(result) => result,
            None => Self::parse_text(answer),
        };
        if result.version > VERSION {
            return Err(Error::Version {
                version: result.version,
            });
        }
        Ok(result)
    }

    fn parse_text(answer: &[u8]) -> Self {
        let answer = answer.trim_ascii();
        match serde_json::from_slice::<Document>(answer) {
            Ok(document) if document.version >= 2 => Self {
                version: document.version,
                address: document.address,
                protocol: document.protocol,
                capabilities: Vec::new(),
                metadata: document.metadata,
            },
            _ => Self {
                version: 2,
                address: String::from_utf8_lossy(answer).into_owned(),
                protocol: "ttrpc".to_owned(),
                ..Self::default()
            },
        }
    }

    /// The text of the bundle's `bootstrap.json`, which [`BootstrapResult::parse`] reads too.
    pub fn to_json(&self) -> Vec<u8> {
        let document = Document {
            version: self.version,
            address: self.address.clone(),
            protocol: self.protocol.clone(),
            metadata: self.metadata.clone(),
        };
        serde_json::to_vec(&document).expect("strings and numbers can be written as JSON")
    }
}

/// What stands on a shim's standard input at `start`, and so which answer its daemon understands.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// A daemon from 2.3 on: answer in binary.
    Params(Box<BootstrapParams>),
    /// An older daemon: answer in JSON if it knows `MAX_SHIM_VERSION`, otherwise with the bare address.
    Options(Option<Any>),
}

impl Input {
    /// Tells the forms apart; `id` is that of the command line.
    pub fn parse(bytes: &[u8], id: &str) -> Self {
        if let Ok(params) = BootstrapParams::decode(bytes)
            && params.instance_id == id
        {
            return Self::Params(Box::new(params));
        }
        let options = Any::decode(bytes)
            .ok()
            .filter(|any| !any.type_url.is_empty());
        Self::Options(options)
    }
}

/// The command line of a direct bootstrap, without the program's name.
pub fn direct_arguments(params: &BootstrapParams, bundle: &str) -> Vec<String> {
    let mut arguments: Vec<String> = [
        ("-namespace", params.namespace.as_str()),
        ("-address", params.containerd_grpc_address.as_str()),
        ("-publish-binary", params.containerd_binary.as_str()),
        ("-id", params.instance_id.as_str()),
        ("-bundle", bundle),
    ]
    .into_iter()
    .flat_map(|(flag, value)| [flag.to_owned(), value.to_owned()])
    .collect();
    if params.debug() {
        arguments.push("-debug".to_owned());
    }
    arguments.push(SERVE.to_owned());
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_is_understood() {
        let mut result = BootstrapResult::ttrpc("unix:///run/containerd/s/0");
        result.metadata.insert("pid".into(), "7".into());
        assert_eq!(
            BootstrapResult::parse(&result.encode_to_vec()).unwrap(),
            result
        );
        assert_eq!(BootstrapResult::parse(&result.to_json()).unwrap(), result);
        let bare = BootstrapResult::parse(b"unix:///x\n").unwrap();
        assert_eq!(
            (bare.version, bare.address.as_str(), bare.protocol.as_str()),
            (2, "unix:///x", "ttrpc")
        );
        let grpc =
            BootstrapResult::parse(br#"{"version":3,"address":"vsock://3:1","protocol":"grpc"}"#)
                .unwrap();
        assert_eq!((grpc.version, grpc.protocol.as_str()), (3, "grpc"));
        assert!(matches!(
            BootstrapResult::parse(br#"{"version":4}"#),
            Err(Error::Version { version: 4 })
        ));
    }

    #[test]
    fn inputs_are_told_apart() {
        let any = Any {
            type_url: "containerd.runc.v1.Options".into(),
            value: vec![8, 1],
        };
        let params = BootstrapParams {
            instance_id: "c1".into(),
            log_level: LogLevel::Debug as i32,
            extensions: vec![Extension {
                value: Some(any.clone()),
            }],
            ..BootstrapParams::default()
        };
        let Input::Params(read) = Input::parse(&params.encode_to_vec(), "c1") else {
            panic!("params are not recognised")
        };
        assert!(read.debug());
        assert_eq!(read.extension(&any.type_url), Some(&any));
        assert_eq!(
            Input::parse(&any.encode_to_vec(), "c1"),
            Input::Options(Some(any))
        );
        assert_eq!(Input::parse(b"", "c1"), Input::Options(None));
    }
}
