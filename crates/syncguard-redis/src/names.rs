//! The names under which a lock is kept.

use syncguard_core::{Error, LockId, LockKey, backend::KeyLayout};

/// The longest name that the formats allow, and the length that the name of an id adds to a prefix:
/// `:id:` and 22 characters.
const MAX_NAME_BYTES: usize = 1_000;
const RESERVED_BYTES: usize = 26;

/// Ends the names of shared holders. It begins with U+037E, the Greek question mark.
const SHARED_SUFFIX: &str = "\u{37e}shared";

/// Ends the names of the lines of waiters, and of the marks that say that someone is in line.
const LINE_SUFFIX: &str = "\u{37e}line";
const MARK_SUFFIX: &str = "\u{37e}waits";

/// Ends the names of channels. The scripts append it as well.
const CHANNEL_SUFFIX: &str = ":released";

/// The number of characters in a lock id.
const ID_LENGTH: usize = 22;

/// Derives the names of locks, fence counters, id entries, shared holders, lines and channels.
///
/// An **id entry** is stored for each lock id. It contains the name of the lock that was granted to
/// the id. If the id was abandoned, the entry is empty and is its tombstone. It is in the slot of
/// its lock, because acquire reads and writes both. An **index** maps an id to the name of its
/// lock. It is a hint, because every script verifies the owner.
///
/// The **plain** layout, that of the TypeScript SyncGuard, is for a single server: `p:key`,
/// `p:fence:p:key`, and `p:id:<id>`, which is both id entry and index.
///
/// The **tagged** layout is for a cluster: `{p:key}`, `{p:key}:fence`, `{p:key}:id:<id>` share a
/// slot, whatever the key contains, because the hash tag begins at the first brace, which is ours,
/// and is never empty. The index `p:id:<id>` has a slot of its own. No two names collide: the name
/// of a lock ends with a brace, that of a counter or an id never does, and only that of an id ends
/// with its 22 characters.
///
/// In both layouts, the [shared holders](LockName::shared) of a lock and the [line](LockName::line)
/// of its waiters have the name of the lock and a suffix that no key contains.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    shape: Shape,
    prefix: String,
    keys: KeyLayout,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    Plain,
    Tagged,
}

/// The name of a lock, from which those of its id entry, its shared holders and its channel are
/// derived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LockName(String);

impl LockName {
    /// Wraps a name that an index or a scan returned.
    pub(crate) fn new(name: String) -> Self {
        Self(name)
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the channel to which a release is published.
    pub(crate) fn channel(&self) -> String {
        [&self.0, CHANNEL_SUFFIX].concat()
    }

    /// Returns the name of the lock whose releases are published to a channel.
    pub(crate) fn of_channel(channel: &str) -> Option<Self> {
        channel.strip_suffix(CHANNEL_SUFFIX).map(|name| Self(name.to_owned()))
    }

    /// Returns the name of the hash of its shared holders, which is in the slot of the lock.
    ///
    /// It is the name of no lock: a key is in normal form C, which replaces every U+037E by a
    /// semicolon, before either client derives a name from it.
    pub(crate) fn shared(&self) -> String {
        [&self.0, SHARED_SUFFIX].concat()
    }

    /// Returns the name of the mark that says that someone is in line, and that of the line of its
    /// waiters. Both are in the slot of the lock, and the names of no lock either.
    pub(crate) fn line(&self) -> [String; 2] {
        [MARK_SUFFIX, LINE_SUFFIX].map(|suffix| [self.0.as_str(), suffix].concat())
    }
}

impl Layout {
    /// The longest prefix: with it, every key of 512 bytes and every counter still has its plain or
    /// its hashed name.
    pub(crate) const MAX_PREFIX: usize = 400;

    /// Describes a layout. Colons at the end of the prefix are dropped.
    pub(crate) fn new(prefix: &str, shape: Shape) -> Self {
        // The braces of a tag need two more bytes.
        let reserve = match shape {
            Shape::Plain => RESERVED_BYTES,
            Shape::Tagged => RESERVED_BYTES + 2,
        };
        Self {
            shape,
            prefix: prefix.trim_end_matches(':').to_owned(),
            keys: KeyLayout::new(prefix, MAX_NAME_BYTES, reserve),
        }
    }

    /// Returns whether a lock under this prefix can have the name of another prefix's fence counter
    /// in the plain layout. It would overwrite the counter.
    ///
    /// The counters of the prefix `p` are `p:fence:p:…`, those of the empty prefix `fence:…`. So
    /// the part before `fence` is the other prefix, and what follows begins with it, or is the
    /// beginning of it.
    pub(crate) fn is_among_counters(prefix: &str) -> bool {
        let parts: Vec<_> = prefix.trim_end_matches(':').split(':').collect();
        parts.iter().enumerate().filter(|(_, part)| **part == "fence").any(|(place, _)| {
            let (other, rest) = (&parts[..place], &parts[place + 1..]);
            rest.starts_with(other) || other.starts_with(rest)
        })
    }

    pub(crate) fn shape(&self) -> Shape {
        self.shape
    }

    /// Returns the name of the lock of a key.
    ///
    /// In the plain layout, a key whose name would be that of a counter or of an id is stored under
    /// its hashed form: `fence:p:k` would otherwise be the counter of `k`. No other key is, because
    /// the TypeScript client stores it under its plain name, and two names for one key are two
    /// locks.
    pub(crate) fn lock(&self, key: &LockKey) -> Result<LockName, Error> {
        match self.shape {
            Shape::Plain if self.is_derived(key.as_str()) => {
                Ok(LockName(self.keys.hashed_lock_name(key)?))
            }
            Shape::Plain => Ok(LockName(self.keys.lock_name(key)?)),
            Shape::Tagged => Ok(LockName(format!("{{{}}}", self.keys.lock_name(key)?))),
        }
    }

    /// Returns the name of the fence counter of a key whose lock has this name.
    pub(crate) fn fence(&self, key: &LockKey, lock: &LockName) -> Result<String, Error> {
        match self.shape {
            // The name of the counter follows from that of the lock, and a hashed one is short.
            Shape::Plain if self.is_derived(key.as_str()) => {
                Ok(self.join(&format!("fence:{}", lock.0)))
            }
            Shape::Plain => Ok(self.keys.fence_name(key)?),
            Shape::Tagged => Ok(format!("{}:fence", lock.0)),
        }
    }

    /// Returns the name of the entry of an id, which is in the slot of its lock.
    pub(crate) fn id_entry(&self, lock: &LockName, id: LockId) -> String {
        match self.shape {
            Shape::Plain => self.index(id),
            Shape::Tagged => format!("{}:id:{}", lock.0, id.as_str()),
        }
    }

    /// Returns the name of the index entry that maps an id to its lock.
    pub(crate) fn index(&self, id: LockId) -> String {
        self.join(&["id:", id.as_str()].concat())
    }

    /// Returns the `SCAN` pattern that matches the names of all locks whose keys begin with a text,
    /// and possibly others.
    pub(crate) fn pattern(&self, text: &str) -> String {
        // A hashed name reveals nothing about its key.
        let hashed = |word: &str| word.starts_with(text) || text.starts_with(word);
        let text = match self.shape {
            Shape::Plain if hashed("id:") || hashed(&self.counter_word()) => "",
            _ => text,
        };
        let brace = match self.shape {
            Shape::Plain => "",
            Shape::Tagged => "{",
        };
        format!("{brace}{}*", escape(&self.join(text)))
    }

    /// Returns the `SCAN` pattern that matches the names of all counters, and possibly others. The
    /// hashed name of a counter, which only a long prefix makes necessary, is not among them.
    pub(crate) fn counter_pattern(&self) -> String {
        match self.shape {
            Shape::Plain => format!("{}*", escape(&self.join(&self.counter_word()))),
            Shape::Tagged => format!("{{{}*}}:fence", escape(&self.join(""))),
        }
    }

    /// Returns the lock of a scanned name if the name is that of a counter.
    pub(crate) fn lock_of_counter(&self, name: &str) -> Option<LockName> {
        let lock = match self.shape {
            Shape::Plain => {
                let text = name.strip_prefix(&self.join(""))?;
                text.strip_prefix("fence:").filter(|_| self.is_derived(text))?
            }
            Shape::Tagged => name.strip_suffix(":fence").filter(|lock| self.is_lock(lock))?,
        };
        Some(LockName(lock.to_owned()))
    }

    /// Returns whether a scanned name is that of a lock.
    pub(crate) fn is_lock(&self, name: &str) -> bool {
        match self.shape {
            Shape::Plain => {
                let text = name.strip_prefix(&self.join(""));
                let is_beside = |text: &str| {
                    [SHARED_SUFFIX, LINE_SUFFIX, MARK_SUFFIX]
                        .iter()
                        .any(|suffix| text.ends_with(suffix))
                };
                text.is_some_and(|text| !self.is_derived(text) && !is_beside(text))
            }
            Shape::Tagged => name.starts_with('{') && name.ends_with('}'),
        }
    }

    /// Returns whether a plain name with this text after its prefix is that of an id entry or of a
    /// counter.
    ///
    /// An id entry is `id:` and a lock id. A counter is `fence:` and the name of a lock, which has
    /// at least one character after the prefix: `fence:p:` is a key like any other.
    fn is_derived(&self, text: &str) -> bool {
        let is_id = |id: &str| {
            id.len() == ID_LENGTH
                && id
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        };
        if let Some(name) = text.strip_prefix("fence:") {
            let key = match self.prefix.as_str() {
                "" => Some(name),
                prefix => name.strip_prefix(prefix).and_then(|rest| rest.strip_prefix(':')),
            };
            return key.is_some_and(|key| !key.is_empty());
        }
        text.strip_prefix("id:").is_some_and(is_id)
    }

    /// The part of every counter's name in the position where a key would begin.
    fn counter_word(&self) -> String {
        format!("fence:{}", self.join(""))
    }

    fn join(&self, text: &str) -> String {
        match self.prefix.as_str() {
            "" => text.to_owned(),
            prefix => [prefix, ":", text].concat(),
        }
    }
}

/// Escapes the characters that have a meaning in a pattern.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if matches!(character, '*' | '?' | '[' | ']' | '\\' | '^' | '-') {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    escaped
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use syncguard_core::{LockId, LockKey};

    use super::{Layout, LockName, Shape};

    const ID: &str = "abcdefghijklmnopqrstuv";

    fn names(layout: &Layout, key: &str) -> [String; 3] {
        let (key, id) = (LockKey::new(key).unwrap(), ID.parse::<LockId>().unwrap());
        let lock = layout.lock(&key).unwrap();
        let fence = layout.fence(&key, &lock).unwrap();
        [lock.as_str().to_owned(), fence, layout.id_entry(&lock, id)]
    }

    #[test]
    fn the_plain_layout_is_that_of_the_stored_formats() {
        let plain = Layout::new("syncguard", Shape::Plain);
        assert_eq!(
            names(&plain, "payment:42"),
            [
                "syncguard:payment:42",
                "syncguard:fence:syncguard:payment:42",
                "syncguard:id:abcdefghijklmnopqrstuv",
            ]
        );
    }

    #[test]
    fn only_a_key_that_looks_like_a_derived_name_is_stored_under_its_hashed_form() {
        let id = format!("id:{ID}");
        let (longer, foreign) = (format!("{id}w"), format!("id:{}+", &ID[..21]));
        for (prefix, key, hashed) in [
            ("syncguard", id.as_str(), true),
            ("syncguard", "fence:syncguard:k", true),
            ("syncguard::", "fence:syncguard:k", true),
            ("", "fence:k", true),
            ("", &id, true),
            ("syncguard", "id:42", false),
            ("syncguard", "id:", false),
            ("syncguard", &longer, false),
            ("syncguard", &foreign, false),
            ("syncguard", "fence:payments", false),
            ("syncguard", "fence:syncguard", false),
            ("syncguard", "fence:syncguard:", false),
            ("syncguard", "fence:other:k", false),
            ("", "fence:", false),
        ] {
            let plain = Layout::new(prefix, Shape::Plain);
            let [lock, fence, _] = names(&plain, key);
            let joined = plain.join(key);
            assert_eq!(lock != joined, hashed, "{prefix} {key}");
            assert_eq!(fence, plain.join(&format!("fence:{lock}")));
            assert!(plain.is_lock(&lock) && !plain.is_lock(&fence), "{prefix} {key}");
        }
    }

    #[test]
    fn no_two_names_of_different_keys_collide() {
        let texts = [
            "k",
            "id:k",
            "id:abcdefghijklmnopqrstuv",
            "fence:k",
            "fence:syncguard:k",
            "fence:syncguard:",
            "}",
            "{",
            "{}",
            "k}",
            "k}:fence",
            "a}b",
            "k}:id:abcdefghijklmnopqrstuv",
            "syncguard:k",
            ":",
        ];
        for shape in [Shape::Plain, Shape::Tagged] {
            let layout = Layout::new("syncguard", shape);
            let mut seen = HashSet::new();
            for [lock, fence, id_entry] in texts.map(|text| names(&layout, text)) {
                assert!(
                    layout.is_lock(&lock) && !layout.is_lock(&fence) && !layout.is_lock(&id_entry)
                );
                let lock_name = LockName(lock.clone());
                assert_eq!(layout.lock_of_counter(&fence), Some(lock_name), "{fence}");
                assert!(layout.lock_of_counter(&lock).is_none(), "{lock}");
                assert!(layout.lock_of_counter(&id_entry).is_none(), "{id_entry}");
                assert!(seen.insert(lock.clone()) && seen.insert(fence), "{lock}");
            }
        }
    }

    #[test]
    fn the_tagged_names_of_a_key_share_a_hash_tag_whatever_the_key_contains() {
        let tagged = Layout::new("syncguard", Shape::Tagged);
        for key in ["k", "}", "{}", "a}b{c}", "{x"] {
            let tags = names(&tagged, key).map(|name| {
                let rest = name.strip_prefix('{').unwrap().to_owned();
                rest.split('}').next().unwrap().to_owned()
            });
            assert!(!tags[0].is_empty());
            assert!(tags.iter().all(|tag| *tag == tags[0]), "{tags:?}");
        }
    }

    #[test]
    fn the_longest_prefix_leaves_room_for_every_key() {
        for shape in [Shape::Plain, Shape::Tagged] {
            let layout = Layout::new(&"p".repeat(Layout::MAX_PREFIX), shape);
            for key in ["k".repeat(512), format!("fence:{}", "k".repeat(506)), format!("id:{ID}")] {
                let [lock, fence, id_entry] = names(&layout, &key);
                assert!(lock.len() + 26 <= 1_000 && fence.len() <= 1_000, "{}", fence.len());
                assert!(id_entry.len() <= 1_000);
            }
        }
    }

    #[test]
    fn a_pattern_matches_hashed_names_and_escapes_wildcards() {
        let plain = Layout::new("a*b", Shape::Plain);
        assert_eq!(plain.pattern("job:[1]"), r"a\*b:job:\[1\]*");
        for text in ["", "i", "id:x", "fence", "fence:a*b:y"] {
            assert_eq!(plain.pattern(text), r"a\*b:*");
        }
        assert_eq!(plain.pattern("fence:y"), r"a\*b:fence:y*");
        assert_eq!(Layout::new("p", Shape::Tagged).pattern("id:"), "{p:id:*");
        assert_eq!(plain.counter_pattern(), r"a\*b:fence:a\*b:*");
        assert_eq!(Layout::new("p", Shape::Tagged).counter_pattern(), "{p:*}:fence");
    }

    #[test]
    fn the_names_of_holders_and_lines_are_in_the_slot_of_their_lock_and_those_of_no_lock() {
        assert_eq!(LockKey::new("k\u{37e}shared").unwrap().as_str(), "k;shared");
        for (shape, name) in [(Shape::Plain, "p:k"), (Shape::Tagged, "{p:k}")] {
            let layout = Layout::new("p", shape);
            let lock = layout.lock(&LockKey::new("k").unwrap()).unwrap();
            assert!(layout.is_lock(lock.as_str()));
            let [mark, line] = lock.line();
            for (beside, suffix) in
                [(lock.shared(), "\u{37e}shared"), (line, "\u{37e}line"), (mark, "\u{37e}waits")]
            {
                assert_eq!(beside, format!("{name}{suffix}"));
                assert!(!layout.is_lock(&beside));
                let key = LockKey::new(&format!("k{suffix}")).unwrap();
                let alike = layout.lock(&key).unwrap();
                assert!(layout.is_lock(alike.as_str()) && alike.as_str() != beside);
            }
        }
    }

    #[test]
    fn a_channel_name_contains_the_name_of_its_lock() {
        let lock = LockName::new("{p:k}".to_owned());
        assert_eq!(lock.channel(), "{p:k}:released");
        assert_eq!(LockName::of_channel(&lock.channel()), Some(lock));
        assert_eq!(LockName::of_channel("{p:k}"), None);
    }
}
