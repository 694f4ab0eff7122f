//! The OCI image and runtime specifications as values that keep unknown fields.
