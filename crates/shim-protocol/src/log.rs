//! The log lines that CRI prescribes: `<RFC 3339 time> <stdout|stderr> <F|P> <content>\n`.
//!
//! A line longer than the limit is cut: all its pieces but the last are marked `P`
//! (Kubernetes, design proposal "CRI: log management").

use model::Timestamp;

/// Longest content of one log line in bytes unless the daemon says otherwise.
pub const LINE_BYTES_MAX: usize = 16 << 10;

/// Where a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output, or a terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    /// The word in the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// Cuts what a process writes into log lines; holds at most one unfinished line.
#[derive(Debug)]
pub struct Lines {
    stream: Stream,
    limit: usize,
    held: Vec<u8>,
}

impl Lines {
    /// For one stream of one process; `limit` is the longest content of a line in bytes, at least 1.
    pub fn new(stream: Stream, limit: usize) -> Self {
        Self {
            stream,
            limit: limit.max(1),
            held: Vec::new(),
        }
    }

    /// Takes what the process wrote and appends the lines that are complete now to `out`.
    pub fn push(&mut self, mut bytes: &[u8], now: Timestamp, out: &mut Vec<u8>) {
        while !bytes.is_empty() {
            let room = self.limit - self.held.len();
            let window = &bytes[..bytes.len().min(room + 1)];
            if let Some(end) = window.iter().position(|byte| *byte == b'\n') {
                self.emit(&bytes[..end], "F", now, out);
                bytes = &bytes[end + 1..];
            } else if bytes.len() > room {
                self.emit(&bytes[..room], "P", now, out);
                bytes = &bytes[room..];
            } else {
                self.held.extend_from_slice(bytes);
                return;
            }
        }
    }

    /// The stream ended: an unfinished line becomes a whole one.
    pub fn finish(&mut self, now: Timestamp, out: &mut Vec<u8>) {
        if !self.held.is_empty() {
            self.emit(&[], "F", now, out);
        }
    }

    fn emit(&mut self, rest: &[u8], tag: &str, now: Timestamp, out: &mut Vec<u8>) {
        let prefix = format!("{now} {} {tag} ", self.stream.as_str());
        out.extend_from_slice(prefix.as_bytes());
        out.extend_from_slice(&self.held);
        out.extend_from_slice(rest);
        out.push(b'\n');
        // An idle container costs no buffer.
        self.held = Vec::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: &str = "2024-05-01T10:00:00.123456789Z";

    fn lines(limit: usize, pieces: &[&[u8]]) -> String {
        let mut lines = Lines::new(Stream::Stdout, limit);
        let mut out = Vec::new();
        for piece in pieces {
            lines.push(piece, NOW.parse().unwrap(), &mut out);
        }
        lines.finish(NOW.parse().unwrap(), &mut out);
        String::from_utf8(out).unwrap().replace(NOW, "T")
    }

    #[test]
    fn lines_are_cut_at_the_limit() {
        for (limit, pieces, expected) in [
            (9, vec!["a\nb"], "T stdout F a\nT stdout F b\n"),
            (3, vec!["abc\n"], "T stdout F abc\n"),
            (3, vec!["abcd\n"], "T stdout P abc\nT stdout F d\n"),
            (
                3,
                vec!["ab", "cdefg", "\n"],
                "T stdout P abc\nT stdout P def\nT stdout F g\n",
            ),
            (3, vec!["\n\n"], "T stdout F \nT stdout F \n"),
            (3, vec![], ""),
        ] {
            let pieces: Vec<_> = pieces.iter().map(|piece| piece.as_bytes()).collect();
            assert_eq!(lines(limit, &pieces), expected);
        }
    }

    proptest! {
        #[test]
        fn content_is_kept(text in "[a-c\n]{0,60}", limit in 1usize..9, cut in 1usize..7) {
            let pieces: Vec<_> = text.as_bytes().chunks(cut).collect();
            let log = lines(limit, &pieces);
            let mut back = String::new();
            for line in log.lines() {
                let (tag, content) = line.strip_prefix("T stdout ").unwrap().split_once(' ').unwrap();
                prop_assert!(content.len() <= limit);
                back.push_str(content);
                if tag == "F" {
                    back.push('\n');
                }
            }
            let mut expected = text.clone();
            if !expected.is_empty() && !expected.ends_with('\n') {
                expected.push('\n');
            }
            prop_assert_eq!(back, expected);
        }
    }
}
