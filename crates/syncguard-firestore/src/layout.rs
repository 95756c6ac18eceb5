//! The names of the documents.

use std::fmt;

use syncguard_core::{KeyLayout, LockKey};

use crate::error::Failure;

/// The longest id of a document, in bytes.
const MAX_ID: usize = 1_500;

/// Where the documents are.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    keys: KeyLayout,
    database: String,
    locks: String,
    fences: String,
}

/// The full name of a document.
///
/// It holds the text of a key, so it is shown nowhere.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct DocumentName(String);

impl Layout {
    pub(crate) fn new(project: &str, database: &str, locks: &str, fences: &str) -> Self {
        Self {
            keys: KeyLayout::new("", MAX_ID, 0),
            database: format!("projects/{project}/databases/{database}"),
            locks: locks.to_owned(),
            fences: fences.to_owned(),
        }
    }

    /// The name of the database.
    pub(crate) fn database(&self) -> &str {
        &self.database
    }

    /// Names the lock of a key.
    ///
    /// A key that is no id of a document has the hashed form as its id. The TypeScript SyncGuard fails
    /// on such keys, so nobody else uses the plain one.
    pub(crate) fn lock(&self, key: &LockKey) -> Result<DocumentName, Failure> {
        let id = self.keys.lock_name(key)?;
        let id = if is_id(&id) { id } else { self.keys.hashed_lock_name(key)? };
        Ok(self.document(&self.locks, &id))
    }

    /// Names the fence counter of a lock: its id is derived from that of the lock.
    ///
    /// A key has 512 bytes at the most, so the id always fits, and what begins with `fence:` is always
    /// an id.
    pub(crate) fn fence(&self, lock: &DocumentName) -> DocumentName {
        self.document(&self.fences, &format!("fence:{}", lock.id()))
    }

    fn document(&self, collection: &str, id: &str) -> DocumentName {
        DocumentName(format!("{}/documents/{collection}/{id}", self.database))
    }
}

impl DocumentName {
    pub(crate) fn new(name: String) -> Self {
        Self(name)
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// What distinguishes it within its collection.
    fn id(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or_default()
    }
}

impl fmt::Debug for DocumentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DocumentName(..)")
    }
}

/// Tells whether the service takes a text as the id of a document or a collection, as its documentation
/// of limits has it.
pub(crate) fn is_id(text: &str) -> bool {
    let reserved = text.len() >= 4 && text.starts_with("__") && text.ends_with("__");
    !(text.is_empty()
        || text.len() > MAX_ID
        || text == "."
        || text == ".."
        || text.contains('/')
        || reserved)
}

#[cfg(test)]
mod tests {
    use syncguard_core::{KeyLayout, LockKey};

    use super::{Layout, is_id};

    fn layout() -> Layout {
        Layout::new("p", "(default)", "locks", "fence_counters")
    }

    fn key(text: &str) -> LockKey {
        LockKey::new(text).unwrap()
    }

    #[test]
    fn documents_are_where_typescript_has_them() {
        let lock = layout().lock(&key("payment:42")).unwrap();
        let root = "projects/p/databases/(default)/documents";
        assert_eq!(lock.as_str(), format!("{root}/locks/payment:42"));
        let fence = layout().fence(&lock);
        assert_eq!(fence.as_str(), format!("{root}/fence_counters/fence:payment:42"));
    }

    #[test]
    fn the_counters_id_is_that_of_the_common_derivation_up_to_the_longest_key() {
        for text in ["k", "fence:k", "a:b", &"x".repeat(512), &"é".repeat(256)] {
            let expected = KeyLayout::new("", 1_500, 0).fence_name(&key(text)).unwrap();
            let lock = layout().lock(&key(text)).unwrap();
            assert_eq!(layout().fence(&lock).id(), expected);
        }
    }

    #[test]
    fn a_key_that_is_no_id_is_stored_under_its_hash() {
        let mut names = std::collections::HashSet::new();
        for text in ["a/b", "/", "//", ".", "..", "__x__", "____", "a/__b__"] {
            let lock = layout().lock(&key(text)).unwrap();
            assert_eq!(lock.id().len(), 22, "{text:?}");
            assert!(is_id(lock.id()) && names.insert(lock));
        }
        for text in ["...", "__", "___", "__x", "x__", "nul\0", "a b"] {
            assert_eq!(layout().lock(&key(text)).unwrap().id(), text);
        }
    }

    #[test]
    fn the_name_of_a_document_is_in_no_log() {
        let lock = layout().lock(&key("patient:jane-doe")).unwrap();
        assert!(!format!("{lock:?}").contains("jane"));
    }
}
