//! Starts, finds and talks to shims; exits become events.
