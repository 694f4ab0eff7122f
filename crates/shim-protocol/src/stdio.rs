//! What stands in the `stdin`, `stdout` and `stderr` fields of a task.

use crate::Error;
use std::path::PathBuf;

/// Size in bytes at which a CRI log is rotated unless the address says otherwise.
pub const CRI_LOG_BYTES_DEFAULT: u64 = 10 << 20;
/// Files of a CRI log that are kept, the current one included, unless the address says otherwise.
pub const CRI_LOG_FILES_DEFAULT: u32 = 5;
const CRI_LOG_FILES_MAX: u32 = 100;

/// Where a stream of a process leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Nowhere.
    Null,
    /// A fifo (or, as upstream allows, a file) at an absolute path.
    Path(PathBuf),
    /// A file that is made and appended to: `file:///path`.
    File(PathBuf),
    /// A program that gets the streams: `binary:///path?key=value`.
    Binary(Logger),
    /// A log in CRI's form that the shim writes: `cri-log:///path?max-size=BYTES&max-files=N&max-line=BYTES`.
    CriLog(CriLog),
}

/// A program that gets standard output as descriptor 3, standard error as 4, and tells on 5 that it is ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logger {
    /// The program.
    pub path: PathBuf,
    /// Its arguments: each key and value of the query in turn.
    pub arguments: Vec<String>,
    /// Readiness has to be told by a byte (`binary-v2`); before, closing the descriptor was enough.
    pub byte_means_ready: bool,
}

/// A log in CRI's form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CriLog {
    /// The file.
    pub path: PathBuf,
    /// Size in bytes at which it is rotated; 0 never.
    pub max_size: u64,
    /// Files that are kept, the current one included.
    pub max_files: u32,
    /// Longest content of a line in bytes.
    pub max_line: usize,
}

impl Target {
    /// Reads a field of a task.
    pub fn parse(uri: &str) -> Result<Self, Error> {
        if uri.is_empty() {
            return Ok(Self::Null);
        }
        let refuse = |reason| Error::Stdio {
            uri: uri.chars().take(200).collect(),
            reason,
        };
        if uri.contains('\0') {
            return Err(refuse("contains a NUL byte"));
        }
        let Some((scheme, rest)) = uri.split_once("://") else {
            return absolute(uri.to_owned())
                .map(Self::Path)
                .ok_or_else(|| refuse("path is not absolute"));
        };
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let path = decode(path)
            .and_then(absolute)
            .ok_or_else(|| refuse("path is not absolute or not encoded as an address"))?;
        let pairs = pairs(query).ok_or_else(|| refuse("query is not encoded as an address"))?;
        match scheme {
            "fifo" => Ok(Self::Path(path)),
            "file" => Ok(Self::File(path)),
            "binary" | "binary-v2" => Ok(Self::Binary(Logger {
                path,
                arguments: pairs
                    .into_iter()
                    .flat_map(|(key, value)| [key, value])
                    .collect(),
                byte_means_ready: scheme == "binary-v2",
            })),
            "cri-log" => cri_log(path, &pairs).map(Self::CriLog).map_err(refuse),
            _ => Err(refuse("unknown STDIO scheme")),
        }
    }
}

impl CriLog {
    /// The address of this log.
    pub fn to_uri(&self) -> String {
        let mut uri = "cri-log://".to_owned();
        for byte in self.path.as_os_str().as_encoded_bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' | b'~' => {
                    uri.push(char::from(*byte));
                }
                other => uri.push_str(&format!("%{other:02X}")),
            }
        }
        uri.push_str(&format!(
            "?max-size={}&max-files={}&max-line={}",
            self.max_size, self.max_files, self.max_line
        ));
        uri
    }
}

fn cri_log(path: PathBuf, pairs: &[(String, String)]) -> Result<CriLog, &'static str> {
    let mut log = CriLog {
        path,
        max_size: CRI_LOG_BYTES_DEFAULT,
        max_files: CRI_LOG_FILES_DEFAULT,
        max_line: crate::log::LINE_BYTES_MAX,
    };
    for (key, value) in pairs {
        let number: u64 = value.parse().map_err(|_| "limit is no number")?;
        match key.as_str() {
            "max-size" => log.max_size = number,
            "max-files" => {
                log.max_files = u32::try_from(number)
                    .unwrap_or(CRI_LOG_FILES_MAX)
                    .clamp(1, CRI_LOG_FILES_MAX);
            }
            "max-line" => {
                let wanted = usize::try_from(number).unwrap_or(usize::MAX);
                log.max_line = wanted.clamp(1, crate::log::LINE_BYTES_MAX);
            }
            _ => return Err("unknown limit"),
        }
    }
    Ok(log)
}

fn absolute(path: String) -> Option<PathBuf> {
    Some(path)
        .filter(|path| path.starts_with('/'))
        .map(PathBuf::from)
}

fn pairs(query: &str) -> Option<Vec<(String, String)>> {
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((
                decode(&key.replace('+', " "))?,
                decode(&value.replace('+', " "))?,
            ))
        })
        .collect()
}

/// Undoes percent encoding (RFC 3986, section 2.1).
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let high = char::from(rest.next()?).to_digit(16)?;
        let low = char::from(rest.next()?).to_digit(16)?;
        bytes.push(u8::try_from(high * 16 + low).ok()?);
    }
    String::from_utf8(bytes)
        .ok()
        .filter(|text| !text.contains('\0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_understood() {
        let logger = |path: &str, arguments: &[&str], byte_means_ready| {
            let arguments = arguments.iter().map(ToString::to_string).collect();
            Target::Binary(Logger {
                path: path.into(),
                arguments,
                byte_means_ready,
            })
        };
        for (uri, target) in [
            ("", Target::Null),
            ("/run/f", Target::Path("/run/f".into())),
            ("fifo:///run/f", Target::Path("/run/f".into())),
            ("file:///a%20b", Target::File("/a b".into())),
            (
                "binary:///l?id=x&k",
                logger("/l", &["id", "x", "k", ""], false),
            ),
            (
                "binary-v2:///l?a=b+c%2F",
                logger("/l", &["a", "b c/"], true),
            ),
        ] {
            assert_eq!(Target::parse(uri).unwrap(), target, "{uri}");
        }
        for bad in [
            "f",
            "http:///x",
            "file://x",
            "file:///%zz",
            "file:///%00",
            "cri-log:///l?max-size=x",
            "/a\0",
        ] {
            assert!(Target::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn cri_log_reads_back() {
        let log = CriLog {
            path: "/var/log/a b/0.log".into(),
            max_size: 5,
            max_files: 2,
            max_line: 100,
        };
        assert_eq!(Target::parse(&log.to_uri()).unwrap(), Target::CriLog(log));
    }
}
