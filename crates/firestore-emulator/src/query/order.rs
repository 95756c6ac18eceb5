use std::cmp::Ordering;

use gcloud_sdk::google::firestore::v1::{
    Document,
    structured_query::{Direction, Order},
};
use tonic::Status;

use super::filter::Filter;
use crate::{field_path::FieldPath, value::compare};

/// The order of results. Ties are broken by the name of the document.
#[derive(Clone, Debug)]
pub(super) struct Sorting(Vec<(FieldPath, SortDirection)>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SortDirection {
    Ascending,
    Descending,
}

impl Sorting {
    pub(super) fn by_name() -> Self {
        let mut sorting = Self(Vec::new());
        sorting.append_name();
        sorting
    }

    pub(super) fn parse(orders: &[Order], filter: &Filter) -> Result<Self, Status> {
        let fields: Result<Vec<_>, Status> = orders.iter().map(parse).collect();
        let mut sorting = Self(fields?);
        if sorting.0.is_empty() {
            sorting.0.extend(filter.ranged().map(|path| (path.clone(), SortDirection::Ascending)));
        }
        sorting.append_name();
        Ok(sorting)
    }

    pub(super) fn fields(&self) -> impl ExactSizeIterator<Item = &FieldPath> {
        self.0.iter().map(|(path, _)| path)
    }

    /// Returns whether a document has every sort field. A document that lacks one is not found.
    pub(super) fn accepts(&self, document: &Document) -> bool {
        self.fields().all(|path| path.read_in(document).is_some())
    }

    pub(super) fn compare(&self, left: &Document, right: &Document) -> Ordering {
        let values = |path: &FieldPath| (path.read_in(left), path.read_in(right));
        let orderings = self.0.iter().map(|(path, direction)| match values(path) {
            (Some(left), Some(right)) => direction.apply(compare(&left, &right)),
            _ => Ordering::Equal,
        });
        orderings.fold(Ordering::Equal, Ordering::then)
    }

    /// Converts the order of the values of a sort field into the order of the documents.
    pub(super) fn apply_direction(&self, at: usize, ordering: Ordering) -> Ordering {
        self.0.get(at).map_or(ordering, |(_, direction)| direction.apply(ordering))
    }

    fn append_name(&mut self) {
        if !self.fields().any(FieldPath::is_name) {
            let direction =
                self.0.last().map_or(SortDirection::Ascending, |(_, direction)| *direction);
            self.0.push((FieldPath::name(), direction));
        }
    }
}

impl SortDirection {
    fn apply(self, ordering: Ordering) -> Ordering {
        match self {
            Self::Ascending => ordering,
            Self::Descending => ordering.reverse(),
        }
    }
}

fn parse(order: &Order) -> Result<(FieldPath, SortDirection), Status> {
    let path = order.field.as_ref().map_or("", |field| &field.field_path);
    let direction = match Direction::try_from(order.direction) {
        Ok(Direction::Descending) => SortDirection::Descending,
        Ok(Direction::Ascending | Direction::Unspecified) => SortDirection::Ascending,
        Err(_) => return Err(Status::invalid_argument("there is no such direction")),
    };
    Ok((FieldPath::parse(path)?, direction))
}
