//! Values that are parsed once and need no further checks.

mod fence;
mod hash;
pub(crate) mod invalid;
mod key;
mod layout;
mod lock_id;
mod owner;
mod timestamp;
mod ttl;

pub use fence::Fence;
pub use hash::DisplayHash;
pub use invalid::InvalidValue;
pub use key::LockKey;
pub use layout::KeyLayout;
pub use lock_id::LockId;
pub use owner::Owner;
pub use timestamp::Timestamp;
pub use ttl::{DurationExt, Ttl};

#[cfg(test)]
mod vectors;

/// Implements serde through a value's text, so that deserialized values are always parsed.
macro_rules! serde_as_text {
    ($type:ty) => {
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.to_text())
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <String as serde::Deserialize>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}
use serde_as_text;
