//! Image config and options to a runtime specification; pure.
