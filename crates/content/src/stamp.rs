//! The time files of an ingest: RFC 3339 with nanoseconds, as containerd reads and writes them.

use std::time::SystemTime;

use model::Timestamp;

/// Longest time file, in bytes.
pub(crate) const STAMP_BYTES_MAX: usize = 64;

pub(crate) fn write(time: Timestamp) -> String {
    time.to_string()
}

/// Reads a time with any offset from UTC, as a Go program on another host's zone has written it.
pub(crate) fn read(text: &str) -> Option<Timestamp> {
    text.parse().ok()
}

pub(crate) fn of_system(time: SystemTime) -> Timestamp {
    Timestamp::try_from(time).unwrap_or(Timestamp::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_go_programs_are_read() {
        for (text, expected) in [
            ("2026-01-02T03:04:05Z", "2026-01-02T03:04:05Z"),
            (
                "2026-01-02T03:04:05.000000006Z",
                "2026-01-02T03:04:05.000000006Z",
            ),
            ("2026-01-02T03:04:05.1+02:00", "2026-01-02T01:04:05.1Z"),
        ] {
            assert_eq!(write(read(text).unwrap()), expected);
        }
        for bad in ["", "yesterday", "2026-01-02", "2026-01-02T03:04:05"] {
            assert!(read(bad).is_none(), "{bad}");
        }
    }
}
