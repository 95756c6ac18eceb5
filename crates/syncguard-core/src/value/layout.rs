use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};

use super::{
    LockKey,
    invalid::{Invalid, InvalidValue},
};

/// Derives the names under which a store keeps a key's lock and its fence counter.
///
/// The derivation is that of the TypeScript SyncGuard, byte for byte: `prefix:key` if it fits into
/// the store's limit, otherwise the first 16 bytes of its SHA-256 in base64url under the same
/// prefix. Lengths are bytes of UTF-8; `reserve` is the additional length that the store's
/// own derived names need.
///
/// A key whose text equals the hashed form of another key shares the lock of that key. This
/// excludes too much, never too little, and keeps one name for one key in both languages.
///
/// # Examples
///
/// ```
/// use syncguard_core::{LockKey, backend::KeyLayout};
///
/// let layout = KeyLayout::new("syncguard", 1_000, 26);
/// let key = LockKey::new("payment:123")?;
/// assert_eq!(layout.lock_name(&key)?, "syncguard:payment:123");
/// assert_eq!(layout.fence_name(&key)?, "syncguard:fence:syncguard:payment:123");
/// # Ok::<(), syncguard_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyLayout {
    prefix: String,
    limit: usize,
    reserve: usize,
}

impl KeyLayout {
    /// Creates a layout. Colons at the end of the prefix are dropped; the prefix may be empty.
    ///
    /// # Examples
    ///
    /// ```
    /// use syncguard_core::backend::KeyLayout;
    ///
    /// assert_eq!(KeyLayout::new("app:", 1_000, 0), KeyLayout::new("app", 1_000, 0));
    /// ```
    pub fn new(prefix: &str, limit: usize, reserve: usize) -> Self {
        Self { prefix: prefix.trim_end_matches(':').to_owned(), limit, reserve }
    }

    /// Returns the name of the lock of `key`.
    ///
    /// # Errors
    ///
    /// [`InvalidValue`] if the prefix leaves no room even for the hashed form.
    ///
    /// # Examples
    ///
    /// ```
    /// use syncguard_core::{LockKey, backend::KeyLayout};
    ///
    /// let layout = KeyLayout::new("app", 64, 0);
    /// assert_eq!(layout.lock_name(&LockKey::new("payment:123")?)?, "app:payment:123");
    ///
    /// let long = LockKey::new(&"x".repeat(80))?; // over the limit of 64, therefore hashed
    /// assert_eq!(layout.lock_name(&long)?.len(), "app:".len() + 22);
    /// # Ok::<(), syncguard_core::Error>(())
    /// ```
    pub fn lock_name(&self, key: &LockKey) -> Result<String, InvalidValue> {
        self.derive(key.as_str())
    }

    /// Returns the name of the fence counter of `key`, derived from the name of its lock.
    ///
    /// # Errors
    ///
    /// As [`lock_name`](Self::lock_name).
    pub fn fence_name(&self, key: &LockKey) -> Result<String, InvalidValue> {
        self.derive(&["fence:", &self.lock_name(key)?].concat())
    }

    /// Returns the name of the lock of `key` in its hashed form, regardless of its length. For keys
    /// whose plain form the store cannot hold or would confuse with a name of its own.
    ///
    /// # Errors
    ///
    /// As [`lock_name`](Self::lock_name).
    ///
    /// # Examples
    ///
    /// ```
    /// use syncguard_core::{LockKey, backend::KeyLayout};
    ///
    /// let layout = KeyLayout::new("app", 64, 0);
    /// let name = layout.hashed_lock_name(&LockKey::new("payment:123")?)?;
    /// assert!(name.starts_with("app:"));
    /// assert_eq!(name.len(), "app:".len() + 22);
    /// # Ok::<(), syncguard_core::Error>(())
    /// ```
    pub fn hashed_lock_name(&self, key: &LockKey) -> Result<String, InvalidValue> {
        self.hashed(&self.join(key.as_str()))
    }

    fn derive(&self, text: &str) -> Result<String, InvalidValue> {
        let plain = self.join(text);
        if plain.len() + self.reserve <= self.limit {
            return Ok(plain);
        }
        self.hashed(&plain)
    }

    fn hashed(&self, plain: &str) -> Result<String, InvalidValue> {
        let digest = Sha256::digest(plain.as_bytes());
        let name = self.join(&URL_SAFE_NO_PAD.encode(&digest[..16]));
        if name.len() + self.reserve > self.limit {
            let prefix = self.prefix.len();
            return Err(
                Invalid::LongPrefix { prefix, limit: self.limit, reserve: self.reserve }.into()
            );
        }
        Ok(name)
    }

    fn join(&self, text: &str) -> String {
        if self.prefix.is_empty() { text.to_owned() } else { [&self.prefix, ":", text].concat() }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{KeyLayout, LockKey};

    proptest! {
        #[test]
        fn no_name_exceeds_its_limit(
            prefix in "[a-z:é]{0,40}", key in "\\PC{1,200}", limit in 20usize..400, reserve in 0usize..30
        ) {
            let (layout, key) = (KeyLayout::new(&prefix, limit, reserve), LockKey::new(&key).unwrap());
            for name in [layout.lock_name(&key), layout.fence_name(&key), layout.hashed_lock_name(&key)] {
                prop_assert!(name.is_err() || name.is_ok_and(|name| name.len() + reserve <= limit));
            }
        }

        #[test]
        fn different_keys_get_different_names(one in "\\PC{1,80}", other in "\\PC{1,80}") {
            let layout = KeyLayout::new("app", 64, 0);
            let (one, other) = (LockKey::new(&one).unwrap(), LockKey::new(&other).unwrap());
            prop_assert_eq!(layout.lock_name(&one).unwrap() == layout.lock_name(&other).unwrap(), one == other);
            prop_assert_eq!(layout.fence_name(&one).unwrap() == layout.fence_name(&other).unwrap(), one == other);
        }

        #[test]
        fn keys_that_are_equal_in_nfc_get_one_name(key in "\\PC{1,60}") {
            use unicode_normalization::UnicodeNormalization;
            let layout = KeyLayout::new("app", 64, 26);
            let decomposed = LockKey::new(&key.nfd().collect::<String>()).unwrap();
            let composed = LockKey::new(&key.nfc().collect::<String>()).unwrap();
            prop_assert_eq!(layout.lock_name(&composed).unwrap(), layout.lock_name(&decomposed).unwrap());
        }
    }
}
