//! The values of fields: how they are ordered, and how large they are.

mod order;
mod size;

use gcloud_sdk::google::firestore::v1::{Value, value::ValueType};

pub(crate) use order::{compare, same_type};
pub(crate) use size::{MAX_DOCUMENT, document_size};

use crate::time::Time;

pub(crate) fn integer(value: i64) -> Value {
    Value { value_type: Some(ValueType::IntegerValue(value)) }
}

pub(crate) fn double(value: f64) -> Value {
    Value { value_type: Some(ValueType::DoubleValue(value)) }
}

pub(crate) fn reference(name: impl Into<String>) -> Value {
    Value { value_type: Some(ValueType::ReferenceValue(name.into())) }
}

pub(crate) fn timestamp(time: Time) -> Value {
    Value { value_type: Some(ValueType::TimestampValue(time.into())) }
}
