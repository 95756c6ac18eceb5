use std::{fmt, str::FromStr, sync::Arc};

use super::{
    invalid::{Invalid, InvalidValue},
    serde_as_text,
};
use crate::text::Quoted;

/// Identifies the holder of a lock to people: 1 to 255 bytes of printable text, such as
/// `web-3:4711`.
///
/// A label is displayed and never trusted: only the [`LockId`](crate::LockId) proves ownership.
///
/// # Examples
///
/// ```
/// use syncguard_core::Owner;
///
/// let owner = Owner::new("ci-7 (blue)")?;
/// assert_eq!(owner.as_str(), "ci-7 (blue)");
/// assert_eq!(owner.to_string(), r#""ci-7 (blue)""#); // for people, in quotes
/// # Ok::<(), syncguard_core::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owner(Arc<str>);

impl Owner {
    /// The longest label, in bytes of UTF-8.
    pub const MAX_BYTES: usize = 255;

    /// Checks `label` and creates an owner from it.
    ///
    /// # Errors
    ///
    /// [`InvalidValue`] if the label is empty, longer than [`MAX_BYTES`](Self::MAX_BYTES), or
    /// contains control characters. Other characters that a terminal does not show are escaped when
    /// the label is displayed.
    ///
    /// # Examples
    ///
    /// ```
    /// use syncguard_core::Owner;
    ///
    /// assert!(Owner::new("web-3:4711").is_ok());
    /// assert!(Owner::new("").is_err());
    /// assert!(Owner::new("two\nlines").is_err());
    /// ```
    pub fn new(label: &str) -> Result<Self, InvalidValue> {
        if let Some(control) = label.chars().find(|c| c.is_control()) {
            return Err(Invalid::OwnerCharacter(control).into());
        }
        match label.len() {
            0 => Err(Invalid::EmptyOwner.into()),
            length if length > Self::MAX_BYTES => Err(Invalid::LongOwner(length).into()),
            _ => Ok(Self(label.into())),
        }
    }

    /// Returns the label of this process, `host:pid`.
    ///
    /// # Examples
    ///
    /// ```
    /// use syncguard_core::Owner;
    ///
    /// let pid = std::process::id();
    /// assert!(Owner::of_process().as_str().ends_with(&format!(":{pid}")));
    /// ```
    pub fn of_process() -> Self {
        Self(format!("{}:{}", host(), std::process::id()).into())
    }

    /// Returns the label.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn to_text(&self) -> &str {
        self.as_str()
    }
}

/// Returns the host's name, reduced to the characters that a label may contain.
fn host() -> String {
    #[cfg(unix)]
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    #[cfg(not(unix))]
    let name = std::env::var("COMPUTERNAME").unwrap_or_default();
    let name: String = name.chars().filter(|c| c.is_ascii_graphic()).take(200).collect();
    if name.is_empty() { "localhost".to_owned() } else { name }
}

impl FromStr for Owner {
    type Err = InvalidValue;

    fn from_str(label: &str) -> Result<Self, InvalidValue> {
        Self::new(label)
    }
}

impl TryFrom<&str> for Owner {
    type Error = InvalidValue;

    fn try_from(label: &str) -> Result<Self, InvalidValue> {
        Self::new(label)
    }
}

impl TryFrom<String> for Owner {
    type Error = InvalidValue;

    fn try_from(label: String) -> Result<Self, InvalidValue> {
        Self::new(&label)
    }
}

impl fmt::Display for Owner {
    /// Writes the label [quoted](Quoted), safe for a person to read. For the label itself, use
    /// [`as_str`](Self::as_str).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Quoted(self.as_str()).fmt(f)
    }
}

impl fmt::Debug for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Owner({self})")
    }
}

serde_as_text!(Owner);

#[cfg(test)]
mod tests {
    use super::Owner;

    #[test]
    fn labels_that_are_empty_too_long_or_not_printable_are_rejected() {
        for bad in ["", "a\nb", "\u{1b}[2J", &"x".repeat(256)] {
            assert!(Owner::new(bad).is_err(), "{bad:?}");
        }
        assert_eq!(Owner::new("ci-7 (blue)").unwrap().as_str(), "ci-7 (blue)");
    }

    #[test]
    fn a_label_is_displayed_in_quotes_and_stored_unchanged() {
        let label = "a\u{2066}b\"";
        let owner = Owner::new(label).unwrap();
        assert_eq!(owner.to_string(), r#""a\u{2066}b\"""#);
        assert_eq!(format!("{owner:?}"), r#"Owner("a\u{2066}b\"")"#);
        assert_eq!(owner.as_str(), label);
        let stored = serde_json::to_string(&owner).unwrap();
        assert_eq!(serde_json::from_str::<Owner>(&stored).unwrap(), owner);
    }

    #[test]
    fn the_label_of_the_process_is_valid_and_ends_with_its_pid() {
        let label = Owner::of_process();
        assert_eq!(Owner::new(label.as_str()).unwrap(), label);
        assert!(label.as_str().ends_with(&format!(":{}", std::process::id())));
    }
}
