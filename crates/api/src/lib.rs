//! gRPC services over `proto`, and the conversions between the wire and `model`.
