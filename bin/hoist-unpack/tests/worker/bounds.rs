//! Bombs, cut streams, malformed headers, cancellation and dead workers.

use std::io::Write;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use diff::{ApplyRequest, Durability, Error, Limits, Target};
use model::{ErrorKind, Kinded};
use sha2::{Digest, Sha256};

use super::archive::{Archive, Head, gzip};
use super::stage::{Stage, apply, is_root, open, unpacker};

fn kind(stage: &Stage, bytes: &[u8], limits: Limits) -> Option<ErrorKind> {
    let target = Target::Plain {
        root: open(&stage.target()),
    };
    let outcome = apply(&unpacker().session().unwrap(), target, bytes, limits);
    outcome.err().map(|error| {
        assert!(!matches!(error, Error::Died { .. }), "{error}");
        error.kind()
    })
}

#[test]
fn a_bomb_ends_at_the_ratio() {
    if !is_root() {
        return;
    }
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    let size = 1u64 << 30;
    let head = Archive::default()
        .head(&Head {
            name: b"zeros",
            size,
            ..Head::default()
        })
        .end();
    encoder.write_all(&head[..512]).unwrap();
    let block = vec![0u8; 1 << 20];
    for _ in 0..=1024 {
        encoder.write_all(&block).unwrap();
    }
    let bomb = encoder.finish().unwrap();
    assert!(bomb.len() < 2 << 20);
    let stage = Stage::new();
    let limits = Limits {
        ratio_free_bytes: 32 << 20,
        ..Limits::default()
    };
    assert_eq!(
        kind(&stage, &bomb, limits),
        Some(ErrorKind::ResourceExhausted)
    );
    let limits = Limits {
        tar_bytes: 16 << 20,
        ..Limits::default()
    };
    let zstd = zstd::encode_all(&vec![0u8; 64 << 20][..], 3).unwrap();
    let zstd = [&zstd::encode_all(&head[..512], 3).unwrap()[..], &zstd].concat();
    assert_eq!(
        kind(&stage, &zstd, limits),
        Some(ErrorKind::ResourceExhausted)
    );
    let written = std::fs::metadata(stage.target().join("zeros"))
        .unwrap()
        .len();
    assert!(written <= 1 << 29, "{written}");
}

#[test]
fn padding_without_end_is_bounded() {
    if !is_root() {
        return;
    }
    let limits = Limits {
        tar_bytes: 8 << 20,
        ..Limits::default()
    };
    let endless = vec![0u8; 16 << 20];
    assert_eq!(
        kind(&Stage::new(), &endless, limits),
        Some(ErrorKind::ResourceExhausted)
    );
    assert_eq!(
        kind(&Stage::new(), &gzip(&endless), limits),
        Some(ErrorKind::ResourceExhausted)
    );
    let entries = Limits {
        entries: 2,
        ..Limits::default()
    };
    let three = Archive::default()
        .file("a", b"")
        .file("b", b"")
        .file("c", b"")
        .end();
    assert_eq!(
        kind(&Stage::new(), &three, entries),
        Some(ErrorKind::ResourceExhausted)
    );
    assert_eq!(
        kind(
            &Stage::new(),
            &three,
            Limits {
                entries: 3,
                ..entries
            }
        ),
        None
    );
}

#[test]
fn a_stream_cut_anywhere_is_an_error() {
    if !is_root() {
        return;
    }
    let mut noise = vec![0u8; 3000];
    for (at, byte) in noise.iter_mut().enumerate() {
        *byte = ((at * at) >> 3) as u8;
    }
    let tar = Archive::default()
        .dir("d", 0o755)
        .file("d/noise", &noise)
        .end();
    let stage = Stage::new();
    for whole in [gzip(&tar), zstd::encode_all(&tar[..], 3).unwrap()] {
        let step = (whole.len() / 40).max(1);
        for cut in (1..whole.len()).step_by(step).chain([whole.len() - 1]) {
            let start = Instant::now();
            // A few first bytes name no format, so they are a plain archive that is cut.
            let kind = kind(&stage, &whole[..cut], Limits::default());
            assert_eq!(kind, Some(ErrorKind::InvalidArgument), "{cut}");
            assert!(start.elapsed() < Duration::from_secs(1));
        }
    }
    let cut = kind(&stage, &tar[..tar.len() - 2048], Limits::default());
    assert_eq!(cut, Some(ErrorKind::InvalidArgument));
}

#[test]
fn members_frames_and_trailing_bytes_are_read_to_the_end() {
    if !is_root() {
        return;
    }
    let tar = Archive::default().file("a", b"one").file("b", b"two").end();
    let skippable = [0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 9, 9, 9];
    let (front, back) = tar.split_at(700);
    let zstd = |bytes: &[u8]| zstd::encode_all(bytes, 3).unwrap();
    for layer in [
        tar.clone(),
        [gzip(front), gzip(back)].concat(),
        [
            gzip(front),
            gzip(&[]),
            gzip(back),
            b"garbage behind".to_vec(),
        ]
        .concat(),
        [
            &skippable[..],
            &zstd(front),
            &skippable,
            &zstd(back),
            &skippable,
        ]
        .concat(),
        [zstd(&tar), vec![0; 300_000]].concat(),
    ] {
        let stage = Stage::new();
        let applied = stage.plain(&layer).unwrap();
        let sha = |bytes: &[u8]| model::Digest::from_sha256(Sha256::digest(bytes).into());
        assert_eq!(applied.layer_digest, sha(&layer));
        assert_eq!(
            (applied.diff_id, applied.tar_size),
            (sha(&tar), tar.len() as u64)
        );
        assert_eq!(applied.layer_size, layer.len() as u64);
        assert_eq!(stage.read("b").unwrap(), b"two");
    }
    let empty = Stage::new().plain(&[]).unwrap();
    assert_eq!((empty.tar_size, empty.entries), (0, 0));
}

#[test]
fn malformed_headers_refuse_the_layer() {
    if !is_root() {
        return;
    }
    let new = Archive::default;
    let smuggled = new().file("smuggled", b"s").end();
    let long = vec![b'a'; 5000];
    let huge = vec![b'a'; (1 << 20) + 1];
    let cases: Vec<(&str, Vec<u8>)> = vec![
        (
            "malformed pax",
            new().special(b'x', b"5 x\n").file("a", b"").end(),
        ),
        (
            "pax of garbage",
            new().special(b'x', b"\0\0\0\0").file("a", b"").end(),
        ),
        (
            "empty long name",
            new().special(b'L', b"\0").file("a", b"").end(),
        ),
        ("pax without an entry", new().pax(&[("path", b"a")]).end()),
        (
            "pax of more than 1 MiB",
            new().pax(&[("comment", &huge)]).file("a", b"").end(),
        ),
        (
            "long path",
            new().pax(&[("path", &long)]).file("a", b"").end(),
        ),
        (
            "long component",
            new().pax(&[("path", &long[..256])]).file("a", b"").end(),
        ),
        (
            "two long names",
            new()
                .pax(&[("path", b"a")])
                .special(b'L', b"b\0")
                .file("c", b"")
                .end(),
        ),
        (
            "negative size",
            new().pax(&[("size", b"-1")]).file("a", b"").end(),
        ),
        (
            "size not a number",
            new().pax(&[("size", b"1x")]).file("a", b"").end(),
        ),
        (
            "global path",
            new().special(b'g', b"9 path=b\n").file("a", b"").end(),
        ),
        (
            "owner out of range",
            new().pax(&[("uid", b"4294967295")]).file("a", b"").end(),
        ),
        (
            "unknown type",
            new()
                .head(&Head {
                    name: b"a",
                    flag: b'Z',
                    ..Head::default()
                })
                .end(),
        ),
        ("link without target", new().symlink("a", "").end()),
        ("missing hard link", new().hardlink("a", "b").end()),
        (
            "hard link to a folder",
            new().dir("d", 0o755).hardlink("a", "d").end(),
        ),
        (
            "lone zero block",
            [&[0; 512][..], &new().file("a", b"").end()].concat(),
        ),
        ("bad checksum", {
            let mut bytes = new().file("a", b"").end();
            bytes[0] = b'b';
            bytes
        }),
        (
            "sparse map too long",
            new()
                .pax(&[("GNU.sparse.major", b"1"), ("GNU.sparse.minor", b"0")])
                .file("a", b"99999999\n")
                .end(),
        ),
        (
            "sparse map overlaps",
            new()
                .pax(&[
                    ("GNU.sparse.numblocks", b"2"),
                    ("GNU.sparse.size", b"9"),
                    ("GNU.sparse.map", b"0,2,1,2"),
                ])
                .file("a", b"abcd")
                .end(),
        ),
        (
            "many headers",
            (0..40)
                .fold(new(), |archive, _| archive.special(b'L', b"n\0"))
                .file("a", b"")
                .end(),
        ),
    ];
    for (name, layer) in cases {
        let stage = Stage::new();
        assert!(kind(&stage, &layer, Limits::default()).is_some(), "{name}");
        assert!(stage.read("smuggled").is_none());
    }
    // CVE-2025-62518: the size of the extended header counts, so the inner archive stays content.
    let length = smuggled.len().to_string();
    let outer = Archive::default()
        .pax(&[("size", length.as_bytes())])
        .head(&Head {
            name: b"inner.tar",
            size: 0,
            ..Head::default()
        })
        .body(&smuggled)
        .end();
    let stage = Stage::new();
    assert_eq!(kind(&stage, &outer, Limits::default()), None);
    assert_eq!(stage.read("inner.tar").unwrap(), smuggled);
    assert!(stage.read("smuggled").is_none());
}

#[test]
fn a_session_can_be_canceled_and_a_silent_layer_stalls() {
    if !is_root() {
        return;
    }
    let stage = Stage::new();
    let session = unpacker().session().unwrap();
    let canceller = session.canceller();
    let request = |layer| ApplyRequest {
        layer,
        target: Target::Plain {
            root: open(&stage.target()),
        },
        limits: Limits::default(),
        durability: Durability::None,
        skip_devices: false,
        progress: None,
    };
    let (silent, _writer) = rustix::pipe::pipe().unwrap();
    let thread = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(100));
        canceller.cancel();
    });
    assert!(matches!(
        session.apply(request(silent)),
        Err(Error::Canceled)
    ));
    thread.join().unwrap();
    let (silent, _writer2) = rustix::pipe::pipe().unwrap();
    assert!(matches!(
        session.apply(request(silent)),
        Err(Error::Canceled)
    ));
    let impatient = unpacker().clone().stall_timeout(Duration::from_millis(200));
    let (silent, writer) = rustix::pipe::pipe().unwrap();
    let error = impatient
        .session()
        .unwrap()
        .apply(request(silent))
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded, "{error}");
    drop(writer.as_fd().try_clone_to_owned());
    let children = std::fs::read_to_string("/proc/thread-self/children").unwrap_or_default();
    assert_eq!(children.trim(), "", "no zombie is left");
}

#[test]
fn a_program_that_is_no_worker_is_told_with_its_end() {
    if !is_root() {
        return;
    }
    let stage = Stage::new();
    for (program, words) in [
        ("/bin/false", "exit status 1"),
        ("/bin/true", "exit status 0"),
    ] {
        let unpacker = diff::Unpacker::from_path(program.as_ref()).unwrap();
        let target = Target::Plain {
            root: open(&stage.target()),
        };
        let error =
            apply(&unpacker.session().unwrap(), target, b"", Limits::default()).unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
    }
}
