//! The names of the tables, and the only place that writes them into a statement. Also the names
//! under which a key is stored.

use syncguard_core::{LockId, LockKey, backend::KeyLayout};

use crate::error::Failure;

/// The longest name that PostgreSQL keeps whole, in bytes.
const MAX_IDENTIFIER_BYTES: usize = 63;

/// The length that the names of a table's indexes add to its own: `idx_` and `_lock_id`, or
/// `_expires`.
const INDEX_AFFIXES: usize = 12;

/// The longest name of a table, so that no name of an index is cut off.
const MAX_TABLE_BYTES: usize = MAX_IDENTIFIER_BYTES - INDEX_AFFIXES;

/// The longest stored key, in bytes, as in the TypeScript SyncGuard. A key has at most 512 bytes,
/// so no key is ever hashed for its length.
const MAX_KEY_BYTES: usize = 1_700;

/// The first half of the advisory locks that show that a client waits; the second is the bucket of
/// the key. Locks of two halves are distinct from locks of one number, which acquires queue by.
pub(crate) const WAITER_CLASS: i32 = i32::from_be_bytes(*b"SGwt");

/// The functions of shared mode and of the line, and the types of what they take.
const FUNCTIONS: [(&str, &str); 6] = [
    ("share", "boolean, text, text[], bigint[], text[], bigint, text, text, bigint, bigint, text"),
    ("extend", "text, bigint, bigint, boolean"),
    ("leave", "text[], text, bigint, text, integer"),
    ("live", "jsonb, bigint, bigint"),
    ("enter", "text, text, bigint, bigint, bigint"),
    ("next", "text, bigint, boolean"),
];

/// The validated names of two different tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tables {
    locks: String,
    counters: String,
}

impl Tables {
    /// Accepts letters, digits and underscores of ASCII, not beginning with a digit. Such a name
    /// needs no escaping, and cannot break out of its quotes.
    pub(crate) fn new(locks: &str, counters: &str) -> Result<Self, Failure> {
        for name in [locks, counters] {
            if !is_plain(name) {
                let rule = format!(
                    "the table name {name:?} is invalid: it must be 1 to {MAX_TABLE_BYTES} letters, \
                     digits and underscores of ASCII, and must not begin with a digit"
                );
                return Err(Failure::Config(rule));
            }
        }
        if locks == counters {
            return Err(Failure::Config(format!("both tables have the name {locks:?}")));
        }
        let use_of_name = match counters.strip_prefix(locks) {
            Some("_schema") => Some("records the revision"),
            Some("_line") => Some("lists the waiters"),
            _ => None,
        };
        if let Some(use_of_name) = use_of_name {
            let rule = format!("{counters:?} is the name of the table that {use_of_name}");
            return Err(Failure::Config(rule));
        }
        Ok(Self { locks: locks.to_owned(), counters: counters.to_owned() })
    }

    /// Fills the names into the text of a statement, quoted.
    pub(crate) fn fill(&self, text: &str) -> String {
        let index = |kind: &str| quoted(&format!("idx_{}_{kind}", self.locks));
        text.replace("{locks}", &self.quoted_locks())
            .replace("{counters}", &self.quoted_counters())
            .replace("{schema}", &self.quoted_schema())
            .replace("{locks_lock_id}", &index("lock_id"))
            .replace("{locks_expires}", &index("expires"))
            .replace("{locks_line}", &index("line"))
            .replace("{line}", &self.quoted_line())
            .replace("{share}", &self.quoted_function("share"))
            .replace("{extend}", &self.quoted_function("extend"))
            .replace("{leave}", &self.quoted_function("leave"))
            .replace("{live}", &self.quoted_function("live"))
            .replace("{functions}", &self.functions())
            .replace("{max_key_bytes}", &LockKey::MAX_BYTES.to_string())
            .replace("{enter}", &self.quoted_function("enter"))
            .replace("{next}", &self.quoted_function("next"))
    }

    pub(crate) fn quoted_locks(&self) -> String {
        quoted(&self.locks)
    }

    pub(crate) fn quoted_counters(&self) -> String {
        quoted(&self.counters)
    }

    /// The table that records the revision of the other two.
    pub(crate) fn quoted_schema(&self) -> String {
        quoted(&format!("{}_schema", self.locks))
    }

    /// The table of the waiters in line.
    fn quoted_line(&self) -> String {
        quoted(&format!("{}_line", self.locks))
    }

    /// The signatures of the functions of shared mode and of the line, as an array of texts.
    fn functions(&self) -> String {
        let signatures = FUNCTIONS
            .map(|(name, types)| format!("'{}({types})'", self.quoted_function(name)))
            .join(", ");
        format!("ARRAY[{signatures}]")
    }

    fn quoted_function(&self, name: &str) -> String {
        quoted(&format!("{}_{name}", self.locks))
    }

    /// The channel for notifications of releases: one for each lock table of a database.
    pub(crate) fn channel(&self) -> String {
        format!("{}_released", self.locks)
    }
}

fn is_plain(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    (1..=MAX_TABLE_BYTES).contains(&name.len())
        && name.chars().all(plain)
        && !name.starts_with(|c: char| c.is_ascii_digit())
}

fn quoted(name: &str) -> String {
    format!("\"{name}\"")
}

/// A key as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoredKey {
    /// The primary key of its lock.
    pub(crate) key: String,
    /// The primary key of its fence counter.
    pub(crate) fence_key: String,
    /// The user's key as it is, for people and other clients to read.
    pub(crate) user_key: String,
}

impl StoredKey {
    /// Returns the names under which a key is stored.
    ///
    /// PostgreSQL's text cannot hold U+0000. A key that does is stored under its hashed form, and
    /// readably with an escape. Such a row is recognized by the difference between the two: in rows
    /// of other clients they never differ.
    pub(crate) fn of(key: &LockKey) -> Result<Self, Failure> {
        let layout = KeyLayout::new("", MAX_KEY_BYTES, 0);
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

/// Reads a user's key from its stored form. It must be the one that is stored under `key`.
pub(crate) fn user_key(key: &str, user_key: &str) -> Option<LockKey> {
    let read = match key == user_key {
        true => LockKey::new(user_key),
        false => LockKey::new(&unescaped(user_key)),
    };
    read.ok().filter(|read| StoredKey::of(read).is_ok_and(|stored| stored.key == key))
}

/// Returns the key of the tombstone of an abandoned id: too long to be the key of any user.
pub(crate) fn tombstone_key(id: LockId) -> String {
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

    use super::{MAX_TABLE_BYTES, StoredKey, Tables, escaped, tombstone_key, unescaped, user_key};

    fn stored(text: &str) -> StoredKey {
        StoredKey::of(&LockKey::new(text).unwrap()).unwrap()
    }

    #[test]
    fn names_that_could_break_out_of_their_quotes_or_be_cut_off_are_refused() {
        let long = "x".repeat(MAX_TABLE_BYTES + 1);
        for bad in
            ["", "a b", "a\"b", "a;b", "a.b", "1a", "é", "a\0b", "--", "{counters}", long.as_str()]
        {
            assert!(Tables::new(bad, "counters").is_err(), "{bad:?}");
            assert!(Tables::new("locks", bad).is_err(), "{bad:?}");
        }
        assert!(Tables::new("same", "same").is_err());
        assert!(Tables::new("locks", "locks_schema").is_err());
        assert!(Tables::new("locks", "locks_line").is_err());
    }

    #[test]
    fn the_longest_name_leaves_room_for_its_indexes() {
        let longest = "x".repeat(MAX_TABLE_BYTES);
        let tables = Tables::new(&longest, "Counters_2").unwrap();
        let filled = tables.fill("{locks} {counters} {locks_lock_id} {locks_expires}");
        assert!(filled.contains("\"Counters_2\"") && !filled.contains('{'), "{filled}");
        assert!(filled.split(' ').all(|name| name.len() <= 63 + 2), "{filled}");
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
    fn an_escaped_text_is_read_back() {
        for text in ["", "a", r"\", r"\0", "\0", "\\\0", r"\\0\\", "0\0"] {
            assert_eq!(unescaped(&escaped(text)), text);
        }
    }

    #[test]
    fn the_key_of_a_tombstone_is_not_a_valid_key() {
        let (one, other) = (LockId::mint().unwrap(), LockId::mint().unwrap());
        let key = tombstone_key(one);
        assert!(key.len() > LockKey::MAX_BYTES && LockKey::new(&key).is_err());
        assert_ne!(key, tombstone_key(other));
    }
}
