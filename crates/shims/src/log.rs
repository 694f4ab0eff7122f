//! The fifo on which a shim logs.

use std::path::Path;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::unix::pipe;
use tokio::task::JoinHandle;

use crate::Error;

/// Longest line that is passed on, in bytes; the rest of it becomes the next one.
const LINE_BYTES_MAX: u64 = 8192;

/// Copies lines until aborted; opened for writing too, so that it outlasts any writer.
pub(crate) fn copy(path: &Path, namespace: &str, id: &str) -> Result<JoinHandle<()>, Error> {
    let fifo = pipe::OpenOptions::new()
        .read_write(true)
        .open_receiver(path)
        .map_err(|error| Error::io("open fifo", path, error))?;
    let (namespace, id) = (namespace.to_owned(), id.to_owned());
    Ok(tokio::spawn(async move {
        let mut reader = BufReader::new(fifo);
        let mut line = Vec::new();
        loop {
            line.clear();
            let mut limited = (&mut reader).take(LINE_BYTES_MAX);
            match limited.read_until(b'\n', &mut line).await {
                Ok(0) | Err(_) => return,
                Ok(_) => emit(&namespace, &id, &String::from_utf8_lossy(&line)),
            }
        }
    }))
}

/// Shims in Go write `level=… msg=…`.
fn emit(namespace: &str, id: &str, line: &str) {
    let line = line.trim_end();
    let level = line
        .split_once("level=")
        .map(|(_, rest)| rest.split(' ').next().unwrap_or_default());
    match level {
        _ if line.is_empty() => {}
        Some("debug" | "trace") => tracing::debug!(namespace, id, line, "shim"),
        Some("warning" | "warn") => tracing::warn!(namespace, id, line, "shim"),
        Some("error" | "fatal" | "panic") => tracing::error!(namespace, id, line, "shim"),
        _ => tracing::info!(namespace, id, line, "shim"),
    }
}
