//! One piece of content from the registry into the store.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use model::{Descriptor, Labels};
use tokio::time::{Instant, sleep};

use crate::progress::{Part, ref_key};
use crate::pull::Pull;
use crate::store::{Begin, Writing};
use crate::tail::Writer;
use crate::{Error, Source};

/// Bytes gathered before they are handed to the store.
const GATHER_BYTES: usize = 256 << 10;
/// Downloads of one piece whose digest turned out wrong.
const WRONG_MAX: usize = 3;
/// First and longest wait for somebody else's write.
const LOCKED_FIRST: Duration = Duration::from_millis(50);
const LOCKED_MAX: Duration = Duration::from_secs(2);

impl Pull {
    /// Makes sure that the store has the content, with these labels; readers follow through `mark`.
    pub(crate) async fn fetch(
        &self,
        descriptor: &Descriptor,
        parent: &str,
        labels: Labels,
        mark: Writer,
    ) -> Result<(), Error> {
        let mut part = Part::new(&self.progress, parent.to_owned(), descriptor);
        let job = self.job.child("fetch", ref_key(descriptor));
        job.waits_for(Some("other transfers of this content"));
        part.say("waiting", 0);
        // Others that want the same content wait here and then find it.
        let _alone = self
            .transfer
            .locks
            .lock(format!("blob://{}", descriptor.digest))
            .await;
        if self.adopt(descriptor, &labels).await? {
            return self.exists(descriptor, &part, mark).await;
        }
        if descriptor.size == 0 {
            return Err(Error::Empty {
                digest: descriptor.digest.clone(),
            });
        }
        job.waits_for(Some("a free download"));
        let permit = self.transfer.downloads.acquire().await;
        job.stage("downloading");
        let _permit = permit.map_err(|_| Error::Canceled {
            target: descriptor.digest.to_string(),
        })?;
        let Source::Registry(repository) = &self.request.source else {
            return Err(Error::Missing {
                digest: descriptor.digest.clone(),
            });
        };
        let Some(mut writing) = self.begin(descriptor).await? else {
            self.adopt(descriptor, &labels).await?;
            return self.exists(descriptor, &part, mark).await;
        };
        if writing.offset() > descriptor.size {
            writing.restart().await?;
        }
        mark.begin(writing.file()?, writing.offset());
        self.receive(
            repository,
            descriptor,
            writing.as_mut(),
            (&mut part, &job),
            &mark,
        )
        .await?;
        let labels = self.with_source(labels, None);
        writing.commit(descriptor, labels).await?;
        part.whole("complete");
        mark.done();
        Ok(())
    }

    /// Stores a document whose bytes are verified already.
    pub(crate) async fn store_document(
        &self,
        descriptor: &Descriptor,
        parent: &str,
        labels: Labels,
        bytes: Bytes,
    ) -> Result<(), Error> {
        let part = Part::new(&self.progress, parent.to_owned(), descriptor);
        part.say("waiting", 0);
        let _alone = self
            .transfer
            .locks
            .lock(format!("blob://{}", descriptor.digest))
            .await;
        if self.adopt(descriptor, &labels).await? {
            part.whole("already exists");
            return Ok(());
        }
        let Some(mut writing) = self.begin(descriptor).await? else {
            self.adopt(descriptor, &labels).await?;
            part.whole("already exists");
            return Ok(());
        };
        if writing.offset() > 0 {
            writing.restart().await?;
        }
        writing.write(bytes).await?;
        writing
            .commit(descriptor, self.with_source(labels, None))
            .await?;
        part.whole("complete");
        Ok(())
    }

    /// Labels content that the store has; false if it has not.
    async fn adopt(&self, descriptor: &Descriptor, labels: &Labels) -> Result<bool, Error> {
        let blobs = &self.request.stores.blobs;
        let Some(known) = blobs.labels(&descriptor.digest).await? else {
            return Ok(false);
        };
        let wanted = self.with_source(labels.clone(), Some(&known));
        let missing: Labels = wanted
            .into_iter()
            .filter(|(key, value)| known.get(key) != Some(value))
            .collect();
        if !missing.is_empty() {
            blobs.set_labels(&descriptor.digest, missing).await?;
        }
        Ok(true)
    }

    async fn exists(
        &self,
        descriptor: &Descriptor,
        part: &Part,
        mark: Writer,
    ) -> Result<(), Error> {
        let file = self.request.stores.blobs.open(&descriptor.digest).await?;
        mark.begin(file, descriptor.size);
        mark.done();
        part.whole("already exists");
        Ok(())
    }

    /// `None`: the store has it by now.
    async fn begin(&self, descriptor: &Descriptor) -> Result<Option<Box<dyn Writing>>, Error> {
        let reference = ref_key(descriptor);
        let deadline = Instant::now() + self.transfer.config.locked_wait;
        let mut wait = LOCKED_FIRST;
        loop {
            match self
                .request
                .stores
                .blobs
                .begin(&reference, descriptor)
                .await?
            {
                Begin::Write(writing) => return Ok(Some(writing)),
                Begin::Exists => return Ok(None),
                Begin::Locked if Instant::now() >= deadline => {
                    return Err(Error::Store {
                        act: "wait for somebody else's write of",
                        object: reference,
                        kind: model::ErrorKind::Unavailable,
                        source: "the write is still locked".into(),
                    });
                }
                Begin::Locked => sleep(wait).await,
            }
            wait = (wait * 2).min(LOCKED_MAX);
        }
    }

    /// Downloads until the bytes have the right digest.
    async fn receive(
        &self,
        repository: &registry::Repository,
        descriptor: &Descriptor,
        writing: &mut dyn Writing,
        (part, job): (&mut Part, &jobs::Job),
        mark: &Writer,
    ) -> Result<(), Error> {
        let mut wrong = 0;
        loop {
            let host = self
                .download(repository, descriptor, writing, (part, job), mark)
                .await?;
            let actual = writing.digest().ok_or_else(|| Error::Canceled {
                target: descriptor.digest.to_string(),
            })?;
            if actual == descriptor.digest {
                return Ok(());
            }
            // What came is worth nothing: the next try must not resume it.
            mark.spoil();
            writing.restart().await?;
            wrong += 1;
            if wrong == WRONG_MAX {
                return Err(Error::WrongDigest {
                    host,
                    expected: descriptor.digest.clone(),
                    actual,
                });
            }
        }
    }

    /// Downloads what is missing and answers which host gave the last byte.
    async fn download(
        &self,
        repository: &registry::Repository,
        descriptor: &Descriptor,
        writing: &mut dyn Writing,
        (part, job): (&mut Part, &jobs::Job),
        mark: &Writer,
    ) -> Result<String, Error> {
        let failed = |source| Error::Registry {
            act: "fetch content",
            source,
        };
        if writing.offset() == descriptor.size {
            return Ok(repository.reference().host().to_owned());
        }
        let mut body = repository
            .fetch(descriptor, writing.offset())
            .await
            .map_err(failed)?;
        let mut gathered = BytesMut::new();
        let mut spoiled = None;
        loop {
            match body.chunk().await {
                Ok(Some(chunk)) => gathered.extend_from_slice(&chunk),
                Ok(None) => break,
                // What came before the failure is kept for the next try.
                Err(error) => {
                    spoiled = Some(error);
                    break;
                }
            }
            if gathered.len() >= GATHER_BYTES {
                writing.write(gathered.split().freeze()).await?;
                mark.advance(writing.offset());
            }
            let done = writing.offset() + gathered.len() as u64;
            part.step("downloading", done);
            job.progress(done, Some(descriptor.size));
        }
        if !gathered.is_empty() {
            writing.write(gathered.freeze()).await?;
            mark.advance(writing.offset());
        }
        if let Some(error) = spoiled {
            return Err(failed(error));
        }
        if writing.digest().as_ref() != Some(&descriptor.digest) {
            body.distrust();
        }
        Ok(body.host().to_owned())
    }

    fn with_source(&self, mut labels: Labels, known: Option<&Labels>) -> Labels {
        let Source::Registry(repository) = &self.request.source else {
            return labels;
        };
        let reference = repository.reference();
        let fresh = images::distribution_source(None, reference);
        let before = fresh.and_then(|(key, _)| known?.get(&key));
        labels.extend(images::distribution_source(
            before.map(String::as_str),
            reference,
        ));
        labels
    }
}
