//! Notifications of releases.

/// A notification of a release: the hash of the key, and who is to request it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Released {
    pub(crate) hash: i32,
    /// Those whose turn it is; none if no one is in line.
    first: Vec<String>,
    substitutes: Vec<String>,
}

/// What a release means for the waiters of one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// No one is in line, and everyone may request the key.
    Open,
    /// It is their turn.
    First,
    /// It is their turn unless another one takes it: the first substitute has rank 1.
    Substitute(u32),
    /// It is the turn of others.
    Behind,
}

impl Released {
    /// Reads a notification; returns `None` if it is not one of ours.
    pub(crate) fn parse(payload: &str) -> Option<Self> {
        let mut parts = payload.split(' ');
        let hash = parts.next()?.parse().ok()?;
        let mut names = || {
            let names = parts.next().unwrap_or_default().split(',');
            names.filter(|name| !name.is_empty()).map(str::to_owned).collect()
        };
        Some(Self { hash, first: names(), substitutes: names() })
    }

    /// Returns what the release means for the waiters of `client`.
    pub(crate) fn turn(&self, client: &str) -> Turn {
        let rank = || self.substitutes.iter().zip(1..).find(|(name, _)| *name == client);
        if self.first.is_empty() {
            Turn::Open
        } else if self.first.iter().any(|name| name == client) {
            Turn::First
        } else {
            rank().map_or(Turn::Behind, |(_, rank)| Turn::Substitute(rank))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Released, Turn};

    #[test]
    fn a_notification_names_those_whose_turn_it_is_and_their_substitutes() {
        let turn = |payload, client| Released::parse(payload).unwrap().turn(client);
        assert_eq!(turn("-7", "a"), Turn::Open);
        assert_eq!(turn("7 a,b", "b"), Turn::First);
        assert_eq!(turn("7 a c,d,e", "d"), Turn::Substitute(2));
        assert_eq!(turn("7 a c,d,e", "f"), Turn::Behind);
        assert_eq!(turn("7 a", "c"), Turn::Behind);
        assert_eq!(Released::parse("7 a c").unwrap().hash, 7);
        assert_eq!(Released::parse("of another program"), None);
    }
}
