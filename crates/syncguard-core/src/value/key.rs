use std::{fmt, str::FromStr, sync::Arc};

use unicode_normalization::{UnicodeNormalization, is_nfc};

use super::{
    DisplayHash,
    invalid::{Invalid, InvalidValue},
    serde_as_text,
};

/// Names what is locked: 1 to 512 bytes of UTF-8 in Unicode normal form C.
///
/// Two spellings of the same text (`é` as one character or as two) are one key. Any character is
/// allowed. `Display` and `Debug` show the [`DisplayHash`], because keys tend to contain names and
/// numbers of people; [`as_str`](Self::as_str) returns the text. The hash protects no secret unless
/// a [key](DisplayHash::set_key) is set. Cloning is cheap.
///
/// # Examples
///
/// ```
/// use syncguard_core::LockKey;
///
/// let key: LockKey = "cafe\u{301}".parse()?;
/// assert_eq!(key.as_str(), "caf\u{e9}");
/// assert!("".parse::<LockKey>().is_err());
/// # Ok::<(), syncguard_core::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LockKey(Arc<str>);

impl LockKey {
    /// The longest key, in bytes of UTF-8 after normalisation.
    pub const MAX_BYTES: usize = 512;

    /// Normalises `text` to NFC and checks its length.
    ///
    /// # Errors
    ///
    /// [`InvalidValue`] if the text is empty or longer than [`MAX_BYTES`](Self::MAX_BYTES).
    ///
    /// # Examples
    ///
    /// ```
    /// use syncguard_core::LockKey;
    ///
    /// assert!(LockKey::new("payment:42").is_ok());
    /// assert!(LockKey::new("").is_err());
    /// assert!(LockKey::new(&"x".repeat(LockKey::MAX_BYTES + 1)).is_err());
    /// ```
    pub fn new(text: &str) -> Result<Self, InvalidValue> {
        if is_nfc(text) {
            return Self::from_normal(text.into());
        }
        Self::from_normal(text.nfc().collect::<String>().into())
    }

    fn from_normal(text: Arc<str>) -> Result<Self, InvalidValue> {
        match text.len() {
            0 => Err(Invalid::EmptyKey.into()),
            length if length > Self::MAX_BYTES => Err(Invalid::LongKey(length).into()),
            _ => Ok(Self(text)),
        }
    }

    /// Returns the normalised text.
    ///
    /// # Examples
    ///
    /// ```
    /// use syncguard_core::LockKey;
    ///
    /// let key = LockKey::new("user:jane")?;
    /// assert_eq!(key.as_str(), "user:jane");
    /// assert!(!key.to_string().contains("jane")); // `Display` shows the hash
    /// # Ok::<(), syncguard_core::Error>(())
    /// ```
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the hash that is shown in place of the key.
    ///
    /// # Examples
    ///
    /// ```
    /// use syncguard_core::LockKey;
    ///
    /// let key = LockKey::new("payment:123")?;
    /// assert_eq!(key.display_hash().to_string(), "a422dabee27fcc7ad506f372");
    /// # Ok::<(), syncguard_core::Error>(())
    /// ```
    pub fn display_hash(&self) -> DisplayHash {
        DisplayHash::of(&self.0)
    }

    fn to_text(&self) -> &str {
        self.as_str()
    }
}

impl FromStr for LockKey {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        Self::new(text)
    }
}

impl TryFrom<&str> for LockKey {
    type Error = InvalidValue;

    fn try_from(text: &str) -> Result<Self, InvalidValue> {
        Self::new(text)
    }
}

impl TryFrom<String> for LockKey {
    type Error = InvalidValue;

    fn try_from(text: String) -> Result<Self, InvalidValue> {
        Self::new(&text)
    }
}

impl TryFrom<&String> for LockKey {
    type Error = InvalidValue;

    fn try_from(text: &String) -> Result<Self, InvalidValue> {
        Self::new(text)
    }
}

impl From<&Self> for LockKey {
    fn from(key: &Self) -> Self {
        key.clone()
    }
}

impl fmt::Display for LockKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.display_hash().fmt(f)
    }
}

impl fmt::Debug for LockKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LockKey({})", self.display_hash())
    }
}

serde_as_text!(LockKey);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use unicode_normalization::UnicodeNormalization;

    use super::LockKey;

    #[test]
    fn display_and_debug_do_not_contain_the_text_of_a_key() {
        let key = LockKey::new("patient:jane-doe").unwrap();
        assert!(!format!("{key} {key:?}").contains("jane"));
    }

    proptest! {
        #[test]
        fn spellings_that_are_equal_in_nfc_make_one_key(text in "\\PC{1,40}") {
            let decomposed = LockKey::new(&text.nfd().collect::<String>());
            prop_assert_eq!(LockKey::new(&text).unwrap(), decomposed.unwrap());
        }

        #[test]
        fn a_key_is_rejected_exactly_if_its_normal_form_is_empty_or_over_512_bytes(
            text in "\\PC{0,300}"
        ) {
            let length = text.nfc().collect::<String>().len();
            prop_assert_eq!(LockKey::new(&text).is_ok(), (1..=512).contains(&length));
        }

        #[test]
        fn a_key_round_trips_through_serde(text in "\\PC{1,40}") {
            let key = LockKey::new(&text).unwrap();
            let json = serde_json::to_string(&key).unwrap();
            prop_assert_eq!(serde_json::from_str::<LockKey>(&json).unwrap(), key);
        }
    }
}
