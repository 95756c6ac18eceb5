//! The location of a field in a document: names separated by dots, quoted if they are not plain.

use std::collections::HashMap;

use gcloud_sdk::google::firestore::v1::{Document, MapValue, Value, value::ValueType};
use tonic::Status;

use crate::value::reference;

pub(crate) type Fields = HashMap<String, Value>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FieldPath(Vec<String>);

impl FieldPath {
    pub(crate) fn parse(text: &str) -> Result<Self, Status> {
        let invalid = || Status::invalid_argument(format!("{text:?} is no valid field path"));
        let mut names = Vec::new();
        let mut rest = text;
        loop {
            let (name, after) = segment(rest).ok_or_else(invalid)?;
            names.push(name);
            match after.strip_prefix('.') {
                Some(next) => rest = next,
                None if after.is_empty() => return Ok(Self(names)),
                None => return Err(invalid()),
            }
        }
    }

    pub(crate) fn parse_all(texts: &[String]) -> Result<Vec<Self>, Status> {
        texts.iter().map(|text| Self::parse(text)).collect()
    }

    /// Returns the path that represents the name of the document.
    pub(crate) fn name() -> Self {
        Self(vec!["__name__".to_owned()])
    }

    pub(crate) fn is_name(&self) -> bool {
        self.0 == ["__name__"]
    }

    /// Reads a field, or the name of the document as if it were one.
    pub(crate) fn read_in(&self, document: &Document) -> Option<Value> {
        if self.is_name() {
            return Some(reference(document.name.clone()));
        }
        self.read(&document.fields).cloned()
    }

    pub(crate) fn read<'a>(&self, fields: &'a Fields) -> Option<&'a Value> {
        let (last, maps) = self.0.split_last()?;
        let holder = maps.iter().try_fold(fields, |fields, name| map(fields.get(name)?))?;
        holder.get(last)
    }

    /// Writes a value, and creates the maps that are missing.
    pub(crate) fn write(&self, fields: &mut Fields, value: Value) {
        let Some((last, maps)) = self.0.split_last() else { return };
        let holder = maps.iter().fold(fields, |fields, name| map_mut(fields, name));
        holder.insert(last.clone(), value);
    }

    pub(crate) fn remove(&self, fields: &mut Fields) {
        if self.read(fields).is_some()
            && let Some((last, maps)) = self.0.split_last()
        {
            maps.iter().fold(fields, |fields, name| map_mut(fields, name)).remove(last);
        }
    }
}

/// Selects the requested fields, within the maps that contain them.
pub(crate) fn select(fields: &Fields, paths: &[FieldPath]) -> Fields {
    let mut selected = Fields::new();
    for path in paths {
        if let Some(value) = path.read(fields) {
            path.write(&mut selected, value.clone());
        }
    }
    selected
}

fn map(value: &Value) -> Option<&Fields> {
    match &value.value_type {
        Some(ValueType::MapValue(map)) => Some(&map.fields),
        _ => None,
    }
}

/// Replaces the value under a name with a map, unless it is one.
fn map_mut<'a>(fields: &'a mut Fields, name: &str) -> &'a mut Fields {
    let value = fields.entry(name.to_owned()).or_default();
    if map(value).is_none() {
        value.value_type = Some(ValueType::MapValue(MapValue::default()));
    }
    match &mut value.value_type {
        Some(ValueType::MapValue(map)) => &mut map.fields,
        _ => unreachable!("it was made a map just now"),
    }
}

/// Parses one name from the beginning.
fn segment(text: &str) -> Option<(String, &str)> {
    if let Some(quoted) = text.strip_prefix('`') {
        return unquote(quoted);
    }
    let end = text.find('.').unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let starts = |c: char| c.is_ascii_alphabetic() || c == '_';
    (name.starts_with(starts) && name.chars().all(plain)).then(|| (name.to_owned(), rest))
}

/// Parses up to the closing backtick. A backslash escapes the next character.
fn unquote(text: &str) -> Option<(String, &str)> {
    let mut name = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '`' if name.is_empty() => return None,
            '`' => return Some((name, &text[at + 1..])),
            '\\' => name.push(characters.next()?.1),
            _ => name.push(character),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::{FieldPath, Fields, select};
    use crate::value::integer;

    fn path(text: &str) -> FieldPath {
        FieldPath::parse(text).unwrap()
    }

    #[test]
    fn names_are_separated_by_dots_and_quoted_if_they_are_not_plain() {
        assert_eq!(path("a.b_1").0, ["a", "b_1"]);
        assert_eq!(path(r"a.`b.c\`d`.e").0, ["a", "b.c`d", "e"]);
    }

    #[test]
    fn an_invalid_path_is_refused() {
        for text in ["", ".", "a.", ".a", "a b", "1a", "`a", "``", "`a`b"] {
            assert!(FieldPath::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_nested_field_is_written_read_and_removed() {
        let mut fields = Fields::new();
        path("a.b").write(&mut fields, integer(1));
        path("a.c").write(&mut fields, integer(2));
        assert_eq!(path("a.b").read(&fields), Some(&integer(1)));
        path("a.b").remove(&mut fields);
        assert_eq!(path("a.b").read(&fields), None);
        assert_eq!(path("a.c").read(&fields), Some(&integer(2)));
    }

    #[test]
    fn removing_a_missing_field_creates_nothing() {
        let mut fields = Fields::new();
        path("a.b").remove(&mut fields);
        assert!(fields.is_empty());
    }

    #[test]
    fn only_the_selected_fields_are_copied() {
        let mut fields = Fields::from([("x".to_owned(), integer(1)), ("y".to_owned(), integer(2))]);
        path("m.n").write(&mut fields, integer(3));
        let selected = select(&fields, &[path("x"), path("m.n"), path("z")]);
        assert_eq!(selected.len(), 2);
        assert_eq!(path("m.n").read(&selected), Some(&integer(3)));
    }
}
