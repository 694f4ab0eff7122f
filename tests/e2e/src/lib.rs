//! The programs, from outside: see `tests/`.
