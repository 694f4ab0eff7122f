//! What this runtime is and can do, for `-info` and `-v`.

use prost::Message;
use proto::containerd::types::{RuntimeInfo, RuntimeVersion};
use std::io::{Read, Write};

const NAME: &str = "io.containerd.hoist.v2";
const OPTIONS_BYTES_MAX: u64 = 1 << 20;

/// Writes the version.
pub(crate) fn version() -> Result<(), String> {
    let text = format!(
        "hoist-shim:\n  Version:  {}\n  Revision: \n\n",
        env!("CARGO_PKG_VERSION")
    );
    write(text.as_bytes())
}

/// Reads an `Any` with options, writes `containerd.types.RuntimeInfo`.
pub(crate) fn info() -> Result<(), String> {
    let mut bytes = Vec::new();
    std::io::stdin()
        .take(OPTIONS_BYTES_MAX)
        .read_to_end(&mut bytes)
        .map_err(|error| format!("read options: {error}"))?;
    let options = prost_types::Any::decode(bytes.as_slice())
        .ok()
        .filter(|any| !any.type_url.is_empty());
    let info = RuntimeInfo {
        name: NAME.to_owned(),
        version: Some(RuntimeVersion {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            revision: String::new(),
        }),
        options,
        ..RuntimeInfo::default()
    };
    write(&info.encode_to_vec())
}

/// Writes an answer to standard output.
pub(crate) fn write(bytes: &[u8]) -> Result<(), String> {
    let mut out = std::io::stdout();
    out.write_all(bytes)
        .and_then(|()| out.flush())
        .map_err(|error| format!("write the answer: {error}"))
}
