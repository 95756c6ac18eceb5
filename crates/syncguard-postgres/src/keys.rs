//! The names under which a key is stored.

use syncguard_core::{KeyLayout, LockId, LockKey};

use crate::error::Failure;

/// The longest key as stored, in bytes: that of the TypeScript SyncGuard. A key has at most 512, so
/// none is ever hashed for its length.
const LIMIT: usize = 1_700;

/// The first half of the advisory locks that show that a client waits; the second is the bucket of the
/// key. Locks of two halves are different from those of one number, by which acquires queue.
pub(crate) const WAITER_CLASS: i32 = i32::from_be_bytes(*b"SGwt");

/// A key as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoredKey {
    /// The primary key of its lock.
    pub(crate) key: String,
    /// The primary key of its fence counter.
    pub(crate) fence_key: String,
    /// The key as the user gave it, for people and other clients to read.
    pub(crate) user_key: String,
}

impl StoredKey {
    /// Names a key by itself.
    ///
    /// PostgreSQL's text cannot hold U+0000. A key that does is stored under its hashed form, and
    /// readably with an escape. That the two differ says so: other clients never let them.
    pub(crate) fn of(key: &LockKey) -> Result<Self, Failure> {
        let layout = KeyLayout::new("", LIMIT, 0);
        if key.as_str().contains('\0') {
            let hashed = layout.hashed_lock_name(key)?;
            let fence_key = format!("fence:{hashed}");
            return Ok(Self { key: hashed, fence_key, user_key: escaped(key.as_str()) });
        }
        Ok(Self {
            key: layout.lock_name(key)?,
            fence_key: layout.fence_name(key)?,
            user_key: key.as_str().to_owned(),
        })
    }
}

/// Reads the key of a user from what is stored of it. It must be the one that is stored under this key.
pub(crate) fn user_key(key: &str, user_key: &str) -> Option<LockKey> {
    let read = match key == user_key {
        true => LockKey::new(user_key),
        false => LockKey::new(&unescaped(user_key)),
    };
    read.ok().filter(|read| StoredKey::of(read).is_ok_and(|stored| stored.key == key))
}

/// Names the mark of an abandoned id: too long to be the key of any user.
pub(crate) fn mark(id: LockId) -> String {
    format!("abandoned:{}:{:.>width$}", id.as_str(), "", width = LockKey::MAX_BYTES)
}

/// Writes `\0` for NUL and `\\` for a backslash.
pub(crate) fn escaped(text: &str) -> String {
    text.replace('\\', r"\\").replace('\0', r"\0")
}

fn unescaped(text: &str) -> String {
    let mut characters = text.chars();
    let next = || match characters.next()? {
        '\\' => characters.next().map(|escaped| if escaped == '0' { '\0' } else { escaped }),
        plain => Some(plain),
    };
    std::iter::from_fn(next).collect()
}

#[cfg(test)]
mod tests {
    use syncguard_core::{LockId, LockKey};

    use super::{StoredKey, escaped, mark, unescaped, user_key};

    fn stored(text: &str) -> StoredKey {
        StoredKey::of(&LockKey::new(text).unwrap()).unwrap()
    }

    #[test]
    fn a_key_is_stored_as_it_is() {
        let longest = "é".repeat(256);
        for text in ["k", "fence:k", r"a\0b", longest.as_str()] {
            let stored = stored(text);
            assert_eq!((stored.key.as_str(), stored.user_key.as_str()), (text, text));
            assert_eq!(stored.fence_key, format!("fence:{text}"));
        }
    }

    #[test]
    fn a_key_that_text_cannot_hold_is_hashed_and_read_back() {
        for text in ["\0", "nul\0key", "nul\0", "\\\0\\0\\\\0"] {
            let stored = stored(text);
            assert_eq!(stored.key.len(), 22, "{text:?}");
            assert!(!stored.user_key.contains('\0') && stored.user_key != stored.key);
            let read = user_key(&stored.key, &stored.user_key).unwrap();
            assert_eq!(read.as_str(), text);
        }
    }

    #[test]
    fn what_is_escaped_is_read_back() {
        for text in ["", "a", r"\", r"\0", "\0", "\\\0", r"\\0\\", "0\0"] {
            assert_eq!(unescaped(&escaped(text)), text);
        }
    }

    #[test]
    fn a_mark_is_no_key() {
        let (one, other) = (LockId::mint().unwrap(), LockId::mint().unwrap());
        assert!(mark(one).len() > LockKey::MAX_BYTES && LockKey::new(&mark(one)).is_err());
        assert_ne!(mark(one), mark(other));
    }
}
