//! The names of databases, collections and documents, and their rules.

use std::{
    borrow::Borrow,
    fmt::{self, Display, Formatter},
    sync::Arc,
};

use tonic::Status;

/// The longest id of a collection or a document, in bytes.
const MAX_ID: usize = 1_500;

/// The longest name of a document, in bytes.
const MAX_NAME: usize = 6 * 1_024;

/// How deep collections may be nested below the outermost one.
const MAX_DEPTH: usize = 100;

/// `projects/{project}/databases/{database}`
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DatabaseName(Arc<str>);

impl DatabaseName {
    pub(crate) fn parse(name: &str) -> Result<Self, Status> {
        let segments: Vec<&str> = name.split('/').collect();
        match segments[..] {
            ["projects", project, "databases", database]
                if !project.is_empty() && !database.is_empty() =>
            {
                Ok(Self(name.into()))
            }
            _ => Err(invalid("database", name)),
        }
    }

    /// Parses the name of a document, which must be in this database.
    pub(crate) fn document(&self, name: &str) -> Result<DocumentName, Status> {
        let document = DocumentName::parse(name)?;
        if document.database() == *self {
            return Ok(document);
        }
        Err(Status::invalid_argument(format!("{name} is not in the database {}", self.0)))
    }
}

/// `{database}/documents/{collection}/{document}`, and so on for documents in other documents.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct DocumentName(Arc<str>);

impl DocumentName {
    pub(crate) fn parse(name: &str) -> Result<Self, Status> {
        let (_, path) = split(name).ok_or_else(|| invalid("document", name))?;
        let ids: Vec<&str> = path.split('/').collect();
        let (pairs, odd) = ids.as_chunks();
        if !odd.is_empty() || pairs.len() > MAX_DEPTH + 1 || name.len() > MAX_NAME {
            return Err(invalid("document", name));
        }
        for [collection, document] in pairs {
            check_id(collection)?;
            check_document_id(document)?;
        }
        Ok(Self(name.into()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns what distinguishes it within its collection.
    pub(crate) fn id(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or_default()
    }

    pub(crate) fn database(&self) -> DatabaseName {
        DatabaseName(split(&self.0).map_or("", |(database, _)| database).into())
    }

    /// Returns its path below the database, in segments.
    pub(crate) fn path(&self) -> impl Iterator<Item = &str> {
        split(&self.0).map_or("", |(_, path)| path).split('/')
    }
}

impl Borrow<str> for DocumentName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl Display for DocumentName {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// The name of a collection, with a trailing slash: the prefix of the names of its documents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CollectionName(String);

impl CollectionName {
    /// Parses a collection below `parent`, which is `{database}/documents` or a document.
    pub(crate) fn parse(parent: &str, id: &str) -> Result<Self, Status> {
        check_parent(parent)?;
        check_id(id)?;
        Ok(Self(format!("{parent}/{id}/")))
    }

    pub(crate) fn prefix(&self) -> &str {
        &self.0
    }

    pub(crate) fn database(&self) -> DatabaseName {
        DatabaseName(split(&self.0).map_or("", |(database, _)| database).into())
    }

    /// Returns whether a document lies directly in it, and not deeper.
    pub(crate) fn contains_directly(&self, name: &DocumentName) -> bool {
        name.as_str().strip_prefix(&self.0).is_some_and(|id| !id.contains('/'))
    }
}

/// The parent of collections, with a trailing slash: the root of a database, or a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ParentName(String);

impl ParentName {
    pub(crate) fn parse(parent: &str) -> Result<Self, Status> {
        check_parent(parent)?;
        Ok(Self(format!("{parent}/")))
    }

    pub(crate) fn prefix(&self) -> &str {
        &self.0
    }

    pub(crate) fn database(&self) -> DatabaseName {
        DatabaseName(split(&self.0).map_or("", |(database, _)| database).into())
    }
}

fn check_parent(parent: &str) -> Result<(), Status> {
    match parent.strip_suffix("/documents") {
        Some(database) if DatabaseName::parse(database).is_ok() => Ok(()),
        _ => DocumentName::parse(parent).map(drop),
    }
}

/// Splits a name into its database and its path below `documents`.
fn split(name: &str) -> Option<(&str, &str)> {
    let (database, path) = name.split_once("/documents/")?;
    DatabaseName::parse(database).is_ok().then_some((database, path))
}

/// Refuses what Firestore reserves or cannot store, according to its documented limits.
fn check_id(id: &str) -> Result<(), Status> {
    let reserved = id.len() >= 4 && id.starts_with("__") && id.ends_with("__");
    if id.is_empty() || id == "." || id == ".." || reserved || id.len() > MAX_ID {
        return Err(invalid("id", id));
    }
    Ok(())
}

/// Same as [`check_id`], but also accepts ids such as `__id7__`: the service writes numeric ids so.
fn check_document_id(id: &str) -> Result<(), Status> {
    if numeric_id(id).is_some() { Ok(()) } else { check_id(id) }
}

/// Returns the number that a document id stands for, if it is written in its canonical form.
pub(crate) fn numeric_id(id: &str) -> Option<i64> {
    let digits = id.strip_prefix("__id")?.strip_suffix("__")?;
    let number: i64 = digits.parse().ok()?;
    (number.to_string() == digits).then_some(number)
}

fn invalid(what: &str, name: &str) -> Status {
    Status::invalid_argument(format!("{name:?} is no valid {what}"))
}

#[cfg(test)]
mod tests {
    use super::{CollectionName, DatabaseName, DocumentName};

    const DATABASE: &str = "projects/p/databases/(default)";

    fn document(path: &str) -> Result<DocumentName, tonic::Status> {
        DatabaseName::parse(DATABASE).unwrap().document(&format!("{DATABASE}/documents/{path}"))
    }

    #[test]
    fn a_reserved_id_is_refused() {
        for id in ["", ".", "..", "____", "__x__", "a/b"] {
            assert!(document(&format!("locks/{id}")).is_err(), "{id:?}");
        }
    }

    #[test]
    fn an_id_similar_to_a_reserved_one_is_accepted() {
        for id in ["...", "__", "___", "__x", "x__", "_x_", "ü", "a:b c"] {
            assert_eq!(document(&format!("locks/{id}")).unwrap().id(), id);
        }
    }

    #[test]
    fn a_numeric_id_is_valid_for_a_document_and_not_for_a_collection() {
        for id in ["__id7__", "__id-2__", "__id9223372036854775807__"] {
            assert_eq!(document(&format!("locks/{id}")).unwrap().id(), id);
            assert!(document(&format!("{id}/a")).is_err(), "{id:?}");
        }
        for id in ["__id__", "__id07__", "__id+7__", "__id7x__", "__id9223372036854775808__"] {
            assert!(document(&format!("locks/{id}")).is_err(), "{id:?}");
        }
    }

    #[test]
    fn the_depth_of_collections_is_limited() {
        assert!(document(&format!("locks/a{}", "/b/c".repeat(100))).is_ok());
        assert!(document(&format!("locks/a{}", "/b/c".repeat(101))).is_err());
    }

    #[test]
    fn an_id_has_at_most_1500_bytes() {
        assert!(document(&format!("locks/{}", "x".repeat(1_500))).is_ok());
        assert!(document(&format!("locks/{}", "ü".repeat(751))).is_err());
    }

    #[test]
    fn the_rules_apply_to_collections_as_well() {
        for path in ["__x__/a", "../a", "/a"] {
            assert!(document(path).is_err(), "{path:?}");
        }
    }

    #[test]
    fn a_document_of_another_database_is_refused() {
        let name = "projects/p/databases/other/documents/locks/a";
        assert!(DatabaseName::parse(DATABASE).unwrap().document(name).is_err());
        assert!(DocumentName::parse(name).is_ok());
    }

    #[test]
    fn a_collection_contains_only_its_own_documents() {
        let collection = CollectionName::parse(&format!("{DATABASE}/documents"), "locks").unwrap();
        assert!(collection.contains_directly(&document("locks/a").unwrap()));
        assert!(!collection.contains_directly(&document("locks/a/notes/b").unwrap()));
        assert!(!collection.contains_directly(&document("locksmith/a").unwrap()));
    }
}
