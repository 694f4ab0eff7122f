//! Container records from the metadata store.

use std::sync::Arc;

use metadata::Db;
use model::{ContainerId, ErrorKind, Namespace};
use shims::Runtime;

use crate::{Container, Containers, Error};

impl TryFrom<metadata::Container> for Container {
    type Error = Error;

    fn try_from(record: metadata::Container) -> Result<Self, Error> {
        let sandbox = record
            .sandbox
            .filter(|id| !id.is_empty())
            .map(ContainerId::new)
            .transpose()
            .map_err(|error| Error::Container {
                message: error.to_string(),
                kind: ErrorKind::InvalidArgument,
            })?;
        Ok(Self {
            runtime: Runtime {
                name: record.runtime.name,
                path: None,
                options: record.runtime.options,
            },
            spec: record.spec,
            sandbox,
        })
    }
}

/// Looks containers up in the store.
pub fn from_store(db: Db) -> Arc<Containers> {
    Arc::new(move |namespace: &Namespace, id: &ContainerId| {
        let records = db.namespace(namespace, None).containers();
        let record = records
            .get(id.as_str())
            .map_err(|error| Error::container(&error))?;
        record.try_into()
    })
}

/// For [`shims::Manager::restore`]: whether a container has a record. When the store can't tell, it has one.
pub fn known_to_store(db: Db) -> impl Fn(&Namespace, &ContainerId) -> bool + Send + Sync + 'static {
    move |namespace, id| {
        let found = db.namespace(namespace, None).containers().get(id.as_str());
        !matches!(found, Err(error) if model::Kinded::kind(&error) == ErrorKind::NotFound)
    }
}
