//! Layers to file systems and back.
