//! A target with a sentinel tree beside it that no layer may touch.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Seek, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use diff::{Applied, ApplyRequest, Durability, Error, Limits, Session, Target, Unpacker};

/// False, with a word about it, where the rights for these tests are missing.
pub(crate) fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("SKIPPED: applying layers through the worker needs root");
    }
    root
}

pub(crate) fn unpacker() -> &'static Unpacker {
    static UNPACKER: OnceLock<Unpacker> = OnceLock::new();
    UNPACKER
        .get_or_init(|| Unpacker::from_path(Path::new(env!("CARGO_BIN_EXE_hoist-unpack"))).unwrap())
}

/// Folders of one test: `target`, and `outside` with things to attack.
#[derive(Debug)]
pub(crate) struct Stage {
    dir: tempfile::TempDir,
    before: BTreeMap<PathBuf, String>,
}

impl Stage {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let outside = dir.path().join("outside");
        std::fs::create_dir_all(outside.join("folder")).unwrap();
        std::fs::write(outside.join("secret"), b"unbroken").unwrap();
        std::fs::write(outside.join("folder/file"), b"unbroken").unwrap();
        std::fs::set_permissions(outside.join("secret"), PermissionsExt::from_mode(0o400)).unwrap();
        std::fs::create_dir(dir.path().join("target")).unwrap();
        let before = photograph(&outside);
        Self { dir, before }
    }

    pub(crate) fn target(&self) -> PathBuf {
        self.dir.path().join("target")
    }

    pub(crate) fn outside(&self) -> String {
        self.dir.path().join("outside").to_str().unwrap().to_owned()
    }

    /// A further folder of the test.
    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    pub(crate) fn plain(&self, layer: &[u8]) -> Result<Applied, Error> {
        let root = open(&self.target());
        apply(
            &unpacker().session().unwrap(),
            Target::Plain { root },
            layer,
            Limits::default(),
        )
    }

    /// The tree outside is as it was, down to inode and times.
    pub(crate) fn assert_untouched(&self) {
        assert_eq!(photograph(Path::new(&self.outside())), self.before);
    }

    pub(crate) fn read(&self, path: &str) -> Option<Vec<u8>> {
        std::fs::read(self.target().join(path)).ok()
    }
}

pub(crate) fn open(path: &Path) -> OwnedFd {
    File::open(path).unwrap().into()
}

pub(crate) fn layer(bytes: &[u8]) -> OwnedFd {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file.rewind().unwrap();
    file.into()
}

pub(crate) fn apply(
    session: &Session,
    target: Target,
    bytes: &[u8],
    limits: Limits,
) -> Result<Applied, Error> {
    session.apply(ApplyRequest {
        layer: layer(bytes),
        target,
        limits,
        durability: Durability::None,
        skip_devices: false,
        progress: None,
    })
}

/// Every entry with what an attack could change.
pub(crate) fn photograph(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut todo = vec![root.to_owned()];
    while let Some(path) = todo.pop() {
        let meta = std::fs::symlink_metadata(&path).unwrap();
        let content = if meta.is_file() {
            String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned()
        } else if meta.is_dir() {
            todo.extend(
                std::fs::read_dir(&path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
            String::new()
        } else {
            format!("{:?}", std::fs::read_link(&path).ok())
        };
        let words = format!(
            "{:o} {}:{} {} {}.{} {} {content}",
            meta.mode(),
            meta.uid(),
            meta.gid(),
            meta.ino(),
            meta.mtime(),
            meta.mtime_nsec(),
            meta.ctime(),
        );
        found.insert(path, words);
    }
    found
}
