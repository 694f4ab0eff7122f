//! What `/proc` tells of a process.

use std::fs;
use std::io;

/// State and start time of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// The state letter, such as `R` or `Z`.
    pub state: char,
    /// Clock ticks after boot at which it started: with the process id, unique.
    pub start_ticks: u64,
}

impl Stat {
    /// Whether the process has ended and only waits to be reaped.
    pub fn ended(self) -> bool {
        matches!(self.state, 'Z' | 'X' | 'x')
    }
}

/// Reads `/proc/<pid>/stat`.
pub fn stat(pid: i32) -> io::Result<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    parse(&text).ok_or_else(|| io::Error::other(format!("/proc/{pid}/stat has an unknown form")))
}

fn parse(text: &str) -> Option<Stat> {
    // The name may hold blanks and brackets; the last bracket ends it.
    let (_, rest) = text.rsplit_once(") ")?;
    let mut words = rest.split(' ');
    let state = words.next()?.chars().next()?;
    let start_ticks = words.nth(18)?.parse().ok()?;
    Some(Stat { state, start_ticks })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_is_skipped() {
        let text = "7 (a) R (b)) S 1 7 7 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 1 0 4242 8192 100";
        assert_eq!(
            parse(text),
            Some(Stat {
                state: 'S',
                start_ticks: 4242
            })
        );
    }

    #[test]
    fn this_process_is_found() {
        let own = stat(std::process::id() as i32).unwrap();
        assert!(!own.ended() && own.start_ticks > 0);
    }
}
