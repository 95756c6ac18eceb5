use fred::types::Value;

use crate::error::Failure;

/// What a server answers.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Reply {
    Nil,
    Integer(i64),
    Text(String),
    List(Vec<Self>),
}

/// What a script returned.
pub(crate) struct Answer {
    pub(crate) reply: Reply,
    /// How many replicas have received its writes, if that was requested.
    pub(crate) replicas: Option<Result<i64, Failure>>,
}

impl Reply {
    pub(crate) fn integer(&self) -> Option<i64> {
        match self {
            Self::Integer(number) => Some(*number),
            Self::Text(text) => text.parse().ok(),
            _ => None,
        }
    }

    pub(crate) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn list(&self) -> &[Self] {
        match self {
            Self::List(items) => items,
            _ => &[],
        }
    }
}

impl From<Value> for Reply {
    fn from(value: Value) -> Self {
        match value {
            Value::Integer(number) => Self::Integer(number),
            Value::String(text) => Self::Text(text.to_string()),
            Value::Bytes(bytes) => Self::Text(String::from_utf8_lossy(&bytes).into_owned()),
            Value::Array(items) => Self::List(items.into_iter().map(Self::from).collect()),
            // The other types belong to a protocol version that is not used here.
            _ => Self::Nil,
        }
    }
}
