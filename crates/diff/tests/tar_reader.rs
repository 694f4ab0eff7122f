//! The archive reader against arbitrary bytes and against the listings of other readers.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "helpers of tests; skipped tests say so"
)]

use std::process::Command;

use diff::compression::Layer;
use diff::tar::{Entry, Kind, Reader};
use diff::{Error, Limits};
use proptest::prelude::*;

/// Reads all entries and all content.
fn read(bytes: &[u8]) -> Result<Vec<(Entry, u64)>, Error> {
    let mut reader = Reader::new(bytes);
    let mut found = Vec::new();
    while let Some(entry) = reader.next_entry()? {
        let mut content = 0;
        while let Some((at, chunk)) = reader.chunk()? {
            assert!(at + chunk.len() as u64 <= entry.size);
            content += chunk.len() as u64;
        }
        assert!(content <= entry.size);
        found.push((entry, content));
    }
    assert!(reader.offset() <= bytes.len() as u64);
    Ok(found)
}

fn sign(block: &mut [u8]) {
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
}

/// Blocks that pass the checksum, so that what lies behind it is reached.
fn blocks() -> impl Strategy<Value = Vec<u8>> {
    let field = prop_oneof![
        Just(b"0000000\0".to_vec()),
        Just(b"0000031\0".to_vec()),
        proptest::collection::vec(any::<u8>(), 8),
        proptest::collection::vec(b'0'..=b'7', 8),
    ];
    let magic = prop_oneof![
        Just(&b"ustar\x0000"[..]),
        Just(&b"ustar  \0"[..]),
        Just(&b"\0\0\0\0\0\0\0\0"[..])
    ];
    let flag = prop_oneof![
        proptest::sample::select(&b"01234567xgLKS\0Z"[..]),
        any::<u8>(),
    ];
    let body = prop_oneof![
        Just(Vec::new()),
        proptest::collection::vec(any::<u8>(), 512),
        "([0-9]{1,3} (path|size|mtime|GNU.sparse.(map|major|minor|numblocks|offset|numbytes)|SCHILY.xattr.user.a)=[0-9,./a]{0,9}\n){1,9}"
            .prop_map(|text| { let mut body = text.into_bytes(); body.resize(body.len().next_multiple_of(512), 0); body }),
    ];
    let block = (
        field.clone(),
        field,
        magic,
        flag,
        body,
        proptest::collection::vec(any::<u8>(), 512),
    );
    let block = block.prop_map(|(size, mode, magic, flag, body, noise)| {
        let mut block = [0u8; 512];
        block[..10].copy_from_slice(&noise[..10]);
        block[100..108].copy_from_slice(&mode);
        block[124..132].copy_from_slice(&size);
        block[156] = flag;
        block[257..265].copy_from_slice(magic);
        if noise[0] & 1 == 1 {
            block[345..508].copy_from_slice(&noise[345..508]);
        }
        sign(&mut block);
        [&block[..], &body].concat()
    });
    proptest::collection::vec(block, 0..12).prop_map(|blocks| blocks.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..4096)) {
        drop(read(&bytes));
        let layer = Layer::new(&bytes[..], Limits::default());
        drop(layer.finish());
    }

    #[test]
    fn signed_blocks_never_panic(bytes in blocks()) {
        drop(read(&bytes));
    }

    #[test]
    fn damaged_streams_never_panic(
        body in proptest::collection::vec(any::<u8>(), 0..3000),
        at in any::<proptest::sample::Index>(),
        flip in 1u8..,
        gzip in any::<bool>(),
    ) {
        let mut packed = if gzip {
            use std::io::Write;
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(&body).unwrap();
            encoder.finish().unwrap()
        } else {
            zstd::encode_all(&body[..], 1).unwrap()
        };
        let at = at.index(packed.len());
        packed[at] ^= flip;
        drop(Layer::new(&packed[..], Limits::default()).finish());
        let cut = Layer::new(&packed[..at], Limits::default()).finish();
        if at > 6 && cut.is_ok() {
            // Only a damaged magic turns the rest into plain bytes.
            prop_assert!(at < packed.len());
        }
    }
}

/// Python writes, Python lists, we list: names, kinds, sizes and links are the same.
#[test]
fn same_listing_as_python() {
    let Ok(probe) = Command::new("python3").args(["-c", ""]).status() else {
        eprintln!("SKIPPED: comparing listings needs python3");
        return;
    };
    assert!(probe.success());
    let dir = tempfile::tempdir().unwrap();
    for seed in 0..30 {
        let path = dir.path().join("a.tar");
        let output = Command::new("python3")
            .args(["-c", PYTHON, path.to_str().unwrap(), &seed.to_string()])
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let theirs = String::from_utf8(output.stdout).unwrap();
        let ours: String = read(&std::fs::read(&path).unwrap())
            .unwrap()
            .iter()
            .map(|(entry, content)| line(entry, *content))
            .collect();
        assert_eq!(ours, theirs, "seed {seed}");
    }
}

fn line(entry: &Entry, content: u64) -> String {
    let kind = match entry.kind {
        Kind::Regular => '0',
        Kind::HardLink => '1',
        Kind::Symlink => '2',
        Kind::Char => '3',
        Kind::Block => '4',
        Kind::Directory => '5',
        Kind::Fifo => '6',
    };
    let path = String::from_utf8_lossy(&entry.path)
        .trim_end_matches('/')
        .to_owned();
    let link = String::from_utf8_lossy(&entry.link).into_owned();
    format!(
        "{path}|{kind}|{content}|{link}|{:o}|{}|{}|{}|{}:{}\n",
        entry.mode, entry.uid, entry.gid, entry.mtime.seconds, entry.major, entry.minor
    )
}

const PYTHON: &str = r#"
import io, random, sys, tarfile
out, seed = sys.argv[1], int(sys.argv[2])
r = random.Random(seed)
f = r.choice([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
big = f != tarfile.USTAR_FORMAT
t = tarfile.open(out, "w", format=f)
for n in range(60):
    parts = ["".join(r.choice("abz._- \u00e4" if big else "abz._-") for _ in range(r.choice([1, 8, 90 if big else 20]))).strip() or "q" for _ in range(r.randint(1, 6 if big else 3))]
    i = tarfile.TarInfo(("/".join(parts))[: (4000 if big else 95)].rstrip("/") + str(n))
    i.type = r.choice([tarfile.REGTYPE] * 5 + [tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
    data = b""
    if i.type == tarfile.REGTYPE: data = bytes(r.getrandbits(8) for _ in range(r.choice([0, 1, 511, 512, 513, 3000])))
    if i.type in (tarfile.SYMTYPE, tarfile.LNKTYPE): i.linkname = "t" * r.choice([1, 99, 300 if big else 50])
    if i.type == tarfile.CHRTYPE: i.devmajor, i.devminor = r.randint(0, 4000), r.randint(0, 200000)
    i.size = len(data); i.mode = r.randint(0, 0o7777)
    i.uid = r.choice([0, 1000, 2097151] + ([2097152, 4294967294] if big else [])); i.gid = r.choice([0, 5, 100000])
    i.mtime = r.choice([0, 1, 1500000000, 8589934591] + ([8589934592] if big else []))
    if f == tarfile.PAX_FORMAT and r.random() < .3: i.pax_headers = {"SCHILY.xattr.user.a": "x" * r.randint(0, 300), "comment": "\u00e4=\n"}
    t.addfile(i, io.BytesIO(data))
t.close()
for i in tarfile.open(out):
    c = i.size if i.isreg() else 0
    print("|".join([i.name, i.type.decode(), str(c), i.linkname, "%o" % i.mode, str(i.uid), str(i.gid), str(int(i.mtime)), f"{i.devmajor}:{i.devminor}" if i.ischr() else "0:0"]))
"#;
