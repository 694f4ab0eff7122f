//! The logs of containers in the background: where they lie, and how they are read (CRI's line format).

use std::fs::{self, DirBuilder, File};
use std::io::{self, BufRead, BufReader, Seek, SeekFrom};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use client::Error;
use model::Timestamp;
use proto::containerd::services::tasks::v1::GetRequest;
use proto::containerd::v1::types::Status;
use serde_json::json;

use crate::context::Context;
use crate::output;

/// The label with the log's path.
pub(crate) const LABEL: &str = "hoist.io/log";
/// How often a followed log is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// Longest line that is read, in bytes; the shim splits longer ones.
const LINE_BYTES_MAX: u64 = 64 << 10;

/// Where the log of a container lies.
pub(crate) fn path(daemon_root: &Path, namespace: &str, id: &str) -> PathBuf {
    daemon_root
        .join("hoist.logs")
        .join(namespace)
        .join(id)
        .join("log")
}

/// The address under which a shim writes the log.
pub(crate) fn uri(path: &Path) -> String {
    format!("cri-log://{}", path.display())
}

/// Makes the folder of a log, for nobody but us.
pub(crate) fn make_folder(path: &Path) -> anyhow::Result<()> {
    let folder = path.parent().context("the log lies in a folder")?;
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .with_context(|| format!("make {}", folder.display()))
}

/// Removes a log with what was rotated away from it.
pub(crate) fn remove(path: &Path) -> anyhow::Result<()> {
    let Some(folder) = path.parent() else {
        return Ok(());
    };
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).context(format!("remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}

/// Whether the container's first process runs.
pub(crate) async fn running(context: &Context, id: &str) -> anyhow::Result<bool> {
    let request = GetRequest {
        container_id: id.to_owned(),
        exec_id: String::new(),
    };
    match context.client.tasks().get(request).await {
        Ok(answer) => {
            let status = answer.into_inner().process.map(|process| process.status());
            Ok(!matches!(status, Some(Status::Stopped) | None))
        }
        Err(status) if status.code() == tonic::Code::NotFound => Ok(false),
        Err(status) => Err(Error::call(format!("look at {id:?}"))(status).into()),
    }
}

/// What of a log is shown, and how.
#[derive(Debug, Clone, Default)]
pub(crate) struct Show {
    /// Only the last lines of what is there.
    pub tail: Option<usize>,
    /// Only lines since.
    pub since: Option<Timestamp>,
    /// The time before each line.
    pub timestamps: bool,
    /// One JSON value a line.
    pub json: bool,
}

/// Reads a log as it grows.
#[derive(Debug)]
pub(crate) struct Reader {
    path: PathBuf,
    show: Show,
    place: Option<(u64, u64)>,
}

/// One record of a log.
#[derive(Debug, PartialEq, Eq)]
struct Record<'a> {
    time: &'a str,
    stream: &'a str,
    whole: bool,
    text: &'a str,
}

/// Reads `<time> <stream> <F|P> <text>` (CRI's log format).
fn parse(line: &str) -> Option<Record<'_>> {
    let mut parts = line.splitn(4, ' ');
    let (time, stream, tag) = (parts.next()?, parts.next()?, parts.next()?);
    Some(Record {
        time,
        stream,
        whole: tag.starts_with('F'),
        text: parts.next().unwrap_or_default(),
    })
}

impl Reader {
    /// A reader at the beginning of a log.
    pub(crate) fn open(path: PathBuf, show: Show) -> Self {
        Self {
            path,
            show,
            place: None,
        }
    }

    /// Waits a moment for the log to grow.
    pub(crate) async fn changed(&self) {
        tokio::time::sleep(LOOK).await;
    }

    /// Prints what came since the last call.
    pub(crate) async fn print(&mut self) -> anyhow::Result<()> {
        let first = self.place.is_none();
        let mut lines = Vec::new();
        if first {
            for rotated in self.rotated() {
                read(&mut File::open(&rotated)?, &mut lines)?;
            }
        }
        let mut file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => {
                return Err(error).with_context(|| format!("open log {}", self.path.display()));
            }
        };
        let inode = file.metadata()?.ino();
        // A rotated log begins anew under the same name.
        let offset = self
            .place
            .filter(|(known, _)| *known == inode)
            .map_or(0, |(_, offset)| offset);
        file.seek(SeekFrom::Start(offset))?;
        let taken = read(&mut file, &mut lines)?;
        self.place = Some((inode, offset + taken));
        let since = self.show.since;
        let wanted = |line: &String| match since {
            None => true,
            Some(since) => parse(line)
                .and_then(|record| record.time.parse::<Timestamp>().ok())
                .is_none_or(|time| time >= since),
        };
        let lines: Vec<String> = lines.into_iter().filter(wanted).collect();
        let skip = if first {
            self.show
                .tail
                .map_or(0, |tail| lines.len().saturating_sub(tail))
        } else {
            0
        };
        for line in &lines[skip..] {
            self.line(line)?;
        }
        Ok(())
    }

    fn line(&self, line: &str) -> anyhow::Result<()> {
        let Some(record) = parse(line) else {
            return Ok(());
        };
        if self.show.json {
            let value = json!({"time": record.time, "stream": record.stream, "whole": record.whole, "text": record.text});
            return Ok(output::print(&format!("{value}\n"))?);
        }
        let time = if self.show.timestamps {
            format!("{} ", record.time)
        } else {
            String::new()
        };
        let text = format!(
            "{time}{}{}",
            record.text,
            if record.whole { "\n" } else { "" }
        );
        if record.stream == "stderr" {
            io::Write::write_all(&mut io::stderr().lock(), text.as_bytes())?;
        } else {
            output::print(&text)?;
        }
        Ok(())
    }

    /// Older pieces, the oldest first: `log.3`, `log.2`, `log.1`.
    fn rotated(&self) -> Vec<PathBuf> {
        let piece = |number: u32| PathBuf::from(format!("{}.{number}", self.path.display()));
        let mut pieces: Vec<PathBuf> = (1..100)
            .map(piece)
            .take_while(|path| path.exists())
            .collect();
        pieces.reverse();
        pieces
    }
}

/// Reads whole lines and says how many bytes they were; a line that is still being written waits for the next time.
fn read(file: &mut File, lines: &mut Vec<String>) -> io::Result<u64> {
    let mut reader = BufReader::new(file);
    let mut taken = 0;
    loop {
        let mut line = Vec::new();
        let length =
            io::Read::take(&mut reader, LINE_BYTES_MAX).read_until(b'\n', &mut line)? as u64;
        if length == 0 || (line.last() != Some(&b'\n') && length < LINE_BYTES_MAX) {
            return Ok(taken);
        }
        taken += length;
        lines.push(
            String::from_utf8_lossy(&line)
                .trim_end_matches('\n')
                .to_owned(),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read_and_half_lines_wait() {
        let record = parse("2024-01-01T00:00:00Z stdout F hello world").unwrap();
        assert_eq!(
            (record.stream, record.whole, record.text),
            ("stdout", true, "hello world")
        );
        assert_eq!(parse("t stderr P").unwrap().text, "");
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        fs::write(&path, "a stdout F 1\nb stdout F 2").unwrap();
        let mut lines = Vec::new();
        assert_eq!(
            read(&mut File::open(&path).unwrap(), &mut lines).unwrap(),
            13
        );
        assert_eq!(lines, ["a stdout F 1"]);
    }
}
