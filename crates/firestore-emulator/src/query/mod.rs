//! Queries: which documents of a collection, or of all collections below a parent, in which order.

mod cursor;
mod filter;
mod order;

use std::{cmp::Ordering, sync::Arc};

use gcloud_sdk::google::firestore::v1::{
    Document, StructuredQuery, structured_query::CollectionSelector,
};
use tonic::Status;

pub(crate) use cursor::Cursor;

use crate::{
    field_path::{FieldPath, select},
    name::{CollectionName, DatabaseName, ParentName},
    store::Documents,
    time::Time,
};
use filter::Filter;
use order::Sorting;

/// A query that this server can answer.
#[derive(Clone, Debug)]
pub(crate) struct Query {
    scope: Scope,
    filter: Filter,
    sorting: Sorting,
    start: Option<Cursor>,
    end: Option<Cursor>,
    offset: usize,
    limit: usize,
    /// The requested fields; `None` for all.
    fields: Option<Vec<FieldPath>>,
}

/// Where a query searches.
#[derive(Clone, Debug)]
enum Scope {
    Collection(CollectionName),
    /// All collections at any depth below a parent, whatever their ids.
    Descendants(ParentName),
}

impl Query {
    pub(crate) fn parse(parent: &str, query: StructuredQuery) -> Result<Self, Status> {
        let [from] = &query.from[..] else {
            return Err(Status::unimplemented("a query is one over a single collection here"));
        };
        if query.find_nearest.is_some() {
            return Err(Status::unimplemented("vectors are not searched here"));
        }
        let filter = Filter::parse(query.r#where)?;
        let sorting = Sorting::parse(&query.order_by, &filter)?;
        let scope = Scope::parse(parent, from)?;
        if let Scope::Descendants(_) = scope
            && !(filter.names_only() && sorting.fields().all(FieldPath::is_name))
        {
            let rule = "a query over all collections filters and sorts by __name__ alone";
            return Err(Status::invalid_argument(rule));
        }
        let count = |number: i32| usize::try_from(number);
        let negative = |_| Status::invalid_argument("offset and limit are not negative");
        Ok(Self {
            scope,
            start: query.start_at.map(|at| Cursor::parse(at, &sorting)).transpose()?,
            end: query.end_at.map(|at| Cursor::parse(at, &sorting)).transpose()?,
            offset: count(query.offset).map_err(negative)?,
            limit: query.limit.map_or(Ok(usize::MAX), count).map_err(negative)?,
            fields: query.select.map(|projection| fields(&projection.fields)).transpose()?,
            filter,
            sorting,
        })
    }

    /// Queries a page of a collection: the documents after `after`, in the order of their ids.
    pub(crate) fn page(
        collection: CollectionName,
        after: Option<Cursor>,
        limit: usize,
        fields: Option<Vec<FieldPath>>,
    ) -> Self {
        let (scope, filter) = (Scope::Collection(collection), Filter::all());
        let sorting = Sorting::by_name();
        Self { scope, filter, sorting, start: after, end: None, offset: 0, limit, fields }
    }

    pub(crate) fn database(&self) -> DatabaseName {
        match &self.scope {
            Scope::Collection(collection) => collection.database(),
            Scope::Descendants(parent) => parent.database(),
        }
    }

    /// Finds the documents as of a time, with all their fields.
    pub(crate) fn run(&self, documents: &Documents, at: Time) -> Vec<Arc<Document>> {
        let (prefix, collection) = match &self.scope {
            Scope::Collection(collection) => (collection.prefix(), Some(collection)),
            Scope::Descendants(parent) => (parent.prefix(), None),
        };
        let mut found: Vec<_> = documents
            .below(prefix, at)
            .filter(|(name, _)| {
                collection.is_none_or(|collection| collection.contains_directly(name))
            })
            .map(|(_, document)| document)
            .filter(|document| self.filter.accepts(document) && self.sorting.accepts(document))
            .filter(|document| self.is_within(document))
            .collect();
        found.sort_by(|left, right| self.sorting.compare(left, right));
        found.into_iter().skip(self.offset).take(self.limit).collect()
    }

    /// Keeps only the requested fields.
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

impl Scope {
    fn parse(parent: &str, from: &CollectionSelector) -> Result<Self, Status> {
        match (from.all_descendants, &from.collection_id[..]) {
            (false, id) => CollectionName::parse(parent, id).map(Self::Collection),
            (true, "") => ParentName::parse(parent).map(Self::Descendants),
            (true, _) => Err(Status::unimplemented("collection groups are not searched here")),
        }
    }
}

fn fields(
    fields: &[gcloud_sdk::google::firestore::v1::structured_query::FieldReference],
) -> Result<Vec<FieldPath>, Status> {
    fields.iter().map(|field| FieldPath::parse(&field.field_path)).collect()
}
