//! The names of the tables, and the only place where a name gets into a statement.

use crate::error::Failure;

/// The longest name that PostgreSQL keeps whole, in bytes.
const LONGEST_IDENTIFIER: usize = 63;

/// What the names of the indexes of a table add to its own: `idx_` and `_lock_id`, or `_expires`.
const INDEX_AFFIXES: usize = 12;

/// The longest name of a table, so that no name of an index is cut off.
pub(crate) const LONGEST_TABLE: usize = LONGEST_IDENTIFIER - INDEX_AFFIXES;

/// Two different tables, by names that were found to be plain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tables {
    locks: String,
    counters: String,
}

impl Tables {
    /// Takes letters, digits and underscores of ASCII, not beginning with a digit. What needs no
    /// escape cannot escape.
    pub(crate) fn new(locks: &str, counters: &str) -> Result<Self, Failure> {
        for name in [locks, counters] {
            if !is_plain(name) {
                let rule = format!(
                    "a table name takes 1 to {LONGEST_TABLE} letters, digits and underscores of \
                     ASCII, and does not begin with a digit"
                );
                return Err(Failure::Config(rule));
            }
        }
        if locks == counters {
            return Err(Failure::Config("the two tables need different names".to_owned()));
        }
        if counters.strip_prefix(locks) == Some("_schema") {
            let rule = "the table of counters has the name of the one that says the revision";
            return Err(Failure::Config(rule.to_owned()));
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
    }

    pub(crate) fn quoted_locks(&self) -> String {
        quoted(&self.locks)
    }

    pub(crate) fn quoted_counters(&self) -> String {
        quoted(&self.counters)
    }

    /// The table that says the revision of the other two.
    pub(crate) fn quoted_schema(&self) -> String {
        quoted(&format!("{}_schema", self.locks))
    }

    /// The channel on which releases are told: one for each lock table of a database.
    pub(crate) fn channel(&self) -> String {
        format!("{}_released", self.locks)
    }
}

fn is_plain(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    (1..=LONGEST_TABLE).contains(&name.len())
        && name.chars().all(plain)
        && !name.starts_with(|c: char| c.is_ascii_digit())
}

fn quoted(name: &str) -> String {
    format!("\"{name}\"")
}

#[cfg(test)]
mod tests {
    use super::{LONGEST_TABLE, Tables};

    #[test]
    fn names_that_could_leave_their_quotes_or_be_cut_off_are_refused() {
        let long = "x".repeat(LONGEST_TABLE + 1);
        for bad in
            ["", "a b", "a\"b", "a;b", "a.b", "1a", "é", "a\0b", "--", "{counters}", long.as_str()]
        {
            assert!(Tables::new(bad, "counters").is_err(), "{bad:?}");
            assert!(Tables::new("locks", bad).is_err(), "{bad:?}");
        }
        assert!(Tables::new("same", "same").is_err());
        assert!(Tables::new("locks", "locks_schema").is_err());
    }

    #[test]
    fn the_longest_name_leaves_room_for_its_indexes() {
        let longest = "x".repeat(LONGEST_TABLE);
        let tables = Tables::new(&longest, "Counters_2").unwrap();
        let filled = tables.fill("{locks} {counters} {locks_lock_id} {locks_expires}");
        assert!(filled.contains("\"Counters_2\"") && !filled.contains('{'), "{filled}");
        assert!(filled.split(' ').all(|name| name.len() <= 63 + 2), "{filled}");
    }
}
