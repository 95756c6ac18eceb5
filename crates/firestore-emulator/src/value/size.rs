//! The accounted size of a document, after
//! <https://firebase.google.com/docs/firestore/storage-size>.

use gcloud_sdk::google::firestore::v1::{Value, value::ValueType};

use crate::{field_path::Fields, name::DocumentName};

/// The largest document, in bytes: 1 MiB.
pub(crate) const MAX_DOCUMENT: usize = 1_048_576;

const OVERHEAD: usize = 32;
const NAME_OVERHEAD: usize = 16;

pub(crate) fn document_size(name: &DocumentName, fields: &Fields) -> usize {
    let name = NAME_OVERHEAD + name.path().map(text).sum::<usize>();
    OVERHEAD + name + fields_size(fields)
}

fn fields_size(fields: &Fields) -> usize {
    fields.iter().map(|(name, value)| text(name) + value_size(value)).sum()
}

fn text(text: &str) -> usize {
    text.len() + 1
}

fn value_size(value: &Value) -> usize {
    use ValueType as V;
    match &value.value_type {
        None | Some(V::NullValue(_) | V::BooleanValue(_)) => 1,
        Some(V::StringValue(value)) => text(value),
        Some(V::BytesValue(bytes)) => bytes.len(),
        Some(V::ReferenceValue(name)) => NAME_OVERHEAD + name.split('/').map(text).sum::<usize>(),
        Some(V::GeoPointValue(_)) => 16,
        Some(V::ArrayValue(array)) => array.values.iter().map(value_size).sum(),
        Some(V::MapValue(map)) => OVERHEAD + fields_size(&map.fields),
        Some(_) => 8,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::integer;

    #[test]
    fn a_document_has_the_size_of_the_documented_example() {
        let name = "projects/p/databases/(default)/documents/users/jeff/tasks/my_task_id";
        let name = DocumentName::parse(name).unwrap();
        let text = |text: &str| Value { value_type: Some(ValueType::StringValue(text.into())) };
        let fields = Fields::from([
            ("type".to_owned(), text("Personal")),
            ("done".to_owned(), Value { value_type: Some(ValueType::BooleanValue(false)) }),
            ("priority".to_owned(), integer(1)),
            ("description".to_owned(), text("Learn Cloud Firestore")),
        ]);
        assert_eq!(document_size(&name, &fields), 147);
    }
}
