//! The single order of all values: by type first, then within the type.

use std::cmp::Ordering;

use gcloud_sdk::google::firestore::v1::{MapValue, Value, value::ValueType};

use crate::name::numeric_id;

/// Compares two values. Integers and doubles are one type; not-a-number is the least of it.
pub(crate) fn compare(left: &Value, right: &Value) -> Ordering {
    use ValueType as V;
    let (Some(l), Some(r)) = (&left.value_type, &right.value_type) else {
        return rank(left).cmp(&rank(right));
    };
    match (l, r) {
        (V::BooleanValue(l), V::BooleanValue(r)) => l.cmp(r),
        (V::IntegerValue(l), V::IntegerValue(r)) => l.cmp(r),
        (V::DoubleValue(l), V::DoubleValue(r)) => doubles(*l, *r),
        (V::IntegerValue(l), V::DoubleValue(r)) => mixed(*l, *r),
        (V::DoubleValue(l), V::IntegerValue(r)) => mixed(*r, *l).reverse(),
        (V::TimestampValue(l), V::TimestampValue(r)) => {
            (l.seconds, l.nanos).cmp(&(r.seconds, r.nanos))
        }
        (V::StringValue(l), V::StringValue(r)) => l.cmp(r),
        (V::BytesValue(l), V::BytesValue(r)) => l.cmp(r),
        (V::ReferenceValue(l), V::ReferenceValue(r)) => {
            l.split('/').map(segment_position).cmp(r.split('/').map(segment_position))
        }
        (V::GeoPointValue(l), V::GeoPointValue(r)) => {
            doubles(l.latitude, r.latitude).then_with(|| doubles(l.longitude, r.longitude))
        }
        (V::ArrayValue(l), V::ArrayValue(r)) => {
            sequences(l.values.iter(), r.values.iter(), compare)
        }
        (V::MapValue(l), V::MapValue(r)) => maps(l, r),
        _ => rank(left).cmp(&rank(right)),
    }
}

/// Returns whether two values have the same type. Range filters find only values of their own type.
pub(crate) fn same_type(left: &Value, right: &Value) -> bool {
    rank(left) == rank(right)
}

/// The sort position of a segment of a reference: ids that are numbers come first, in numeric
/// order.
fn segment_position(segment: &str) -> (bool, Option<i64>, &str) {
    let number = numeric_id(segment);
    (number.is_none(), number, segment)
}

fn rank(value: &Value) -> u8 {
    use ValueType as V;
    match &value.value_type {
        None | Some(V::NullValue(_)) => 0,
        Some(V::BooleanValue(_)) => 1,
        Some(V::IntegerValue(_) | V::DoubleValue(_)) => 2,
        Some(V::TimestampValue(_)) => 3,
        Some(V::StringValue(_)) => 4,
        Some(V::BytesValue(_)) => 5,
        Some(V::ReferenceValue(_)) => 6,
        Some(V::GeoPointValue(_)) => 7,
        Some(V::ArrayValue(_)) => 8,
        Some(V::MapValue(_)) => 9,
        // Values that only pipelines use never occur in a document.
        Some(_) => 10,
    }
}

fn doubles(left: f64, right: f64) -> Ordering {
    match (left.is_nan(), right.is_nan()) {
        (true, true) => Ordering::Equal,
        (true, false) => Ordering::Less,
        (false, true) => Ordering::Greater,
        // The two zeros are equal.
        (false, false) => left.partial_cmp(&right).unwrap_or(Ordering::Equal),
    }
}

/// Compares without rounding: not every integer can be represented as a double.
fn mixed(integer: i64, double: f64) -> Ordering {
    const BEYOND: f64 = 9_223_372_036_854_775_808.0;
    if double.is_nan() || double < -BEYOND {
        return Ordering::Greater;
    }
    if double >= BEYOND {
        return Ordering::Less;
    }
    #[expect(clippy::cast_possible_truncation, reason = "it is whole and in the range of i64")]
    let whole = double.trunc() as i64;
    integer.cmp(&whole).then_with(|| doubles(0.0, double.fract()))
}

fn maps(left: &MapValue, right: &MapValue) -> Ordering {
    let entries = |map: &MapValue| {
        let mut entries: Vec<_> = map.fields.clone().into_iter().collect();
        entries.sort_by(|(left, _), (right, _)| left.cmp(right));
        entries
    };
    let (left, right) = (entries(left), entries(right));
    sequences(left.iter(), right.iter(), |(lk, lv), (rk, rv)| {
        lk.cmp(rk).then_with(|| compare(lv, rv))
    })
}

fn sequences<'a, T: 'a>(
    mut left: impl Iterator<Item = &'a T>,
    mut right: impl Iterator<Item = &'a T>,
    compare: impl Fn(&T, &T) -> Ordering,
) -> Ordering {
    loop {
        match (left.next(), right.next()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => return Ordering::Less,
            (Some(_), None) => return Ordering::Greater,
            (Some(left), Some(right)) => match compare(left, right) {
                Ordering::Equal => {}
                unequal => return unequal,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cmp::Ordering;

    use gcloud_sdk::google::firestore::v1::{ArrayValue, MapValue, Value, value::ValueType as V};

    use super::compare;
    use crate::value::{double, integer, reference};

    fn value(value: V) -> Value {
        Value { value_type: Some(value) }
    }

    fn array(values: impl IntoIterator<Item = i64>) -> Value {
        let values = values.into_iter().map(integer).collect();
        value(V::ArrayValue(ArrayValue { values }))
    }

    fn map(key: &str, of: i64) -> Value {
        value(V::MapValue(MapValue { fields: [(key.to_owned(), integer(of))].into() }))
    }

    #[test]
    fn values_are_ordered_by_type_and_within_it() {
        let ascending = [
            value(V::NullValue(0)),
            value(V::BooleanValue(false)),
            value(V::BooleanValue(true)),
            double(f64::NAN),
            double(-1.5),
            integer(-1),
            double(0.5),
            integer(1),
            value(V::StringValue("1".into())),
            value(V::StringValue("a".into())),
            value(V::BytesValue(vec![0])),
            reference("a/b"),
            reference("a!/b"),
            array([]),
            array([1]),
            array([1, 0]),
            array([2]),
            map("a", 1),
            map("a", 2),
            map("b", 0),
        ];
        for (at, left) in ascending.iter().enumerate() {
            for (other, right) in ascending.iter().enumerate() {
                assert_eq!(compare(left, right), at.cmp(&other), "{left:?} and {right:?}");
            }
        }
    }

    #[test]
    fn integers_are_compared_with_doubles_without_rounding() {
        assert_eq!(compare(&integer(1), &double(1.0)), Ordering::Equal);
        assert_eq!(
            compare(&integer((1 << 53) + 1), &double(9_007_199_254_740_992.0)),
            Ordering::Greater
        );
        assert_eq!(compare(&integer(i64::MAX), &double(1e19)), Ordering::Less);
        assert_eq!(compare(&integer(i64::MIN), &double(-1e19)), Ordering::Greater);
        assert_eq!(compare(&integer(-1), &double(-1.5)), Ordering::Greater);
    }
}
