//! Opening the streams of a process as its task names them.

use crate::relay::Sink;
use crate::sink::LogFile;
use model::ErrorKind;
use rustix::fs::{FileType, Mode, OFlags};
use shim_protocol::log::{Lines, Stream};
use shim_protocol::stdio::{Logger, Target};
use std::cell::RefCell;
use std::ffi::CString;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::rc::Rc;
use sys::worker::{Image, Program};
use ttrpc::Status;

/// What a task says of the streams of one process.
#[derive(Debug, Clone, Default)]
pub(crate) struct Names {
    /// Standard input.
    pub(crate) stdin: String,
    /// Standard output.
    pub(crate) stdout: String,
    /// Standard error.
    pub(crate) stderr: String,
    /// All three are one terminal.
    pub(crate) terminal: bool,
}

/// Where and for whom streams are opened.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Owner<'a> {
    /// The daemon's namespace.
    pub(crate) namespace: &'a str,
    /// The container.
    pub(crate) id: &'a str,
    /// Owner of the pipes.
    pub(crate) uid: u32,
    /// Group of the pipes.
    pub(crate) gid: u32,
}

/// The opened streams of one process.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    /// What the process gets as 0, 1 and 2; `None` when it has a terminal.
    pub(crate) child: Option<[OwnedFd; 3]>,
    /// Where input comes from, and our writing end that keeps it from ending before `CloseIO`.
    pub(crate) input: Option<(OwnedFd, OwnedFd)>,
    /// Where our end of standard input leads.
    pub(crate) stdin: Option<OwnedFd>,
    /// Our end of standard output and where it leads.
    pub(crate) stdout: Option<(Option<OwnedFd>, Sink)>,
    /// Our end of standard error and where it leads.
    pub(crate) stderr: Option<(OwnedFd, Sink)>,
    /// The program that takes the streams.
    pub(crate) logger: Option<LoggerProcess>,
}

/// A program that takes the streams of a process.
#[derive(Debug)]
pub(crate) struct LoggerProcess {
    /// The process.
    pub(crate) pidfd: OwnedFd,
    /// Readable when it is ready.
    pub(crate) ready: Option<OwnedFd>,
    /// It has to write a byte; otherwise closing is enough.
    pub(crate) byte_means_ready: bool,
}

/// Opens the streams that a task names.
pub(crate) fn open(names: &Names, owner: Owner<'_>) -> Result<Streams, Status> {
    let out = parse(&names.stdout)?;
    if let Target::Binary(logger) = &out {
        return with_logger(names, logger, owner);
    }
    let mut streams = Streams::default();
    let (stdout, stderr) = sinks(&out, &names.stderr)?;
    streams.input = input(&names.stdin)?;
    if names.terminal {
        streams.stdout = stdout.map(|sink| (None, sink));
        return Ok(streams);
    }
    let child_in = match &streams.input {
        Some(_) => {
            let (reader, writer) = pipe(owner)?;
            nonblocking(&writer)?;
            streams.stdin = Some(writer);
            reader
        }
        None => null()?,
    };
    let (child_out, ours) = output(stdout, owner)?;
    streams.stdout = ours.map(|(fd, sink)| (Some(fd), sink));
    let (child_err, ours) = output(stderr, owner)?;
    streams.stderr = ours;
    streams.child = Some([child_in, child_out, child_err]);
    Ok(streams)
}

fn parse(uri: &str) -> Result<Target, Status> {
    Target::parse(uri).map_err(|error| Status::from_error(&error))
}

fn failed(act: &str, path: &Path, error: impl std::fmt::Display) -> Status {
    Status::new(
        ErrorKind::Unknown,
        format!("{act} {}: {error}", path.display()),
    )
}

fn plain(act: &str, error: impl std::fmt::Display) -> Status {
    Status::new(ErrorKind::Unknown, format!("{act}: {error}"))
}

fn pipe(owner: Owner<'_>) -> Result<(OwnedFd, OwnedFd), Status> {
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
        .map_err(|error| plain("make a pipe", error))?;
    if owner.uid != 0 || owner.gid != 0 {
        let (user, group) = (
            rustix::fs::Uid::from_raw(owner.uid),
            rustix::fs::Gid::from_raw(owner.gid),
        );
        rustix::fs::fchown(&reader, Some(user), Some(group))
            .and_then(|()| rustix::fs::fchown(&writer, Some(user), Some(group)))
            .map_err(|error| plain("give a pipe to its user", error))?;
    }
    Ok((reader, writer))
}

/// Makes reads and writes of a descriptor of ours return at once.
pub(crate) fn nonblocking(fd: &OwnedFd) -> Result<(), Status> {
    rustix::io::ioctl_fionbio(fd, true).map_err(|error| plain("make a stream non-blocking", error))
}

fn null() -> Result<OwnedFd, Status> {
    let path = Path::new("/dev/null");
    rustix::fs::open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .map_err(|error| failed("open", path, error))
}

fn output(
    sink: Option<Sink>,
    owner: Owner<'_>,
) -> Result<(OwnedFd, Option<(OwnedFd, Sink)>), Status> {
    let Some(sink) = sink else {
        return Ok((null()?, None));
    };
    let (reader, writer) = pipe(owner)?;
    nonblocking(&reader)?;
    Ok((writer, Some((reader, sink))))
}

/// The fifo of standard input, and a writing end of it: input ends only when that is closed (`CloseIO`) and every
/// client has closed its own.
fn input(uri: &str) -> Result<Option<(OwnedFd, OwnedFd)>, Status> {
    let path = match parse(uri)? {
        Target::Path(path) => path,
        Target::Null => return Ok(None),
        _ => {
            return Err(Status::new(
                ErrorKind::InvalidArgument,
                format!("stdin {uri:?} is no fifo"),
            ));
        }
    };
    let flags = OFlags::NONBLOCK | OFlags::CLOEXEC;
    let reader = rustix::fs::open(&path, flags | OFlags::RDONLY, Mode::empty())
        .map_err(|error| failed("open stdin fifo", &path, error))?;
    let writer = rustix::fs::open(&path, flags | OFlags::WRONLY, Mode::empty())
        .map_err(|error| failed("open stdin fifo", &path, error))?;
    Ok(Some((reader, writer)))
}

fn sinks(out: &Target, stderr: &str) -> Result<(Option<Sink>, Option<Sink>), Status> {
    match out {
        Target::File(path) => {
            let file = Rc::new(log_file(path)?);
            Ok((Some(Sink::File(Rc::clone(&file))), Some(Sink::File(file))))
        }
        Target::CriLog(log) => {
            let path = log.path.clone();
            let file =
                LogFile::open(log.clone()).map_err(|error| failed("open log", &path, error))?;
            let limit = file.line_max();
            let file = Rc::new(RefCell::new(file));
            let sink = |stream| Some(Sink::Log(Rc::clone(&file), Lines::new(stream, limit)));
            Ok((sink(Stream::Stdout), sink(Stream::Stderr)))
        }
        Target::Path(_) | Target::Null => Ok((path_sink(out)?, path_sink(&parse(stderr)?)?)),
        Target::Binary(_) => Err(Status::new(ErrorKind::Internal, "a logger is no sink")),
    }
}

fn path_sink(target: &Target) -> Result<Option<Sink>, Status> {
    let path = match target {
        Target::Null => return Ok(None),
        Target::Path(path) => path,
        Target::File(path) => return log_file(path).map(|file| Some(Sink::File(Rc::new(file)))),
        _ => {
            return Err(Status::new(
                ErrorKind::InvalidArgument,
                "stderr must be a path when stdout is one",
            ));
        }
    };
    let kind = rustix::fs::stat(path)
        .map_err(|error| failed("find", path, error))?
        .st_mode;
    let flags = OFlags::NONBLOCK | OFlags::CLOEXEC;
    if FileType::from_raw_mode(kind) == FileType::Fifo {
        // Both ends: no reader is no error, and one may come back later.
        let fd = rustix::fs::open(path, flags | OFlags::RDWR, Mode::empty())
            .map_err(|error| failed("open fifo", path, error))?;
        return Ok(Some(Sink::Stream(fd)));
    }
    let fd = rustix::fs::open(path, flags | OFlags::WRONLY | OFlags::APPEND, Mode::empty())
        .map_err(|error| failed("open", path, error))?;
    Ok(Some(Sink::File(Rc::new(File::from(fd)))))
}

fn log_file(path: &Path) -> Result<File, Status> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(|error| failed("make folder", folder, error))?;
    }
    let flags =
        OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::ROTH;
    rustix::fs::open(path, flags, mode)
        .map(File::from)
        .map_err(|error| failed("open", path, error))
}

fn with_logger(names: &Names, logger: &Logger, owner: Owner<'_>) -> Result<Streams, Status> {
    let mut streams = Streams {
        input: input(&names.stdin)?,
        ..Streams::default()
    };
    let (out_reader, out_writer) = pipe(owner)?;
    let (err_reader, err_writer) = pipe(owner)?;
    let (ready_reader, ready_writer) = pipe(Owner {
        uid: 0,
        gid: 0,
        ..owner
    })?;
    let text =
        |text: &[u8]| CString::new(text).map_err(|error| plain("pass text to a logger", error));
    let mut arguments = vec![text(logger.path.as_os_str().as_bytes())?];
    for argument in &logger.arguments {
        arguments.push(text(argument.as_bytes())?);
    }
    let program = Program {
        image: Image::Path(arguments[0].clone()),
        arguments,
        environment: vec![
            text(format!("CONTAINER_ID={}", owner.id).as_bytes())?,
            text(format!("CONTAINER_NAMESPACE={}", owner.namespace).as_bytes())?,
        ],
        fds: vec![
            null()?,
            null()?,
            null()?,
            out_reader,
            err_reader,
            ready_writer,
        ],
        session: false,
    };
    let pid = sys::worker::start(&program)
        .map_err(|error| failed("start logger", &logger.path, error))?;
    let pidfd =
        sys::pidfd::open(pid).map_err(|error| failed("start logger", &logger.path, error))?;
    streams.logger = Some(LoggerProcess {
        pidfd,
        ready: Some(ready_reader),
        byte_means_ready: logger.byte_means_ready,
    });
    if names.terminal {
        nonblocking(&out_writer)?;
        streams.stdout = Some((None, Sink::Stream(out_writer)));
        return Ok(streams);
    }
    let child_in = match &streams.input {
        Some(_) => {
            let (reader, writer) = pipe(owner)?;
            nonblocking(&writer)?;
            streams.stdin = Some(writer);
            reader
        }
        None => null()?,
    };
    streams.child = Some([child_in, out_writer, err_writer]);
    Ok(streams)
}
