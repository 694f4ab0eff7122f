//! A registry for tests, inside the test's own process, that misbehaves on request.
//!
//! It speaks plain HTTP/1.1 on 127.0.0.1, serves what was pushed into it with the methods of [`Registry`],
//! records every request, and answers with a [`Fault`] where one was set. It ends when it is dropped.
#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "only tests are built with it"
)]

mod image;
mod server;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use model::{Algorithm, Descriptor, Digest};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::Hasher;
pub use image::{Entry, Image, Layer, PushedImage};

/// A way to misbehave.
#[derive(Debug, Clone)]
pub enum Fault {
    /// The first byte of the body is another one; the length is right.
    WrongBytes,
    /// Only this many bytes are announced and sent.
    Short(usize),
    /// The right length is announced; the connection is closed after this many bytes.
    ResetAfter(usize),
    /// The body never ends, and no length is announced.
    Endless,
    /// Nothing is ever answered.
    Silence,
    /// This many bytes are sent, then nothing more.
    StallAfter(usize),
    /// A redirect to the request itself.
    RedirectLoop,
    /// A redirect to this URL, with this status.
    Redirect(u16, String),
    /// A page for people.
    Html,
    /// The right body with this content type.
    ContentType(String),
    /// This body with this content type.
    Body(String, Vec<u8>),
    /// This status with these headers and this body.
    Status(u16, Vec<(String, String)>, String),
    /// This status with a body that never ends.
    EndlessStatus(u16),
    /// This value under `Docker-Content-Digest`.
    HeaderDigest(String),
    /// Neither digest nor length in the head.
    NoDigest,
    /// Ranges are ignored: always the whole body.
    NoRanges,
}

/// Who may read.
#[derive(Debug, Clone)]
pub enum Auth {
    /// User and password with every request.
    Basic(String, String),
    /// A token from `/token`. With a user and password, those are wanted there.
    Token {
        /// User and password; `None` gives tokens to anybody.
        user: Option<(String, String)>,
        /// Whether `/token` understands POST.
        post: bool,
        /// How long a token holds, in seconds.
        expires_in: Option<u64>,
        /// Where the challenge sends the client, if not to this server's `/token`.
        realm: Option<String>,
    },
}

/// A request as it came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The method.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// At most 64 KiB.
    pub body: Vec<u8>,
}

impl Request {
    /// The first header of this lower-case name.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }
}

#[derive(Debug, Default)]
struct State {
    content: HashMap<String, (String, Arc<Vec<u8>>)>,
    faults: Vec<(String, Fault, Option<usize>)>,
    auth: Option<Auth>,
    tokens: Vec<String>,
    requests: Vec<Request>,
}

/// A running registry.
#[derive(Debug)]
pub struct Registry {
    authority: String,
    state: Arc<Mutex<State>>,
    task: JoinHandle<()>,
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Registry {
    /// Listens on a free port of 127.0.0.1.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let authority = listener.local_addr().unwrap().to_string();
        let state = Arc::new(Mutex::new(State::default()));
        let task = tokio::spawn(server::serve(listener, authority.clone(), state.clone()));
        Self {
            authority,
            state,
            task,
        }
    }

    /// `127.0.0.1:<port>`.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// `127.0.0.1:<port>/<name>`.
    pub fn name(&self, name: &str) -> String {
        format!("{}/{name}", self.authority)
    }

    /// Serves bytes as a blob of a repository.
    pub fn push_blob(&self, repository: &str, media_type: &str, bytes: Vec<u8>) -> Descriptor {
        let digest = Hasher::digest(Algorithm::Sha256, &bytes);
        let descriptor = Descriptor::new(media_type, digest, bytes.len() as u64);
        let path = format!("/v2/{repository}/blobs/{}", descriptor.digest);
        self.put(path, "application/octet-stream", Arc::new(bytes));
        descriptor
    }

    /// Serves bytes as a manifest under its digest, and under a tag unless that is empty.
    pub fn push_manifest(
        &self,
        repository: &str,
        tag: &str,
        media_type: &str,
        bytes: Vec<u8>,
    ) -> Descriptor {
        let digest = Hasher::digest(Algorithm::Sha256, &bytes);
        let descriptor = Descriptor::new(media_type, digest, bytes.len() as u64);
        let bytes = Arc::new(bytes);
        for object in [descriptor.digest.as_str(), tag] {
            if !object.is_empty() {
                let path = format!("/v2/{repository}/manifests/{object}");
                self.put(path, media_type, bytes.clone());
            }
        }
        descriptor
    }

    /// Removes a blob or manifest: its answer is 404 from now on.
    pub fn remove(&self, repository: &str, digest: &Digest) {
        let mut state = lock(&self.state);
        for kind in ["blobs", "manifests"] {
            state
                .content
                .remove(&format!("/v2/{repository}/{kind}/{digest}"));
        }
    }

    /// Misbehaves at every request whose target contains `part`. Later faults win.
    pub fn fault(&self, part: impl Into<String>, fault: Fault) {
        lock(&self.state).faults.push((part.into(), fault, None));
    }

    /// Misbehaves at the next `times` requests whose target contains `part`.
    pub fn fault_times(&self, part: impl Into<String>, fault: Fault, times: usize) {
        lock(&self.state)
            .faults
            .push((part.into(), fault, Some(times)));
    }

    /// Behaves again.
    pub fn clear_faults(&self) {
        lock(&self.state).faults.clear();
    }

    /// Wants authentication from now on.
    pub fn auth(&self, auth: Auth) {
        lock(&self.state).auth = Some(auth);
    }

    /// Forgets every token that it gave out.
    pub fn revoke_tokens(&self) {
        lock(&self.state).tokens.clear();
    }

    /// Every request so far, in order.
    pub fn requests(&self) -> Vec<Request> {
        lock(&self.state).requests.clone()
    }

    /// How many requests have a target that contains `part`.
    pub fn count(&self, method: &str, part: &str) -> usize {
        let state = lock(&self.state);
        let matching =
            |request: &&Request| request.method == method && request.target.contains(part);
        state.requests.iter().filter(matching).count()
    }

    fn put(&self, path: String, content_type: &str, bytes: Arc<Vec<u8>>) {
        lock(&self.state)
            .content
            .insert(path, (content_type.to_owned(), bytes));
    }
}
