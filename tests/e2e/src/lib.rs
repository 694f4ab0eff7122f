//! The programs, from outside.
