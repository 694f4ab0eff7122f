//! What the headers of a request say: whose records it means, and which lease keeps what it makes.

use std::sync::Arc;

use metadata::{Db, View};
use tonic::Status;
use tonic::metadata::MetadataMap;

/// Opens views of the store for requests.
#[derive(Debug, Clone)]
pub struct Scope {
    db: Arc<Db>,
}

impl Scope {
    /// Opens views of the given store.
    pub fn new(db: Arc<Db>) -> Self {
        Self { db }
    }

    /// The store itself, for what belongs to no namespace.
    pub fn db(&self) -> &Arc<Db> {
        &self.db
    }

    /// The view that a request's headers name.
    pub fn view(&self, metadata: &MetadataMap) -> Result<View, Status> {
        let namespace = api::headers::namespace(metadata)?;
        let lease = api::headers::lease(metadata)?;
        Ok(self.db.namespace(&namespace, lease))
    }
}
