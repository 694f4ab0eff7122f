//! What a server of ours answers to calls that it does not know, byte by byte.
//!
//! A path without its leading slash is in here because a server in another language took such a path past its
//! checks and then dispatched it.

use std::time::Duration;

use api::containerd::services::version::v1::version_server::{Version, VersionServer};
use proto::containerd::services::version::v1::VersionResponse;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tonic::transport::Server;
use tonic::{Request, Response, Status};

struct Fixed;

#[tonic::async_trait]
impl Version for Fixed {
    async fn version(&self, _: Request<()>) -> Result<Response<VersionResponse>, Status> {
        Ok(Response::new(VersionResponse {
            version: "1.2.3".into(),
            revision: String::new(),
        }))
    }
}

/// What came back on the stream of the call.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    /// The value of `grpc-status`, in HPACK's form.
    Headers(Vec<u8>),
    /// HTTP/2's code of a reset.
    Reset(u32),
}

const FRAME_DATA: u8 = 0;
const FRAME_HEADERS: u8 = 1;
const FRAME_RESET: u8 = 3;
const FRAME_SETTINGS: u8 = 4;
const FLAG_END_STREAM: u8 = 1;
const FLAG_END_HEADERS: u8 = 4;
/// RFC 9113, section 7.
const PROTOCOL_ERROR: u32 = 1;
/// `12` (Unimplemented) and `0` (OK) as HPACK strings with Huffman coding (RFC 7541, appendix B).
const STATUS_UNIMPLEMENTED: [u8; 3] = [0x82, 0x08, 0xbf];
const STATUS_OK: [u8; 2] = [0x81, 0x07];

#[tokio::test]
async fn a_known_path_is_dispatched() {
    let Answer::Headers(block) = call("/containerd.services.version.v1.Version/Version").await
    else {
        panic!("reset");
    };
    assert!(contains(&block, &STATUS_OK), "{block:02x?}");
}

#[tokio::test]
async fn unknown_paths_are_unimplemented() {
    for path in [
        "/containerd.services.version.v1.Version/Nothing",
        "/containerd.services.nothing.v1.Nothing/Get",
        "//containerd.services.version.v1.Version/Version",
        "/containerd.services.version.v1.Version/Version/",
        "/containerd.services.version.v1.version/version",
        "/",
    ] {
        let Answer::Headers(block) = call(path).await else {
            panic!("{path}: reset");
        };
        assert!(
            contains(&block, &STATUS_UNIMPLEMENTED),
            "{path}: {block:02x?}"
        );
    }
}

#[tokio::test]
async fn a_path_without_its_slash_never_arrives() {
    for path in ["containerd.services.version.v1.Version/Version", "x"] {
        match call(path).await {
            // HTTP/2 itself refuses it (RFC 9113, section 8.3.1).
            Answer::Reset(code) => assert_eq!(code, PROTOCOL_ERROR, "{path}"),
            Answer::Headers(block) => {
                assert!(
                    contains(&block, &STATUS_UNIMPLEMENTED),
                    "{path}: {block:02x?}"
                );
            }
        }
    }
}

/// Makes one call with an empty message and returns the last headers, or the reset, of its stream.
async fn call(path: &str) -> Answer {
    let (client, server) = tokio::io::duplex(1 << 16);
    let serving = tokio::spawn(
        Server::builder()
            .add_service(api::limited!(VersionServer::new(Fixed)))
            .serve_with_incoming(tokio_stream::once(Ok::<_, std::io::Error>(server))),
    );
    let answer = tokio::time::timeout(Duration::from_secs(10), exchange(client, path)).await;
    serving.abort();
    answer.expect("an answer within ten seconds")
}

async fn exchange(mut client: DuplexStream, path: &str) -> Answer {
    let mut out = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    frame(&mut out, FRAME_SETTINGS, 0, 0, &[]);
    let mut block = Vec::new();
    for (name, value) in [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "localhost"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ] {
        // A literal without indexing, name and value as they are (RFC 7541, section 6.2.2).
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).expect("short header"));
            block.extend(text.as_bytes());
        }
    }
    frame(&mut out, FRAME_HEADERS, FLAG_END_HEADERS, 1, &block);
    frame(&mut out, FRAME_DATA, FLAG_END_STREAM, 1, &[0; 5]);
    client.write_all(&out).await.expect("send the call");
    loop {
        let mut header = [0; 9];
        client.read_exact(&mut header).await.expect("read a frame");
        let length = u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize;
        let mut payload = vec![0; length];
        client
            .read_exact(&mut payload)
            .await
            .expect("read a payload");
        match (header[3], header[4] & FLAG_END_STREAM) {
            (FRAME_RESET, _) => {
                let code = payload.try_into().expect("four bytes of code");
                return Answer::Reset(u32::from_be_bytes(code));
            }
            (FRAME_HEADERS, FLAG_END_STREAM) => return Answer::Headers(payload),
            _ => {}
        }
    }
}

fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let length = u32::try_from(payload.len()).expect("short frame");
    out.extend(&length.to_be_bytes()[1..]);
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend(payload);
}

fn contains(block: &[u8], text: &[u8]) -> bool {
    block.windows(text.len()).any(|window| window == text)
}
