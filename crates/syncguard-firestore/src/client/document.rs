//! Documents, and the values in them.

use std::collections::HashMap;

pub(crate) use gcloud_sdk::google::firestore::v1::Value;
use gcloud_sdk::{
    google::firestore::v1::{ArrayValue, Document as Message, MapValue, value::ValueType},
    prost_types::Timestamp,
};

use crate::{clock::timestamp, names::DocumentName};

pub(crate) type Fields = HashMap<String, Value>;

/// When a document was last changed. No two changes of a document have the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version {
    seconds: i64,
    nanos: i32,
}

/// A document that was read.
#[derive(Clone, Debug)]
pub(crate) struct Document {
    pub(crate) name: DocumentName,
    pub(crate) version: Version,
    fields: Fields,
}

impl Document {
    pub(crate) fn text(&self, field: &str) -> Option<&str> {
        text_of(self.fields.get(field)?)
    }

    pub(crate) fn has(&self, field: &str) -> bool {
        self.fields.contains_key(field)
    }

    pub(crate) fn integer(&self, field: &str) -> Option<i64> {
        integer_of(self.fields.get(field)?)
    }

    pub(crate) fn map(&self, field: &str) -> Option<&Fields> {
        map_of(self.fields.get(field)?)
    }

    pub(crate) fn array(&self, field: &str) -> Option<&[Value]> {
        match self.fields.get(field)?.value_type.as_ref()? {
            ValueType::ArrayValue(array) => Some(&array.values),
            _ => None,
        }
    }
}

pub(crate) fn text_of(value: &Value) -> Option<&str> {
    match value.value_type.as_ref()? {
        ValueType::StringValue(text) => Some(text),
        _ => None,
    }
}

pub(crate) fn map_of(value: &Value) -> Option<&Fields> {
    match value.value_type.as_ref()? {
        ValueType::MapValue(map) => Some(&map.fields),
        _ => None,
    }
}

/// `Number.MAX_SAFE_INTEGER`: beyond it, floating point does not represent every integer.
const MAX_SAFE: f64 = 9_007_199_254_740_991.0;

/// Reads an integer. JavaScript has one type of numbers, and may store an integer as floating
/// point.
#[expect(clippy::cast_possible_truncation, reason = "it is whole and fits")]
pub(crate) fn integer_of(value: &Value) -> Option<i64> {
    match value.value_type.as_ref()? {
        ValueType::IntegerValue(number) => Some(*number),
        ValueType::DoubleValue(number) if number.fract() == 0.0 && number.abs() <= MAX_SAFE => {
            Some(*number as i64)
        }
        _ => None,
    }
}

impl From<Message> for Document {
    fn from(message: Message) -> Self {
        Self {
            name: DocumentName::new(message.name),
            version: message.update_time.map(Version::from).unwrap_or(Version::NONE),
            fields: message.fields,
        }
    }
}

impl Version {
    /// The version of no document, so that a condition on it never holds.
    const NONE: Self = Self { seconds: 0, nanos: 0 };

    /// Returns when the commit that wrote it was made, by the server's clock.
    pub(crate) fn time(self) -> syncguard_core::Timestamp {
        timestamp(micros(&self.into()))
    }

    #[cfg(test)]
    pub(crate) fn from_micros(micros: i64) -> Self {
        Self {
            seconds: micros.div_euclid(1_000_000),
            nanos: (micros.rem_euclid(1_000_000) * 1_000) as i32,
        }
    }
}

impl From<Timestamp> for Version {
    fn from(time: Timestamp) -> Self {
        Self { seconds: time.seconds, nanos: time.nanos }
    }
}

impl From<Version> for Timestamp {
    fn from(version: Version) -> Self {
        Self { seconds: version.seconds, nanos: version.nanos }
    }
}

/// Returns the microseconds since the Unix epoch. The service has no finer resolution.
pub(super) fn micros(time: &Timestamp) -> i64 {
    time.seconds.saturating_mul(1_000_000).saturating_add(i64::from(time.nanos) / 1_000)
}

pub(crate) fn text(value: &str) -> Value {
    Value { value_type: Some(ValueType::StringValue(value.to_owned())) }
}

pub(crate) fn integer(value: i64) -> Value {
    Value { value_type: Some(ValueType::IntegerValue(value)) }
}

pub(crate) fn map(values: impl IntoIterator<Item = (String, Value)>) -> Value {
    let fields = values.into_iter().collect();
    Value { value_type: Some(ValueType::MapValue(MapValue { fields })) }
}

pub(crate) fn array(values: impl IntoIterator<Item = Value>) -> Value {
    let values = values.into_iter().collect();
    Value { value_type: Some(ValueType::ArrayValue(ArrayValue { values })) }
}
