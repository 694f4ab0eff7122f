//! Our own terminal while a container has it: raw mode, its size, and the keys to detach.

use std::io::{self, IsTerminal};
use std::os::fd::AsFd;

use rustix::termios::{self, OptionalActions, Termios, Winsize};

/// The keys that detach: Ctrl-P, then Ctrl-Q.
const DETACH_KEYS: [u8; 2] = [0x10, 0x11];

/// Standard input in raw mode; as before when dropped.
#[derive(Debug)]
pub(crate) struct Raw {
    before: Termios,
}

impl Raw {
    /// Switches the terminal over. Fails when standard input is none.
    pub(crate) fn enter() -> io::Result<Self> {
        let stdin = io::stdin();
        if !stdin.is_terminal() {
            return Err(io::Error::other(
                "standard input is not a terminal: leave -t away, or run from one",
            ));
        }
        let before = termios::tcgetattr(stdin.as_fd())?;
        let mut raw = before.clone();
        raw.make_raw();
        termios::tcsetattr(stdin.as_fd(), OptionalActions::Now, &raw)?;
        Ok(Self { before })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // The terminal may be gone with its window; there is nobody to tell.
        let _gone = termios::tcsetattr(io::stdin().as_fd(), OptionalActions::Drain, &self.before);
    }
}

/// Columns and rows of our terminal, if we have one.
pub(crate) fn size() -> Option<(u32, u32)> {
    let Winsize { ws_col, ws_row, .. } = termios::tcgetwinsize(io::stdout().as_fd()).ok()?;
    (ws_col > 0 && ws_row > 0).then_some((u32::from(ws_col), u32::from(ws_row)))
}

/// Watches input for the detach keys.
#[derive(Debug, Default)]
pub(crate) struct Detach {
    seen: usize,
}

/// What became of a piece of input.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Input {
    /// Pass these bytes on.
    Pass(Vec<u8>),
    /// Pass these on, then detach.
    Detached(Vec<u8>),
}

impl Detach {
    /// Takes the detach keys out of the input.
    pub(crate) fn filter(&mut self, bytes: &[u8]) -> Input {
        let mut pass = Vec::with_capacity(bytes.len() + 1);
        for byte in bytes {
            if *byte == DETACH_KEYS[self.seen] {
                self.seen += 1;
                if self.seen == DETACH_KEYS.len() {
                    self.seen = 0;
                    return Input::Detached(pass);
                }
                continue;
            }
            pass.extend_from_slice(&DETACH_KEYS[..self.seen]);
            self.seen = usize::from(*byte == DETACH_KEYS[0]);
            if self.seen == 0 {
                pass.push(*byte);
            }
        }
        Input::Pass(pass)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_sequence_detaches() {
        let mut detach = Detach::default();
        assert_eq!(detach.filter(b"ls\x10x"), Input::Pass(b"ls\x10x".to_vec()));
        assert_eq!(detach.filter(b"a\x10"), Input::Pass(b"a".to_vec()));
        assert_eq!(detach.filter(b"\x11b"), Input::Detached(Vec::new()));
        assert_eq!(
            detach.filter(b"\x10\x10\x11"),
            Input::Detached(b"\x10".to_vec())
        );
    }
}
