//! Field changes that depend on what is stored.

use gcloud_sdk::google::firestore::v1::{
    ArrayValue, Value,
    document_transform::field_transform::{ServerValue, TransformType},
    value::ValueType,
};
use tonic::Status;

use crate::{
    time::Time,
    value::{compare, double, integer, timestamp},
};

#[derive(Clone, Debug)]
pub(super) enum Transform {
    RequestTime,
    Increment(Number),
    Maximum(Number),
    Minimum(Number),
    Append(Vec<Value>),
    Remove(Vec<Value>),
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Number {
    Integer(i64),
    Double(f64),
}

impl Transform {
    pub(super) fn parse(transform: Option<TransformType>) -> Result<Self, Status> {
        use TransformType as T;
        let number = |value| Number::read(&value).ok_or_else(|| invalid("an operand is no number"));
        Ok(match transform {
            Some(T::SetToServerValue(value)) if value == ServerValue::RequestTime as i32 => {
                Self::RequestTime
            }
            Some(T::Increment(by)) => Self::Increment(number(by)?),
            Some(T::Maximum(with)) => Self::Maximum(number(with)?),
            Some(T::Minimum(with)) => Self::Minimum(number(with)?),
            Some(T::AppendMissingElements(elements)) => Self::Append(elements.values),
            Some(T::RemoveAllFromArray(elements)) => Self::Remove(elements.values),
            Some(T::SetToServerValue(_)) | None => return Err(invalid("a transform has no type")),
        })
    }

    /// Returns the new value of a field. A value of the wrong type counts as missing.
    pub(super) fn apply(&self, old: Option<&Value>, now: Time) -> Value {
        let number = old.and_then(Number::read);
        match self {
            Self::RequestTime => timestamp(now),
            Self::Increment(by) => number.map_or(*by, |old| old.plus(*by)).value(),
            Self::Maximum(with) => extreme(number, *with, std::cmp::Ordering::Greater),
            Self::Minimum(with) => extreme(number, *with, std::cmp::Ordering::Less),
            Self::Append(elements) => array(append(elements_of(old), elements)),
            Self::Remove(elements) => {
                let mut kept = elements_of(old);
                kept.retain(|element| !contains(elements, element));
                array(kept)
            }
        }
    }

    /// Returns what a commit answers: the new value, or nothing for changes of arrays.
    pub(super) fn result(&self, new: &Value) -> Value {
        match self {
            Self::Append(_) | Self::Remove(_) => {
                Value { value_type: Some(ValueType::NullValue(0)) }
            }
            _ => new.clone(),
        }
    }
}

impl Number {
    fn read(value: &Value) -> Option<Self> {
        match value.value_type {
            Some(ValueType::IntegerValue(value)) => Some(Self::Integer(value)),
            Some(ValueType::DoubleValue(value)) => Some(Self::Double(value)),
            _ => None,
        }
    }

    fn value(self) -> Value {
        match self {
            Self::Integer(value) => integer(value),
            Self::Double(value) => double(value),
        }
    }

    /// Adds. Integers saturate at their limits; if one operand is a double, both are converted.
    fn plus(self, other: Self) -> Self {
        match (self, other) {
            (Self::Integer(left), Self::Integer(right)) => {
                Self::Integer(left.saturating_add(right))
            }
            _ => Self::Double(self.as_double() + other.as_double()),
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a sum with a double is a double")]
    fn as_double(self) -> f64 {
        match self {
            Self::Integer(value) => value as f64,
            Self::Double(value) => value,
        }
    }
}

/// Takes the operand if it lies beyond the stored number, or if there is no stored number.
fn extreme(old: Option<Number>, with: Number, beyond: std::cmp::Ordering) -> Value {
    match old.map(Number::value) {
        Some(old) if compare(&with.value(), &old) != beyond => old,
        _ => with.value(),
    }
}

fn append(mut elements: Vec<Value>, more: &[Value]) -> Vec<Value> {
    for element in more {
        if !contains(&elements, element) {
            elements.push(element.clone());
        }
    }
    elements
}

fn contains(elements: &[Value], element: &Value) -> bool {
    elements.iter().any(|other| compare(other, element).is_eq())
}

fn elements_of(value: Option<&Value>) -> Vec<Value> {
    match value.and_then(|value| value.value_type.as_ref()) {
        Some(ValueType::ArrayValue(array)) => array.values.clone(),
        _ => Vec::new(),
    }
}

fn array(values: Vec<Value>) -> Value {
    Value { value_type: Some(ValueType::ArrayValue(ArrayValue { values })) }
}

fn invalid(what: &'static str) -> Status {
    Status::invalid_argument(what)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(transform: &Transform, old: &Value) -> Value {
        transform.apply(Some(old), Time::from_micros(7))
    }

    #[test]
    fn an_increment_of_a_value_that_is_not_a_number_sets_it() {
        let increment = Transform::Increment(Number::Integer(2));
        assert_eq!(increment.apply(None, Time::from_micros(0)), integer(2));
        assert_eq!(applied(&increment, &timestamp(Time::from_micros(0))), integer(2));
    }

    #[test]
    fn integers_saturate_when_added_and_sums_with_doubles_are_doubles() {
        let increment = Transform::Increment(Number::Integer(2));
        assert_eq!(applied(&increment, &integer(40)), integer(42));
        assert_eq!(applied(&increment, &integer(i64::MAX - 1)), integer(i64::MAX));
        assert_eq!(applied(&increment, &double(0.5)), double(2.5));
    }

    #[test]
    fn maximum_keeps_the_greater_number_and_minimum_the_lesser() {
        let (ten, two) = (Number::Integer(10), Number::Double(2.5));
        assert_eq!(applied(&Transform::Maximum(ten), &integer(3)), integer(10));
        assert_eq!(applied(&Transform::Maximum(two), &integer(3)), integer(3));
        assert_eq!(applied(&Transform::Minimum(two), &integer(3)), double(2.5));
        assert_eq!(applied(&Transform::Minimum(ten), &integer(3)), integer(3));
    }

    #[test]
    fn elements_are_appended_once_and_removed_everywhere() {
        let of = |values: &[i64]| array(values.iter().copied().map(integer).collect());
        let append = Transform::Append(vec![integer(2), integer(3), integer(3)]);
        assert_eq!(applied(&append, &of(&[1, 2])), of(&[1, 2, 3]));
        let remove = Transform::Remove(vec![integer(1)]);
        assert_eq!(applied(&remove, &of(&[1, 2, 1])), of(&[2]));
    }

    #[test]
    fn the_request_time_is_the_commit_time() {
        let time = Time::from_micros(7);
        assert_eq!(Transform::RequestTime.apply(None, time), timestamp(time));
    }
}
