use std::cmp::Ordering;

use gcloud_sdk::google::firestore::v1::{
    Document, Value,
    structured_query::{
        CompositeFilter, FieldFilter, Filter as Message, UnaryFilter, composite_filter,
        field_filter::Operator, filter::FilterType, unary_filter,
    },
    value::ValueType,
};
use tonic::Status;

use crate::{
    field_path::FieldPath,
    value::{compare, same_type},
};

/// Selects documents.
#[derive(Clone, Debug)]
pub(super) enum Filter {
    All(Vec<Self>),
    Any(Vec<Self>),
    Field { path: FieldPath, test: Test },
}

#[derive(Clone, Debug)]
pub(super) enum Test {
    Equal(Value),
    NotEqual(Value),
    /// The value has the operand's type, and compares with it in one of two ways.
    Range([Ordering; 2], Value),
    In(Vec<Value>),
    Contains(Value),
    Nan,
}

impl Filter {
    pub(super) fn all() -> Self {
        Self::All(Vec::new())
    }

    pub(super) fn parse(message: Option<Message>) -> Result<Self, Status> {
        match message.map(|message| message.filter_type) {
            None => Ok(Self::all()),
            Some(Some(FilterType::CompositeFilter(filter))) => Self::composite(filter),
            Some(Some(FilterType::FieldFilter(filter))) => Self::field(filter),
            Some(Some(FilterType::UnaryFilter(filter))) => Self::unary(filter),
            Some(None) => Err(Status::invalid_argument("a filter has no type")),
        }
    }

    pub(super) fn accepts(&self, document: &Document) -> bool {
        match self {
            Self::All(filters) => filters.iter().all(|filter| filter.accepts(document)),
            Self::Any(filters) => filters.iter().any(|filter| filter.accepts(document)),
            Self::Field { path, test } => {
                path.read_in(document).is_some_and(|value| test.accepts(&value))
            }
        }
    }

    /// Returns the field of the first range filter: results are sorted by it by default.
    pub(super) fn ranged(&self) -> Option<&FieldPath> {
        match self {
            Self::All(filters) | Self::Any(filters) => filters.iter().find_map(Self::ranged),
            Self::Field { path, test: Test::Range(..) | Test::NotEqual(_) } => Some(path),
            Self::Field { .. } => None,
        }
    }

    /// Returns whether it uses only the names of documents.
    pub(super) fn names_only(&self) -> bool {
        match self {
            Self::All(filters) | Self::Any(filters) => filters.iter().all(Self::names_only),
            Self::Field { path, .. } => path.is_name(),
        }
    }

    fn composite(message: CompositeFilter) -> Result<Self, Status> {
        let filters = message.filters.into_iter().map(|filter| Self::parse(Some(filter)));
        let filters: Vec<Self> = filters.collect::<Result<_, _>>()?;
        match composite_filter::Operator::try_from(message.op) {
            _ if filters.is_empty() => Err(Status::invalid_argument("a composite filter is empty")),
            Ok(composite_filter::Operator::And) => Ok(Self::All(filters)),
            Ok(composite_filter::Operator::Or) => Ok(Self::Any(filters)),
            _ => Err(Status::invalid_argument("a composite filter has no operator")),
        }
    }

    fn field(message: FieldFilter) -> Result<Self, Status> {
        use Ordering::{Equal, Greater, Less};
        let path = message.field.map(|field| field.field_path).unwrap_or_default();
        let path = FieldPath::parse(&path)?;
        let no_value = || Status::invalid_argument("a filter has no value");
        let value = message.value.ok_or_else(no_value)?;
        let test = match Operator::try_from(message.op) {
            Ok(Operator::Equal) => Test::Equal(value),
            Ok(Operator::NotEqual) => Test::NotEqual(value),
            Ok(Operator::LessThan) => Test::Range([Less, Less], value),
            Ok(Operator::LessThanOrEqual) => Test::Range([Less, Equal], value),
            Ok(Operator::GreaterThan) => Test::Range([Greater, Greater], value),
            Ok(Operator::GreaterThanOrEqual) => Test::Range([Greater, Equal], value),
            Ok(Operator::In) => Test::In(elements(value)?),
            Ok(Operator::ArrayContains) => Test::Contains(value),
            Ok(Operator::ArrayContainsAny | Operator::NotIn) => {
                return Err(Status::unimplemented("this operator is not known here"));
            }
            Ok(Operator::Unspecified) | Err(_) => {
                return Err(Status::invalid_argument("a filter has no operator"));
            }
        };
        Ok(Self::Field { path, test })
    }

    fn unary(message: UnaryFilter) -> Result<Self, Status> {
        let Some(unary_filter::OperandType::Field(field)) = message.operand_type else {
            return Err(Status::invalid_argument("a filter has no field"));
        };
        let null = Value { value_type: Some(ValueType::NullValue(0)) };
        let test = match unary_filter::Operator::try_from(message.op) {
            Ok(unary_filter::Operator::IsNull) => Test::Equal(null),
            Ok(unary_filter::Operator::IsNotNull) => Test::NotEqual(null),
            Ok(unary_filter::Operator::IsNan) => Test::Nan,
            _ => return Err(Status::unimplemented("this operator is not known here")),
        };
        Ok(Self::Field { path: FieldPath::parse(&field.field_path)?, test })
    }
}

impl Test {
    fn accepts(&self, value: &Value) -> bool {
        match self {
            Self::Equal(operand) => equal(value, operand),
            Self::NotEqual(operand) => !equal(value, operand) && !is_null(value),
            Self::Range(orderings, operand) => {
                same_type(value, operand) && orderings.contains(&compare(value, operand))
            }
            Self::In(operands) => operands.iter().any(|operand| equal(value, operand)),
            Self::Contains(operand) => match &value.value_type {
                Some(ValueType::ArrayValue(array)) => {
                    array.values.iter().any(|element| equal(element, operand))
                }
                _ => false,
            },
            Self::Nan => is_nan(value),
        }
    }
}

/// Not-a-number is ordered, but not equal to any value.
fn equal(left: &Value, right: &Value) -> bool {
    !is_nan(left) && compare(left, right).is_eq()
}

fn is_nan(value: &Value) -> bool {
    matches!(value.value_type, Some(ValueType::DoubleValue(value)) if value.is_nan())
}

fn is_null(value: &Value) -> bool {
    matches!(value.value_type, Some(ValueType::NullValue(_)))
}

fn elements(value: Value) -> Result<Vec<Value>, Status> {
    match value.value_type {
        Some(ValueType::ArrayValue(array)) if !array.values.is_empty() => Ok(array.values),
        _ => Err(Status::invalid_argument("IN needs an array that is not empty")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::{double, integer};

    fn field(test: Test) -> Filter {
        Filter::Field { path: FieldPath::parse("v").unwrap(), test }
    }

    fn accepts(test: Test, value: Value) -> bool {
        let fields = [("v".to_owned(), value)].into();
        field(test).accepts(&Document { fields, ..Document::default() })
    }

    fn text(text: &str) -> Value {
        Value { value_type: Some(ValueType::StringValue(text.into())) }
    }

    #[test]
    fn numbers_are_equal_across_their_types() {
        assert!(accepts(Test::Equal(integer(1)), double(1.0)));
        assert!(!accepts(Test::Equal(integer(1)), text("1")));
        assert!(!accepts(Test::Equal(double(f64::NAN)), double(f64::NAN)));
        assert!(accepts(Test::Nan, double(f64::NAN)));
    }

    #[test]
    fn a_range_matches_only_values_of_the_same_type() {
        let above = || Test::Range([Ordering::Greater, Ordering::Greater], integer(1));
        assert!(accepts(above(), integer(2)));
        assert!(!accepts(above(), integer(1)));
        assert!(!accepts(above(), text("z")));
    }

    #[test]
    fn a_document_without_the_field_is_not_found() {
        let unequal = field(Test::NotEqual(integer(1)));
        assert!(!unequal.accepts(&Document::default()));
        assert!(accepts(Test::NotEqual(integer(1)), integer(2)));
    }

    #[test]
    fn composite_filters_combine_other_filters() {
        let value =
            Document { fields: [("v".to_owned(), integer(2))].into(), ..Default::default() };
        let (yes, no) = (field(Test::Equal(integer(2))), field(Test::In(vec![integer(3)])));
        assert!(Filter::Any(vec![no.clone(), yes.clone()]).accepts(&value));
        assert!(!Filter::All(vec![yes, no]).accepts(&value));
    }
}
