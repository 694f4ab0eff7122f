//! One thin file per gRPC service: decode, one call, encode, map the error.
