//! One dialogue of `Content.Write`: a client writes an ingest and commits it, and is told the state after each step.

use api::{from_wire, status, to_wire};
use metadata::{View, Writer};
use model::Digest;
use proto::containerd::services::content::v1::{
    WriteAction, WriteContentRequest, WriteContentResponse,
};
use tokio::sync::mpsc;
use tonic::{Status, Streaming};

/// Answers to one client.
type Answers = mpsc::Sender<Result<WriteContentResponse, Status>>;

/// Serves a client until it commits, fails or goes away; without a commit the ingest can be resumed.
pub(super) async fn serve(
    view: View,
    mut messages: Streaming<WriteContentRequest>,
    answers: Answers,
) {
    if let Err(error) = dialogue(view, &mut messages, &answers).await {
        let _client_gone = answers.send(Err(error)).await;
    }
}

async fn dialogue(
    view: View,
    messages: &mut Streaming<WriteContentRequest>,
    answers: &Answers,
) -> Result<(), Status> {
    let Some(first) = messages.message().await? else {
        return Ok(());
    };
    if first.r#ref.is_empty() {
        return Err(Status::invalid_argument(
            "first message must have a reference: invalid argument",
        ));
    }
    let expected = from_wire::optional_digest("expected", &first.expected)?;
    let total = from_wire::size("total", first.total)?;
    let writer = view
        .content()
        .writer(
            &first.r#ref,
            (total > 0).then_some(total),
            expected.as_ref(),
        )
        .await
        .map_err(status::of)?;
    let mut session = Session {
        view,
        writer,
        total,
        expected,
    };
    let mut next = Some(first);
    while let Some(message) = next {
        let committing = message.action == WriteAction::Commit as i32;
        session.adopt(&message).await?;
        session.append(&message)?;
        if committing {
            let answer = session.commit(message).await?;
            // The blob is durable whether or not the client still listens.
            let _client_gone = answers.send(Ok(answer)).await;
            return Ok(());
        }
        if answers.send(Ok(session.answer(&message)?)).await.is_err() {
            return Ok(());
        }
        next = messages.message().await?;
    }
    Ok(())
}

/// A writer with what its client said of the blob.
struct Session {
    view: View,
    writer: Writer,
    total: u64,
    expected: Option<Digest>,
}

impl Session {
    /// Takes over a later total or digest; a digest that is there already ends the write.
    async fn adopt(&mut self, message: &WriteContentRequest) -> Result<(), Status> {
        let total = from_wire::size("total", message.total)?;
        if total > 0 {
            self.total = total;
        }
        let Some(expected) = from_wire::optional_digest("expected", &message.expected)? else {
            return Ok(());
        };
        if self.expected.as_ref() == Some(&expected) {
            return Ok(());
        }
        if self.view.content().info(&expected).is_ok() {
            let reference = self.writer.reference().to_owned();
            if let Err(error) = self.view.content().abort(&reference).await {
                tracing::debug!(reference, error = %model::chain(&error), "cannot end the ingest of a blob that exists");
            }
            return Err(Status::already_exists(format!(
                "blob with expected digest {expected} exists: already exists"
            )));
        }
        self.expected = Some(expected);
        Ok(())
    }

    /// Writes a message's bytes where they belong.
    fn append(&mut self, message: &WriteContentRequest) -> Result<(), Status> {
        if message.action == WriteAction::Stat as i32 {
            return Ok(());
        }
        let offset = from_wire::size("offset", message.offset)?;
        let present = self.writer.offset();
        if offset > 0 && offset != present {
            return Err(Status::out_of_range(format!(
                "write @{offset} must occur at current offset {present}: out of range"
            )));
        }
        // Writes go to the page cache; the pool takes over should the disk be slow.
        tokio::task::block_in_place(|| {
            if offset == 0 && present > 0 && !self.writer.is_complete() {
                self.writer.truncate(0)?;
            }
            self.writer.write(&message.data)
        })
        .map_err(status::of)
    }

    fn answer(&self, message: &WriteContentRequest) -> Result<WriteContentResponse, Status> {
        let digest = self.writer.digest();
        let digest = digest.ok_or_else(|| Status::internal("the ingest lost its bytes"))?;
        let mut answer = WriteContentResponse {
            action: message.action,
            offset: to_wire::size(self.writer.offset()),
            total: to_wire::size(self.total),
            digest: digest.to_string(),
            ..Default::default()
        };
        if message.action == WriteAction::Stat as i32 {
            let status = self.writer.status();
            answer.started_at = Some(to_wire::timestamp(status.started));
            answer.updated_at = Some(to_wire::timestamp(status.updated));
            answer.total = to_wire::size(status.total.max(self.total));
        }
        Ok(answer)
    }

    async fn commit(self, message: WriteContentRequest) -> Result<WriteContentResponse, Status> {
        let size = (self.total > 0).then_some(self.total);
        let committed = self
            .writer
            .commit(size, self.expected.as_ref(), message.labels);
        let info = committed.await.map_err(status::of)?;
        Ok(WriteContentResponse {
            action: message.action,
            offset: to_wire::size(info.size),
            total: to_wire::size(self.total),
            digest: info.digest.to_string(),
            ..Default::default()
        })
    }
}
