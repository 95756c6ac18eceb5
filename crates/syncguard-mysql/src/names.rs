//! The name of the table, and the only place that writes a name into a statement. Also the keys of
//! tombstones and members, and the ids of heads.

use std::str::from_utf8;

use syncguard_core::LockId;

use crate::error::Failure;

/// The suffix that makes the name of the revision table from that of the lock table.
const SCHEMA_SUFFIX: &str = "_schema";

/// The maximum length of a lock table's name, in bytes of ASCII. MySQL accepts 64 for both names.
const MAX_TABLE_BYTES: usize = 64 - SCHEMA_SUFFIX.len();

/// The first byte of the keys of tombstones. No text in UTF-8 has this byte.
const TOMBSTONE_PREFIX: u8 = 0xff;

/// The first byte of the keys of members. No text in UTF-8 has this byte.
const MEMBER_PREFIX: u8 = 0xfe;

/// The length of the id of a head, in digits: one byte less than that of a [`LockId`]. Therefore no
/// id of a holder equals it, and statements about exclusive grants need not mention heads.
pub(crate) const HEAD_BYTES: &str = "21";

/// The byte that makes the id of a head as long as that of a holder, where one is shown.
const HEAD_SUFFIX: char = 'A';

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
            "the table name {name:?} is invalid: it must be 1 to {MAX_TABLE_BYTES} letters, digits \
             and underscores of ASCII, and must not begin with a digit"
        );
        Err(Failure::Config(rule))
    }

    /// Fills the quoted names of the table, and of the table that records its revision, into the
    /// text of a statement, and the former as a string.
    pub(crate) fn fill(&self, text: &str) -> String {
        text.replace("{locks}", &format!("`{}`", self.0))
            .replace("{schema}", &format!("`{}{SCHEMA_SUFFIX}`", self.0))
            .replace("{name}", &format!("'{}'", self.0))
    }

    pub(crate) fn name(&self) -> &str {
        &self.0
    }
}

/// Returns the key of the tombstone of an abandoned id, which cannot be the key of any user.
pub(crate) fn tombstone_key(id: LockId) -> Vec<u8> {
    [[TOMBSTONE_PREFIX].as_slice(), id.as_str().as_bytes()].concat()
}

/// Returns the key of the row that belongs to a holder in shared mode, which cannot be the key of
/// any user.
pub(crate) fn member_key(id: LockId) -> Vec<u8> {
    [[MEMBER_PREFIX].as_slice(), id.as_str().as_bytes()].concat()
}

/// Returns the id of a new head, cut from a new id.
pub(crate) fn head_id(id: &LockId) -> &str {
    let id = id.as_str();
    &id[..id.len() - HEAD_SUFFIX.len_utf8()]
}

/// Reads the id of a head, in the form in which ids are shown. Returns `None` if it is not that of a
/// head.
pub(crate) fn shown_head_id(id: &[u8]) -> Option<LockId> {
    let id = format!("{}{HEAD_SUFFIX}", from_utf8(id).ok()?);
    id.parse().ok()
}

fn is_plain(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    (1..=MAX_TABLE_BYTES).contains(&name.len())
        && name.chars().all(plain)
        && !name.starts_with(|c: char| c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use syncguard_core::LockId;

    use super::{HEAD_BYTES, MAX_TABLE_BYTES, Table, head_id, shown_head_id};

    #[test]
    fn names_that_could_break_out_of_their_quotes_or_are_too_long_are_refused() {
        let long = "x".repeat(MAX_TABLE_BYTES + 1);
        for bad in ["", "a b", "a`b", "a;b", "a.b", "1a", "é", "a\0b", "--", "{locks}", "$1", &long]
        {
            assert!(Table::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_id_of_a_head_is_not_that_of_a_holder() {
        let id = LockId::mint().unwrap();
        let head = head_id(&id);
        assert_eq!(head.len().to_string(), HEAD_BYTES);
        assert!(head.parse::<LockId>().is_err());
        let shown = shown_head_id(head.as_bytes()).unwrap();
        assert!(shown.as_str().starts_with(head));
        for other in [id.as_str().as_bytes(), b"short", &[0xff; 21]] {
            assert_eq!(shown_head_id(other), None);
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
