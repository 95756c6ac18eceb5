//! Queries.

use gcloud_sdk::google::firestore::v1::{
    Cursor, StructuredQuery,
    structured_query::{
        CollectionSelector, CompositeFilter, Direction, FieldFilter, FieldReference, Filter, Order,
        composite_filter, field_filter::Operator, filter::FilterType,
    },
    value::ValueType,
};

use super::document::{Value, integer, text};
use crate::names::DocumentName;

/// Selects documents, and limits how many at most.
pub(crate) struct Search<'a> {
    pub(crate) condition: Option<Filter>,
    /// Sorted by this field, and after this value of it.
    pub(crate) order: Option<(&'a str, Option<&'a str>)>,
    pub(crate) limit: usize,
}

/// Selects documents whose field has this value, or whose other field is an array that contains it.
pub(crate) fn field_is_or_contains(name: &str, array: &str, value: &str) -> Filter {
    let is = filter(name, Operator::Equal, text(value));
    let contains = filter(array, Operator::ArrayContains, text(value));
    composite(composite_filter::Operator::Or, vec![is, contains])
}

/// Selects documents whose field has this value or sorts after it.
pub(crate) fn field_above(name: &str, value: &str) -> Filter {
    filter(name, Operator::GreaterThanOrEqual, text(value))
}

/// Selects documents whose field has this number or a lower one.
pub(crate) fn field_up_to(name: &str, number: i64) -> Filter {
    filter(name, Operator::LessThanOrEqual, integer(number))
}

fn filter(name: &str, operator: Operator, value: Value) -> Filter {
    let filter = FieldFilter { field: Some(field(name)), op: operator.into(), value: Some(value) };
    Filter { filter_type: Some(FilterType::FieldFilter(filter)) }
}

fn composite(op: composite_filter::Operator, filters: Vec<Filter>) -> Filter {
    let filter = CompositeFilter { op: op.into(), filters };
    Filter { filter_type: Some(FilterType::CompositeFilter(filter)) }
}

fn field(name: &str) -> FieldReference {
    FieldReference { field_path: name.to_owned() }
}

pub(super) fn query(collection: &str, search: Search<'_>) -> StructuredQuery {
    let mut query = StructuredQuery {
        from: vec![CollectionSelector {
            collection_id: collection.to_owned(),
            all_descendants: false,
        }],
        r#where: search.condition,
        limit: Some(i32::try_from(search.limit).unwrap_or(i32::MAX)),
        ..StructuredQuery::default()
    };
    if let Some((name, behind)) = search.order {
        query.order_by = vec![ascending(name)];
        query.start_at = behind.map(|value| Cursor { values: vec![text(value)], before: false });
    }
    query
}

/// The least id of a document.
const LEAST_ID: &str = "__id-9223372036854775808__";

/// Selects all documents whose names lie within a collection, at any depth.
///
/// It is the query with which Google's client for Node deletes a collection with all below it: over
/// all collections, between two names. Such a query can filter only by name, and needs no index. A
/// query over a collection group could filter by field, but the ids of the nested collections are
/// parts of keys and so not known in advance, and it needs an index that a database does not have
/// by default.
pub(super) fn descendants(
    database: &str,
    collection: &str,
    after: Option<&DocumentName>,
    limit: usize,
) -> StructuredQuery {
    let bound = |collection| reference(format!("{database}/documents/{collection}/{LEAST_ID}"));
    let from = filter(NAME, Operator::GreaterThanOrEqual, bound(collection.to_owned()));
    // The next id that a collection could have.
    let to = filter(NAME, Operator::LessThan, bound(format!("{collection}\0")));
    let within = composite(composite_filter::Operator::And, vec![from, to]);
    let behind = |name: &DocumentName| Cursor {
        values: vec![reference(name.as_str().to_owned())],
        before: false,
    };
    StructuredQuery {
        from: vec![CollectionSelector { collection_id: String::new(), all_descendants: true }],
        r#where: Some(within),
        order_by: vec![ascending(NAME)],
        start_at: after.map(behind),
        limit: Some(i32::try_from(limit).unwrap_or(i32::MAX)),
        ..StructuredQuery::default()
    }
}

const NAME: &str = "__name__";

fn ascending(name: &str) -> Order {
    Order { field: Some(field(name)), direction: Direction::Ascending.into() }
}

fn reference(name: String) -> Value {
    Value { value_type: Some(ValueType::ReferenceValue(name)) }
}
