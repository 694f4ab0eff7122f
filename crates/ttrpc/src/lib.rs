//! The ttrpc protocol: a codec without IO, and drivers for a synchronous loop and for tokio.
