//! The names of the documents.

use std::fmt;

use syncguard_core::{LockKey, backend::KeyLayout};

use crate::error::Failure;

/// The longest id of a document, in bytes.
const MAX_ID: usize = 1_500;

/// How deep collections may be nested below the outermost one.
const MAX_DEPTH: usize = 100;

/// Where the documents are.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    keys: KeyLayout,
    database: String,
    /// The prefixes of the names of locks and of counters, up to the slash after the collection.
    locks: String,
    fences: String,
}

/// The full name of a document.
///
/// It contains the text of a key, so it is never shown.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct DocumentName(String);

/// The documents of a key.
pub(crate) struct Names {
    pub(crate) lock: DocumentName,
    pub(crate) fence: DocumentName,
}

impl Layout {
    pub(crate) fn new(project: &str, database: &str, locks: &str, fences: &str) -> Self {
        let database = format!("projects/{project}/databases/{database}");
        let root = |collection: &str| format!("{database}/documents/{collection}/");
        Self {
            keys: KeyLayout::new("", MAX_ID, 0),
            locks: root(locks),
            fences: root(fences),
            database,
        }
    }

    /// Returns the name of the database.
    pub(crate) fn database(&self) -> &str {
        &self.database
    }

    /// Returns the documents of a key.
    pub(crate) fn names(&self, key: &LockKey) -> Result<Names, Failure> {
        let lock = self.lock(key)?;
        Ok(Names { fence: self.fence(&lock), lock })
    }

    /// Returns the name of the lock of a key.
    ///
    /// A key that the TypeScript SyncGuard accepts names the same document in both clients, which
    /// may lie below others: see [`path`]. Every other key is stored under its hash, which no other
    /// client reads.
    pub(crate) fn lock(&self, key: &LockKey) -> Result<DocumentName, Failure> {
        let name = self.keys.lock_name(key)?;
        let hashed = || self.keys.hashed_lock_name(key);
        let path = path(&name).map_or_else(hashed, |path| Ok(path.to_owned()))?;
        Ok(DocumentName(format!("{}{path}", self.locks)))
    }

    /// Returns the name of the fence counter of a lock: its path is that of the lock, after
    /// `fence:`.
    ///
    /// A key has at most 512 bytes, so its first segment always fits, and a segment that begins
    /// with `fence:` is always a valid id.
    pub(crate) fn fence(&self, lock: &DocumentName) -> DocumentName {
        let path = lock.0.strip_prefix(&self.locks).unwrap_or_default();
        DocumentName(format!("{}fence:{path}", self.fences))
    }

    /// Returns the name of the lock of a fence counter, if the document is one.
    pub(crate) fn lock_of_fence(&self, fence: &DocumentName) -> Option<DocumentName> {
        let path = fence.0.strip_prefix(&self.fences)?.strip_prefix("fence:")?;
        Some(DocumentName(format!("{}{path}", self.locks)))
    }

    /// Returns whether a lock lies below another document, where no query over the collection finds
    /// it.
    pub(crate) fn is_nested(&self, lock: &DocumentName) -> bool {
        lock.0.strip_prefix(&self.locks).is_some_and(|path| path.contains('/'))
    }
}

impl DocumentName {
    pub(crate) fn new(name: String) -> Self {
        Self(name)
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for DocumentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DocumentName(..)")
    }
}

/// Returns the path that a key names for the TypeScript SyncGuard, below the collection of locks,
/// or `None` if that client or the service refuses the key.
///
/// That client passes the key to `collection("locks").doc(key)`, and the counter's name to
/// `collection("fence_counters").doc("fence:" + key)`. Google's client for Node refuses `//`,
/// splits at slashes, drops empty segments, and needs an odd number of them. So a slash at the end
/// is dropped: `a/` is the document `a`, and both keys are one lock. A slash at the beginning would
/// be dropped as well, but it is inside the counter's name, which then has one more segment: one of
/// the two numbers is even.
fn path(key: &str) -> Option<&str> {
    let path = key.strip_suffix('/').unwrap_or(key);
    let segments: Vec<_> = path.split('/').collect();
    let (document, below) = segments.split_first()?;
    let (below, odd) = below.as_chunks();
    let accepted = odd.is_empty()
        && below.len() <= MAX_DEPTH
        && is_document_id(document)
        && below.iter().all(|[collection, document]| is_id(collection) && is_document_id(document));
    accepted.then_some(path)
}

/// Returns whether the service accepts a text as the id of a document: besides what [`is_id`]
/// allows, numbers such as `__id7__`, which databases that came from Datastore have.
fn is_document_id(text: &str) -> bool {
    let digits = text.strip_prefix("__id").and_then(|text| text.strip_suffix("__"));
    let number = |digits: &str| digits.parse::<i64>().is_ok_and(|n| n.to_string() == digits);
    is_id(text) || digits.is_some_and(number)
}

/// Returns whether the service accepts a text as the id of a collection, according to its
/// documented limits.
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
    use syncguard_core::{LockKey, backend::KeyLayout};

    use super::{Layout, is_id};

    fn layout() -> Layout {
        Layout::new("p", "(default)", "locks", "fence_counters")
    }

    fn key(text: &str) -> LockKey {
        LockKey::new(text).unwrap()
    }

    #[test]
    fn documents_have_the_same_paths_as_in_typescript() {
        let lock = layout().lock(&key("payment:42")).unwrap();
        let root = "projects/p/databases/(default)/documents";
        assert_eq!(lock.as_str(), format!("{root}/locks/payment:42"));
        let fence = layout().fence(&lock);
        assert_eq!(fence.as_str(), format!("{root}/fence_counters/fence:payment:42"));
    }

    /// Returns the path of a lock below its collection.
    fn path_of(text: &str) -> String {
        let lock = layout().lock(&key(text)).unwrap();
        lock.as_str().split_once("/locks/").unwrap().1.to_owned()
    }

    #[test]
    fn the_counter_path_follows_the_common_derivation_up_to_the_longest_key() {
        for text in ["k", "fence:k", "a:b", "a/b/c", &"x".repeat(512), &"é".repeat(256)] {
            let expected = KeyLayout::new("", 1_500, 0).fence_name(&key(text)).unwrap();
            let counter = layout().fence(&layout().lock(&key(text)).unwrap());
            assert_eq!(counter.as_str().split_once("/fence_counters/").unwrap().1, expected);
        }
    }

    #[test]
    fn a_key_that_typescript_cannot_use_is_stored_under_its_hash() {
        let mut names = std::collections::HashSet::new();
        let deep = format!("a{}", "/b/c".repeat(101));
        for text in [
            "a/b",
            "/",
            "//",
            ".",
            "..",
            "__x__",
            "____",
            "a/__b__",
            "/a",
            "/a/b",
            "/a/b/c",
            "a//",
            "a//b",
            "a//b/c",
            "./b/c",
            "a/./c",
            "a/b/..",
            "a/__id7__/c",
            "__id07__",
            &deep,
        ] {
            let path = path_of(text);
            assert_eq!(path.len(), 22, "{text:?}");
            assert!(is_id(&path) && names.insert(path));
        }
    }

    #[test]
    fn a_key_that_typescript_accepts_has_the_same_path_in_both_clients() {
        let deep = format!("a{}", "/b/c".repeat(100));
        for text in [
            "...",
            "__",
            "___",
            "__x",
            "x__",
            "nul\0",
            "a b",
            "a/b/c",
            "tenant/42/invoice",
            "__id7__",
            "a/b/__id-2__",
            &deep,
        ] {
            assert_eq!(path_of(text), text);
            assert_eq!(path_of(&format!("{text}/")), text, "the slash at the end is dropped");
        }
    }

    #[test]
    fn debug_output_omits_the_name_of_a_document() {
        let lock = layout().lock(&key("patient:jane-doe")).unwrap();
        assert!(!format!("{lock:?}").contains("jane"));
    }
}
