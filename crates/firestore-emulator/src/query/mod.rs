//! Queries: which documents of a collection, in which order.

mod cursor;
mod filter;
mod order;

use std::{cmp::Ordering, sync::Arc};

use gcloud_sdk::google::firestore::v1::{Document, StructuredQuery, Value};
use tonic::Status;

pub(crate) use cursor::Cursor;

use crate::{
    field_path::{FieldPath, select},
    name::{CollectionName, DatabaseName},
    store::Documents,
    time::Time,
    value::reference,
};
use filter::Filter;
use order::Sorting;

/// A query that was found to be one that this server can answer.
#[derive(Clone, Debug)]
pub(crate) struct Query {
    collection: CollectionName,
    filter: Filter,
    sorting: Sorting,
    start: Option<Cursor>,
    end: Option<Cursor>,
    offset: usize,
    limit: usize,
    /// The fields that are wanted; `None` for all.
    fields: Option<Vec<FieldPath>>,
}

impl Query {
    pub(crate) fn parse(parent: &str, query: StructuredQuery) -> Result<Self, Status> {
        let [from] = &query.from[..] else {
            return Err(Status::unimplemented("a query is one over a single collection here"));
        };
        if from.all_descendants || query.find_nearest.is_some() {
            let what = "collection groups and vectors are not searched here";
            return Err(Status::unimplemented(what));
        }
        let filter = Filter::parse(query.r#where)?;
        let sorting = Sorting::parse(&query.order_by, &filter)?;
        let count = |number: i32| usize::try_from(number);
        let negative = |_| Status::invalid_argument("offset and limit are not negative");
        Ok(Self {
            collection: CollectionName::parse(parent, &from.collection_id)?,
            start: query.start_at.map(|at| Cursor::parse(at, &sorting)).transpose()?,
            end: query.end_at.map(|at| Cursor::parse(at, &sorting)).transpose()?,
            offset: count(query.offset).map_err(negative)?,
            limit: query.limit.map_or(Ok(usize::MAX), count).map_err(negative)?,
            fields: query.select.map(|projection| fields(&projection.fields)).transpose()?,
            filter,
            sorting,
        })
    }

    /// Asks for a page of a collection: the documents after `after`, in the order of their ids.
    pub(crate) fn page(
        collection: CollectionName,
        after: Option<Cursor>,
        limit: usize,
        fields: Option<Vec<FieldPath>>,
    ) -> Self {
        let (filter, sorting) = (Filter::all(), Sorting::by_name());
        Self { collection, filter, sorting, start: after, end: None, offset: 0, limit, fields }
    }

    pub(crate) fn database(&self) -> DatabaseName {
        self.collection.database()
    }

    /// Finds the documents as of a time, whole.
    pub(crate) fn run(&self, documents: &Documents, at: Time) -> Vec<Arc<Document>> {
        let all = documents.collection(&self.collection, at).map(|(_, document)| document);
        let mut found: Vec<_> = all
            .filter(|document| self.filter.accepts(document) && self.sorting.accepts(document))
            .filter(|document| self.is_within(document))
            .collect();
        found.sort_by(|left, right| self.sorting.compare(left, right));
        found.into_iter().skip(self.offset).take(self.limit).collect()
    }

    /// Leaves the fields that are wanted.
    pub(crate) fn project(&self, document: &Document) -> Document {
        let Some(paths) = &self.fields else {
            return document.clone();
        };
        Document { fields: select(&document.fields, paths), ..document.clone() }
    }

    fn is_within(&self, document: &Document) -> bool {
        let starts = self.start.as_ref().is_none_or(|start| {
            let place = start.compare(document, &self.sorting);
            place == Ordering::Greater || (place == Ordering::Equal && start.before)
        });
        let ends = self.end.as_ref().is_none_or(|end| {
            let place = end.compare(document, &self.sorting);
            place == Ordering::Less || (place == Ordering::Equal && !end.before)
        });
        starts && ends
    }
}

fn fields(
    fields: &[gcloud_sdk::google::firestore::v1::structured_query::FieldReference],
) -> Result<Vec<FieldPath>, Status> {
    fields.iter().map(|field| FieldPath::parse(&field.field_path)).collect()
}

/// Reads a field, or the name of the document as if that were one.
fn read(document: &Document, path: &FieldPath) -> Option<Value> {
    if path.is_name() {
        return Some(reference(document.name.clone()));
    }
    path.read(&document.fields).cloned()
}
