//! The server's side of HTTP/1.1, as little of it as a registry's clients need.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use model::Algorithm;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::{Auth, Fault, Request, State, lock};
use crate::Hasher;

const HEAD_BYTES_MAX: usize = 64 << 10;
const FOREVER: Duration = Duration::from_secs(3600);

/// An answer before it is written.
struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Arc<Vec<u8>>,
    /// Announced length, if not that of the body.
    ending: Ending,
}

enum Ending {
    Whole,
    /// Bytes that are sent of a longer announced body; then close or hang.
    Cut(usize, bool),
    /// More and more, without a length.
    Never,
}

pub(super) async fn serve(listener: TcpListener, authority: String, state: Arc<Mutex<State>>) {
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(connection(stream, authority.clone(), state.clone()));
        while connections.try_join_next().is_some() {}
    }
}

async fn connection(stream: TcpStream, authority: String, state: Arc<Mutex<State>>) {
    let mut stream = BufReader::new(stream);
    while let Some(request) = read(&mut stream).await {
        let head = request.method == "HEAD";
        lock(&state).requests.push(request.clone());
        let Some(answer) = answer(&request, &authority, &state) else {
            tokio::time::sleep(FOREVER).await;
            return;
        };
        if write(stream.get_mut(), answer, head).await != Some(true) {
            return;
        }
    }
}

async fn read(stream: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut head = Vec::new();
    loop {
        let before = head.len();
        let read = stream.read_until(b'\n', &mut head).await.ok()?;
        if before == 0
            && !head.starts_with(b"GET ")
            && !head.starts_with(b"HEAD ")
            && !head.starts_with(b"POST ")
        {
            // A TLS hello, most likely.
            drop(
                stream
                    .get_mut()
                    .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                    .await,
            );
            return None;
        }
        if read == 0 || head.len() > HEAD_BYTES_MAX {
            return None;
        }
        if head.ends_with(b"\r\n\r\n") {
            break;
        }
    }
    let text = String::from_utf8(head).ok()?;
    let mut lines = text.split("\r\n");
    let mut first = lines.next()?.split(' ');
    let (method, target) = (first.next()?.to_owned(), first.next()?.to_owned());
    let headers: Vec<_> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()))
        .collect();
    let mut request = Request {
        method,
        target,
        headers,
        body: Vec::new(),
    };
    let length: usize = request
        .header("content-length")
        .and_then(|text| text.parse().ok())
        .unwrap_or(0);
    request.body = vec![0; length.min(HEAD_BYTES_MAX)];
    stream.read_exact(&mut request.body).await.ok()?;
    Some(request)
}

fn plain(status: u16, headers: &[(&str, &str)], body: &str) -> Answer {
    Answer {
        status,
        headers: headers
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
        body: Arc::new(body.as_bytes().to_vec()),
        ending: Ending::Whole,
    }
}

/// `None` stays silent.
fn answer(request: &Request, authority: &str, state: &Mutex<State>) -> Option<Answer> {
    let mut state = lock(state);
    let fault = take_fault(&mut state, &request.target);
    if let Some(fault) = &fault
        && let Some(early) = before_content(fault, request, authority)
    {
        return early;
    }
    let path = request.target.split('?').next().unwrap_or_default();
    if path == "/token" {
        return Some(token(&mut state, request));
    }
    if let Some(refusal) = refused(&state, request, authority) {
        return Some(refusal);
    }
    let Some((content_type, bytes)) = state.content.get(path).cloned() else {
        let error =
            r#"{"errors":[{"code":"NOT_FOUND","message":"unknown to this test registry"}]}"#;
        return Some(plain(404, &[("content-type", "application/json")], error));
    };
    let ranges = !matches!(fault, Some(Fault::NoRanges));
    let from = request
        .header("range")
        .filter(|_| ranges)
        .and_then(|range| {
            range
                .strip_prefix("bytes=")?
                .trim_end_matches('-')
                .parse::<usize>()
                .ok()
        });
    let mut answer = content(path, &content_type, bytes, from);
    if let Some(fault) = fault {
        spoil(&mut answer, fault);
    }
    Some(answer)
}

fn take_fault(state: &mut State, target: &str) -> Option<Fault> {
    let hit = |(part, _, times): &(String, Fault, Option<usize>)| {
        target.contains(part) && *times != Some(0)
    };
    let place = state.faults.iter().rposition(hit)?;
    let (_, fault, times) = &mut state.faults[place];
    if let Some(times) = times {
        *times -= 1;
    }
    Some(fault.clone())
}

/// Faults that stand in for any content, found or not.
fn before_content(fault: &Fault, request: &Request, authority: &str) -> Option<Option<Answer>> {
    Some(match fault {
        Fault::Silence => None,
        Fault::RedirectLoop => Some(plain(
            307,
            &[("location", &format!("http://{authority}{}", request.target))],
            "",
        )),
        Fault::Redirect(status, url) => Some(plain(*status, &[("location", url)], "")),
        Fault::Html => Some(plain(
            200,
            &[("content-type", "text/html; charset=utf-8")],
            "<html>Log in</html>",
        )),
        Fault::Body(content_type, bytes) => {
            let mut answer = plain(200, &[("content-type", content_type)], "");
            answer.body = Arc::new(bytes.clone());
            Some(answer)
        }
        Fault::Status(status, headers, body) => {
            let mut answer = plain(*status, &[], body);
            answer.headers = headers.clone();
            Some(answer)
        }
        Fault::EndlessStatus(status) => {
            let mut answer = plain(*status, &[("content-type", "application/json")], "");
            answer.ending = Ending::Never;
            Some(answer)
        }
        _ => return None,
    })
}

fn content(path: &str, content_type: &str, bytes: Arc<Vec<u8>>, from: Option<usize>) -> Answer {
    let digest = Hasher::digest(Algorithm::Sha256, &bytes).to_string();
    let mut answer = plain(
        200,
        &[
            ("content-type", content_type),
            ("docker-content-digest", &digest),
        ],
        "",
    );
    answer.body = bytes;
    if let Some(from) = from {
        let total = answer.body.len();
        if from >= total {
            return plain(416, &[("content-range", &format!("bytes */{total}"))], "");
        }
        answer.status = 206;
        let range = format!("bytes {from}-{}/{total}", total - 1);
        answer.headers.push(("content-range".into(), range));
        answer.body = Arc::new(answer.body[from..].to_vec());
    }
    if path.contains("/blobs/") {
        answer
            .headers
            .push(("accept-ranges".into(), "bytes".into()));
    }
    answer
}

fn spoil(answer: &mut Answer, fault: Fault) {
    let mut replace = |name: &str, value: Option<String>| {
        answer.headers.retain(|(key, _)| key != name);
        answer
            .headers
            .extend(value.map(|value| (name.to_owned(), value)));
    };
    match fault {
        Fault::WrongBytes => {
            let mut bytes = answer.body.to_vec();
            if let Some(first) = bytes.first_mut() {
                *first ^= 1;
            }
            answer.body = Arc::new(bytes);
        }
        Fault::Short(length) => {
            answer.body = Arc::new(answer.body[..length.min(answer.body.len())].to_vec());
        }
        Fault::ResetAfter(length) => answer.ending = Ending::Cut(length, false),
        Fault::StallAfter(length) => answer.ending = Ending::Cut(length, true),
        Fault::Endless => answer.ending = Ending::Never,
        Fault::ContentType(value) => replace("content-type", Some(value)),
        Fault::HeaderDigest(value) => replace("docker-content-digest", Some(value)),
        Fault::NoDigest => replace("docker-content-digest", None),
        _ => {}
    }
}

fn refused(state: &State, request: &Request, authority: &str) -> Option<Answer> {
    let given = request.header("authorization").unwrap_or_default();
    let challenge = match state.auth.as_ref()? {
        Auth::Basic(user, password) => {
            let wanted = format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
            if given == wanted {
                return None;
            }
            r#"Basic realm="test""#.to_owned()
        }
        Auth::Token { realm, .. } => {
            if given
                .strip_prefix("Bearer ")
                .is_some_and(|token| state.tokens.iter().any(|each| each == token))
            {
                return None;
            }
            let realm = realm
                .clone()
                .unwrap_or_else(|| format!("http://{authority}/token"));
            let mut parts = request
                .target
                .split("/manifests/")
                .next()
                .unwrap_or_default()
                .split("/blobs/");
            let repository = parts.next().unwrap_or_default().trim_start_matches("/v2/");
            format!(r#"Bearer realm="{realm}",service="test",scope="repository:{repository}:pull""#)
        }
    };
    let body = r#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}"#;
    Some(plain(
        401,
        &[
            ("www-authenticate", &challenge),
            ("content-type", "application/json"),
        ],
        body,
    ))
}

fn token(state: &mut State, request: &Request) -> Answer {
    let Some(Auth::Token {
        user,
        post,
        expires_in,
        ..
    }) = state.auth.clone()
    else {
        return plain(404, &[], "");
    };
    if request.method == "POST" && !post {
        return plain(405, &[], "");
    }
    if let Some((user, password)) = user {
        let basic = format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
        let form: Vec<(String, String)> = url::form_urlencoded::parse(&request.body)
            .into_owned()
            .collect();
        let field = |name: &str| {
            form.iter()
                .find(|(key, _)| key == name)
                .map(|(_, value)| value.as_str())
        };
        let by_form = field("username") == Some(&user) && field("password") == Some(&password)
            || field("refresh_token") == Some("refresh-canary");
        if request.header("authorization") != Some(&basic) && !by_form {
            return plain(
                401,
                &[],
                r#"{"errors":[{"code":"UNAUTHORIZED","message":"bad user"}]}"#,
            );
        }
    }
    let token = format!("token-canary-{}", state.requests.len());
    state.tokens.push(token.clone());
    let mut answer = serde_json::json!({ "token": token, "access_token": token });
    if let Some(seconds) = expires_in {
        answer["expires_in"] = seconds.into();
    }
    if request.method == "POST" {
        answer["refresh_token"] = "refresh-canary".into();
    }
    plain(
        200,
        &[("content-type", "application/json")],
        &answer.to_string(),
    )
}

/// `Some(true)`: the connection can be used again.
async fn write(stream: &mut TcpStream, answer: Answer, head: bool) -> Option<bool> {
    let mut text = format!("HTTP/1.1 {} X\r\n", answer.status);
    for (name, value) in &answer.headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    if matches!(answer.ending, Ending::Never) {
        text.push_str("connection: close\r\n\r\n");
    } else {
        text.push_str(&format!("content-length: {}\r\n\r\n", answer.body.len()));
    }
    stream.write_all(text.as_bytes()).await.ok()?;
    if head {
        return Some(!matches!(answer.ending, Ending::Never));
    }
    match answer.ending {
        Ending::Whole => {
            stream.write_all(&answer.body).await.ok()?;
            Some(true)
        }
        Ending::Cut(length, hang) => {
            stream
                .write_all(&answer.body[..length.min(answer.body.len())])
                .await
                .ok()?;
            stream.flush().await.ok()?;
            if hang {
                tokio::time::sleep(FOREVER).await;
            }
            Some(false)
        }
        Ending::Never => {
            stream.write_all(&answer.body).await.ok()?;
            loop {
                stream.write_all(&[b' '; 4096]).await.ok()?;
            }
        }
    }
}
