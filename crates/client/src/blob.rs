//! Blobs over the wire: whole documents in, bytes out.

use proto::containerd::services::content::v1::{
    ReadContentRequest, WriteAction, WriteContentRequest,
};

use crate::{Client, Error};

/// Largest document that is read whole, in bytes.
pub const DOCUMENT_BYTES_MAX: usize = 8 << 20;
/// Bytes of one message of content.
const CHUNK_BYTES: usize = 1 << 20;

impl Client {
    /// Reads a document of at most [`DOCUMENT_BYTES_MAX`] bytes.
    pub async fn read_document(&self, digest: &str) -> Result<Vec<u8>, Error> {
        let failed = Error::call(format!("read {digest}"));
        let request = ReadContentRequest {
            digest: digest.to_owned(),
            ..Default::default()
        };
        let mut answers = self
            .content()
            .read(request)
            .await
            .map_err(&failed)?
            .into_inner();
        let mut bytes = Vec::new();
        while let Some(answer) = answers.message().await.map_err(&failed)? {
            bytes.extend_from_slice(&answer.data);
            if bytes.len() > DOCUMENT_BYTES_MAX {
                let what = format!("document {digest} has more than {DOCUMENT_BYTES_MAX} bytes");
                return Err(Error::Invalid { what });
            }
        }
        Ok(bytes)
    }

    /// Writes a blob with labels; one that exists already is kept as it is.
    pub async fn write_blob(
        &self,
        reference: &str,
        bytes: &[u8],
        digest: &str,
        labels: model::Labels,
    ) -> Result<(), Error> {
        let total = bytes.len() as i64;
        let base = WriteContentRequest {
            r#ref: reference.to_owned(),
            total,
            expected: digest.to_owned(),
            ..Default::default()
        };
        let mut requests: Vec<WriteContentRequest> = bytes
            .chunks(CHUNK_BYTES)
            .enumerate()
            .map(|(index, chunk)| WriteContentRequest {
                action: WriteAction::Write as i32,
                offset: (index * CHUNK_BYTES) as i64,
                data: chunk.to_vec().into(),
                ..base.clone()
            })
            .collect();
        requests.push(WriteContentRequest {
            action: WriteAction::Commit as i32,
            offset: total,
            labels,
            ..base
        });
        let failed = Error::call(format!("write {digest}"));
        let answers = self.content().write(tokio_stream::iter(requests)).await;
        let drained = async {
            let mut answers = answers?.into_inner();
            while answers.message().await?.is_some() {}
            Ok::<(), tonic::Status>(())
        };
        match drained.await {
            Err(status) if status.code() != tonic::Code::AlreadyExists => Err(failed(status)),
            _ => Ok(()),
        }
    }
}
