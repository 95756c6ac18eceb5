//! Notifications of releases.

use syncguard_core::backend::Turn;

/// A notification of a release: the hash of the key, and who is to request it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Released {
    pub(crate) hash: i32,
    names: String,
}

impl Released {
    /// Reads a notification; returns `None` if it is not one of ours.
    pub(crate) fn parse(payload: &str) -> Option<Self> {
        let (hash, names) = payload.split_once(' ').unwrap_or((payload, ""));
        Some(Self { hash: hash.parse().ok()?, names: names.to_owned() })
    }

    /// Returns what the release means for the waiters of `client`.
    pub(crate) fn turn(&self, client: &str) -> Turn {
        Turn::of(client, &self.names)
    }
}

#[cfg(test)]
mod tests {
    use super::{Released, Turn};

    #[test]
    fn a_notification_begins_with_the_hash_of_the_key() {
        let turn = |payload, client| Released::parse(payload).unwrap().turn(client);
        assert_eq!(turn("-7", "a"), Turn::Open);
        assert_eq!(turn("7 a,b", "b"), Turn::First);
        assert_eq!(turn("7 a c,d,e", "d"), Turn::Substitute(2));
        assert_eq!(Released::parse("-7 a c").unwrap().hash, -7);
        assert_eq!(Released::parse("of another program"), None);
    }
}
