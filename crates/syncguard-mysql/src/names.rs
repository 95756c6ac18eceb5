//! The name of the table, and the only place that writes a name into a statement. Also the keys of
//! tombstones.

use syncguard_core::LockId;

use crate::error::Failure;

/// The suffix that makes the name of the revision table from that of the lock table.
const SCHEMA: &str = "_schema";

/// The longest name of a lock table, in bytes of ASCII: MySQL accepts 64, for the other name as
/// well.
const LONGEST: usize = 64 - SCHEMA.len();

/// The first byte of the keys of tombstones: no text in UTF-8 has this byte.
const MARK: u8 = 0xff;

/// The validated name of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Table(String);

impl Table {
    /// Accepts letters, digits and underscores of ASCII, not beginning with a digit. Such a name
    /// needs no escaping, and cannot break out of its quotes.
    pub(crate) fn new(name: &str) -> Result<Self, Failure> {
        if is_plain(name) {
            return Ok(Self(name.to_owned()));
        }
        let rule = format!(
            "a table name takes 1 to {LONGEST} letters, digits and underscores of ASCII, and does \
             not begin with a digit"
        );
        Err(Failure::Config(rule))
    }

    /// Fills the quoted names of the table, and of the table that records its revision, into the
    /// text of a statement.
    pub(crate) fn fill(&self, text: &str) -> String {
        text.replace("{locks}", &format!("`{}`", self.0))
            .replace("{schema}", &format!("`{}{SCHEMA}`", self.0))
    }

    pub(crate) fn name(&self) -> &str {
        &self.0
    }
}

/// Returns the key of the tombstone of an abandoned id, which cannot be the key of any user.
pub(crate) fn mark(id: LockId) -> Vec<u8> {
    [[MARK].as_slice(), id.as_str().as_bytes()].concat()
}

fn is_plain(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    (1..=LONGEST).contains(&name.len())
        && name.chars().all(plain)
        && !name.starts_with(|c: char| c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::{LONGEST, Table};

    #[test]
    fn names_that_could_leave_their_quotes_or_are_too_long_are_refused() {
        let long = "x".repeat(LONGEST + 1);
        for bad in ["", "a b", "a`b", "a;b", "a.b", "1a", "é", "a\0b", "--", "{locks}", "$1", &long]
        {
            assert!(Table::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_plain_name_is_filled_in_with_quotes_and_leaves_room_for_that_of_the_revision() {
        let longest = "x".repeat(57);
        for name in ["Order", "_1", longest.as_str()] {
            let table = Table::new(name).unwrap();
            let filled = format!("FROM `{name}`, `{name}_schema`;");
            assert_eq!(table.fill("FROM {locks}, {schema};"), filled);
        }
    }
}
