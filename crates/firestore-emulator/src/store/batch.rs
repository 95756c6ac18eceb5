//! The writes of a commit, computed together before any of them takes effect.

use std::{collections::BTreeMap, sync::Arc};

use gcloud_sdk::google::firestore::v1::{Document, Value, WriteResult};
use tonic::Status;

use super::{
    Documents, Stored,
    mutation::{Change, Extent, Mutation},
};
use crate::{
    field_path::{FieldPath, Fields},
    name::DocumentName,
    time::Time,
    value::{MAX_DOCUMENT, document_size},
};

/// The result of a commit. Dropping it changes nothing, so a commit is all or nothing.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    changes: BTreeMap<DocumentName, Stored>,
    results: Vec<WriteResult>,
}

impl Batch {
    /// Computes the writes in their order. Each sees those before it.
    pub(crate) fn prepare(
        documents: &Documents,
        mutations: &[Mutation],
        time: Time,
    ) -> Result<Self, Status> {
        let mut batch = Self::default();
        for mutation in mutations {
            batch.add(documents, mutation, time)?;
        }
        batch.drop_unchanged(documents);
        Ok(batch)
    }

    /// Returns the documents that have changed.
    pub(crate) fn changes(&self) -> impl Iterator<Item = (&DocumentName, &Stored)> {
        self.changes.iter()
    }

    pub(crate) fn into_results(self) -> Vec<WriteResult> {
        self.results
    }

    fn add(&mut self, documents: &Documents, write: &Mutation, time: Time) -> Result<(), Status> {
        let pending = self.changes.get(&write.name).cloned();
        let old = pending.unwrap_or_else(|| documents.read(&write.name, Time::END));
        write.precondition.check(&write.name, &old)?;
        let (new, transform_results) = match &write.change {
            Change::Delete => (None, Vec::new()),
            Change::Update { fields, extent, transforms } => {
                let mut merged = merge(old.as_deref(), fields, extent);
                let mut results = Vec::with_capacity(transforms.len());
                for (path, transform) in transforms {
                    // A transform uses what is stored, not what the same write puts there.
                    let stored = old.as_deref().and_then(|old| path.read(&old.fields));
                    let value = transform.apply(stored, time);
                    results.push(transform.result(&value));
                    path.write(&mut merged, value);
                }
                (Some(document(&write.name, old.as_deref(), merged, time)?), results)
            }
        };
        let update_time = new.as_ref().and_then(|new| new.update_time);
        self.results.push(WriteResult { update_time, transform_results });
        self.changes.insert(write.name.clone(), new);
        Ok(())
    }

    fn drop_unchanged(&mut self, documents: &Documents) {
        self.changes.retain(|name, new| *new != documents.read(name, Time::END));
    }
}

fn merge(old: Option<&Document>, fields: &Fields, extent: &Extent) -> Fields {
    match extent {
        Extent::Whole => fields.clone(),
        Extent::Only(paths) => {
            let mut merged = old.map(|old| old.fields.clone()).unwrap_or_default();
            paths.iter().for_each(|path| copy(path, fields, &mut merged));
            merged
        }
    }
}

fn copy(path: &FieldPath, from: &Fields, to: &mut Fields) {
    match path.read(from) {
        Some(value) => path.write(to, Value::clone(value)),
        None => path.remove(to),
    }
}

/// Dates the new version. As on the service, a write that changes nothing makes no new version: the
/// document keeps its update time, and preconditions on that continue to hold.
fn document(
    name: &DocumentName,
    old: Option<&Document>,
    fields: Fields,
    time: Time,
) -> Result<Arc<Document>, Status> {
    let size = document_size(name, &fields);
    if size > MAX_DOCUMENT {
        return Err(Status::invalid_argument(format!(
            "Document '{name}' cannot be written because its size ({size} bytes) exceeds the \
             maximum allowed size of {MAX_DOCUMENT} bytes"
        )));
    }
    if let Some(old) = old.filter(|old| old.fields == fields) {
        return Ok(Arc::new(old.clone()));
    }
    let now = Some(time.into());
    let create_time = old.map_or(now, |old| old.create_time);
    Ok(Arc::new(Document { name: name.to_string(), fields, create_time, update_time: now }))
}
