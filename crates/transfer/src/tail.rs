//! Reading a file behind the one who writes it.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use std::io::{PipeReader, PipeWriter};

use tokio::sync::watch;

use crate::Error;

/// Bytes moved at once.
const CHUNK_BYTES: usize = 256 << 10;

/// How far a file is written, shared by its writer and its reader.
#[derive(Debug, Clone, Default)]
pub(crate) struct Mark(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    /// There is something to read, or never will be.
    begun: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct State {
    file: Option<Arc<File>>,
    end: u64,
    phase: Phase,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Phase {
    #[default]
    Growing,
    /// Every byte is there and has the promised digest.
    Done,
    /// What was read may be wrong, and no more will come.
    Failed,
}

/// The writer's side; dropped before it is done it fails the readers.
#[derive(Debug)]
pub(crate) struct Writer(Mark);

impl Mark {
    pub(crate) fn new() -> (Writer, Self) {
        let mark = Self::default();
        (Writer(mark.clone()), mark)
    }

    /// A file that is whole.
    pub(crate) fn whole(file: File, size: u64) -> Self {
        let (writer, mark) = Self::new();
        writer.begin(file, size);
        writer.done();
        mark
    }

    /// Waits until there may be something to read. Cancel-safe.
    pub(crate) async fn begun(&self) {
        let mut begun = self.0.begun.subscribe();
        // The sender lives as long as we do.
        drop(begun.wait_for(|begun| *begun).await);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.0.changed.notify_all();
    }

    /// Waits for bytes after `from`: the file and how far it goes, `None` at the end. Blocks.
    fn wait(&self, from: u64) -> Result<Option<(Arc<File>, u64)>, Error> {
        let mut state = self.lock();
        loop {
            match (&state.file, state.phase) {
                (_, Phase::Failed) => {
                    return Err(Error::Canceled {
                        target: "a layer whose download failed".into(),
                    });
                }
                (Some(file), _) if state.end > from => return Ok(Some((file.clone(), state.end))),
                (_, Phase::Done) => return Ok(None),
                _ => {
                    state = self
                        .0
                        .changed
                        .wait(state)
                        .unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }

    /// Copies everything into the pipe as it comes, and ends when all is there. Blocks.
    ///
    /// A reader that went away is no failure of ours: it says itself why.
    pub(crate) fn feed(&self, mut pipe: PipeWriter) -> Result<(), Error> {
        let mut buffer = vec![0; CHUNK_BYTES];
        let mut at = 0;
        while let Some((file, end)) = self.wait(at)? {
            while at < end {
                let most = usize::try_from(end - at)
                    .unwrap_or(CHUNK_BYTES)
                    .min(CHUNK_BYTES);
                let read = file
                    .read_at(&mut buffer[..most], at)
                    .map_err(|source| Error::Io {
                        act: "read an ingest behind its writer",
                        source,
                    })?;
                if read == 0 {
                    // It was cut: the writer starts over.
                    return Err(Error::Canceled {
                        target: "a layer whose download starts over".into(),
                    });
                }
                if pipe.write_all(&buffer[..read]).is_err() {
                    return Ok(());
                }
                at += read as u64;
            }
        }
        Ok(())
    }
}

impl Writer {
    /// Names the file and how far it goes already.
    pub(crate) fn begin(&self, file: File, end: u64) {
        self.0.change(|state| {
            state.file = Some(Arc::new(file));
            state.end = end;
        });
        self.0.0.begun.send_replace(true);
    }

    pub(crate) fn advance(&self, end: u64) {
        self.0.change(|state| state.end = end);
    }

    /// All bytes are there and verified. Who read spoiled bytes before still has to begin again.
    pub(crate) fn done(self) {
        self.0.change(|state| {
            if state.phase == Phase::Growing {
                state.phase = Phase::Done;
            }
        });
    }

    /// What was written so far was wrong; readers must begin again once all is there.
    pub(crate) fn spoil(&self) {
        self.0.change(|state| state.phase = Phase::Failed);
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.0.change(|state| {
            if state.phase == Phase::Growing {
                state.phase = Phase::Failed;
            }
        });
        self.0.0.begun.send_replace(true);
    }
}

/// A pipe with room for some chunks.
pub(crate) fn pipe() -> Result<(PipeReader, PipeWriter), Error> {
    let (reader, writer) = std::io::pipe().map_err(|source| Error::Io {
        act: "make a pipe",
        source,
    })?;
    // More room only saves switches; a user over its quota keeps the usual 64 KiB.
    let _ = rustix::pipe::fcntl_setpipe_size(&writer, 1 << 20);
    Ok((reader, writer))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    #[test]
    fn readers_follow_the_writer_to_the_end() {
        let mut file = tempfile::tempfile().unwrap();
        let (writer, mark) = Mark::new();
        let (mut reader, pipe) = pipe().unwrap();
        let feeder = std::thread::spawn(move || mark.feed(pipe));
        file.write_all(b"one").unwrap();
        writer.begin(file.try_clone().unwrap(), 3);
        let mut three = [0; 3];
        reader.read_exact(&mut three).unwrap();
        file.write_all(b"two").unwrap();
        writer.advance(6);
        writer.done();
        let mut rest = String::new();
        reader.read_to_string(&mut rest).unwrap();
        assert_eq!((three, rest.as_str()), (*b"one", "two"));
        feeder.join().unwrap().unwrap();
    }

    #[test]
    fn a_lost_writer_is_no_end() {
        let (writer, mark) = Mark::new();
        let (_reader, pipe) = pipe().unwrap();
        let feeder = std::thread::spawn(move || mark.feed(pipe));
        drop(writer);
        assert!(feeder.join().unwrap().is_err());
    }
}
