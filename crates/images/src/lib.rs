//! Reading an image: index, manifest, config, platform, children.
