//! Credentials that the client of a transfer holds: each question goes over its auth stream.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use proto::containerd::types::transfer::{AuthRequest, AuthResponse, AuthType};
use proto::typeurl;
use registry::{Credential, Credentials, Question, Secret};
use tokio::sync::Mutex;
use tonic::async_trait;

use crate::streaming::Pipe;

/// Longest wait for a client, whose user may have to type.
const ANSWER: Duration = Duration::from_secs(300);

/// Asks the client.
pub(super) struct ClientCredentials(Mutex<Pipe>);

impl fmt::Debug for ClientCredentials {
    // What waits in the stream may be a password.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("ClientCredentials")
    }
}

impl ClientCredentials {
    pub(super) fn new(pipe: Pipe) -> Self {
        Self(Mutex::new(pipe))
    }
}

#[async_trait]
impl Credentials for ClientCredentials {
    async fn get(
        &self,
        question: Question,
    ) -> Result<Option<Credential>, Box<dyn Error + Send + Sync>> {
        let request = AuthRequest {
            host: question.host,
            reference: question.reference,
            wwwauthenticate: question.www_authenticate,
        };
        // One question at a time: answers carry nothing that tells them apart.
        let mut pipe = self.0.lock().await;
        let sent = pipe.outgoing.send(Ok(typeurl::pack(&request))).await;
        sent.map_err(|_| "the client closed its auth stream")?;
        let answer = tokio::time::timeout(ANSWER, pipe.incoming.recv()).await;
        let answer = answer
            .map_err(|_| "the client did not answer for credentials in time")?
            .ok_or("the client closed its auth stream")?;
        let answer: AuthResponse = typeurl::unpack(&answer)?;
        Ok(match answer.auth_type() {
            AuthType::None => None,
            AuthType::Credentials => Some(Credential::Password {
                username: answer.username,
                secret: Secret::new(answer.secret),
            }),
            AuthType::Refresh => Some(Credential::Refresh(Secret::new(answer.secret))),
            AuthType::Header => Some(Credential::Header(Secret::new(answer.secret))),
        })
    }
}
