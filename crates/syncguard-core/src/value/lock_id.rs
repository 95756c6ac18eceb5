use std::{fmt, io, str::FromStr};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use super::{
    DisplayHash,
    invalid::{Invalid, InvalidValue},
    serde_as_text,
};

const LENGTH: usize = 22;

/// Proves ownership of one grant: 16 random bytes as 22 characters of base64url.
///
/// The client generates it before the first byte is sent, so that it can query the outcome of a
/// request whose reply was lost. Anyone who knows it can release the lock. `Display` and `Debug`
/// therefore show only its [`DisplayHash`]; [`as_str`](Self::as_str) returns the text.
///
/// # Examples
///
/// ```
/// use syncguard_core::LockId;
///
/// let id: LockId = "abcdefghijklmnopqrstuv".parse()?;
/// assert_eq!(id.as_str(), "abcdefghijklmnopqrstuv");
/// assert!("too short".parse::<LockId>().is_err());
/// # Ok::<(), syncguard_core::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct LockId([u8; LENGTH]);

impl LockId {
    /// Generates a new id from the operating system's random source.
    ///
    /// # Errors
    ///
    /// The error of the operating system if it returns no random bytes.
    ///
    /// # Examples
    ///
    /// ```
    /// use syncguard_core::LockId;
    ///
    /// let (one, other) = (LockId::mint()?, LockId::mint()?);
    /// assert_ne!(one, other);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn mint() -> io::Result<Self> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes)?;
        let mut text = [0; LENGTH];
        URL_SAFE_NO_PAD.encode_slice(bytes, &mut text).map_err(io::Error::other)?;
        Ok(Self(text))
    }

    /// Returns the 22 characters.
    ///
    /// # Examples
    ///
    /// ```
    /// use syncguard_core::LockId;
    ///
    /// let id = LockId::mint()?;
    /// assert_eq!(id.as_str().len(), 22);
    /// assert_ne!(id.to_string(), id.as_str()); // `Display` shows the hash
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn as_str(&self) -> &str {
        // The bytes are ASCII by construction, so the fallback is never taken.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// Returns the hash that is shown in place of the id.
    ///
    /// # Examples
    ///
    /// ```
    /// use syncguard_core::LockId;
    ///
    /// let id = LockId::mint()?;
    /// assert_eq!(format!("{id:?}"), format!("LockId({})", id.display_hash()));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn display_hash(&self) -> DisplayHash {
        DisplayHash::of(self.as_str())
    }

    fn to_text(self) -> String {
        self.as_str().to_owned()
    }
}

impl FromStr for LockId {
    type Err = InvalidValue;

    /// Accepts any 22 characters of base64url. The last character may carry bits beyond the
    /// sixteenth byte, as it may in the TypeScript SyncGuard: an id is compared as text, never
    /// decoded.
    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let is_invalid = |c: &char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
        if let Some(character) = text.chars().find(is_invalid) {
            return Err(Invalid::LockIdCharacter(character).into());
        }
        let bytes = text.as_bytes().try_into();
        Ok(Self(bytes.map_err(|_| Invalid::LockIdLength(text.len()))?))
    }
}

impl fmt::Display for LockId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.display_hash().fmt(f)
    }
}

impl fmt::Debug for LockId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LockId({})", self.display_hash())
    }
}

serde_as_text!(LockId);

#[cfg(test)]
mod tests {
    use super::LockId;

    #[test]
    fn minted_ids_differ_and_can_be_parsed() {
        let (one, other) = (LockId::mint().unwrap(), LockId::mint().unwrap());
        assert_ne!(one, other);
        assert_eq!(one.as_str().parse::<LockId>().unwrap(), one);
    }

    #[test]
    fn display_and_debug_do_not_contain_the_text_of_an_id() {
        let id = LockId::mint().unwrap();
        assert!(!format!("{id} {id:?}").contains(id.as_str()));
    }
}
