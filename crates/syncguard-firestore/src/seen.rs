//! What a listener has seen of a lock, and which changes concern its waiters.

use std::collections::BTreeSet;

use crate::client::{Document, text_of};

/// A lock as it was last reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Exclusive,
    Shared { readers: BTreeSet<String>, has_permits: bool, is_announced: bool },
}

impl Seen {
    pub(crate) fn new(document: &Document) -> Self {
        let Some(readers) = document.array("readerIds") else { return Self::Exclusive };
        Self::Shared {
            readers: readers.iter().filter_map(text_of).map(str::to_owned).collect(),
            has_permits: document.has("permits"),
            is_announced: document.has("announcement"),
        }
    }

    /// Returns whether a request that was refused before may be granted after this change: the last
    /// reader has left, or one that leaves a permit; an announcement was removed; or an exclusive
    /// holder is gone, which the service need not report before it reports the readers after it.
    ///
    /// That a reader among others leaves concerns no waiter, and neither do extends.
    pub(crate) fn frees_for_others(&self, after: &Self) -> bool {
        match (self, after) {
            (_, Self::Exclusive) => false,
            (Self::Exclusive, Self::Shared { .. }) => true,
            (
                Self::Shared { readers, is_announced, .. },
                Self::Shared { readers: rest, has_permits, is_announced: still_announced },
            ) => {
                let has_left = readers.iter().any(|reader| !rest.contains(reader));
                (has_left && (*has_permits || rest.is_empty()))
                    || (*is_announced && !still_announced)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Seen;

    fn shared(readers: &[&str], permits: bool, announced: bool) -> Seen {
        let readers = readers.iter().map(|reader| (*reader).to_owned()).collect();
        Seen::Shared { readers, has_permits: permits, is_announced: announced }
    }

    #[test]
    fn only_changes_that_may_grant_a_refused_request_concern_waiters() {
        for (before, after, frees) in [
            (shared(&["a", "b"], false, false), shared(&["a"], false, false), false),
            (shared(&["a"], false, false), shared(&["a", "b"], false, false), false),
            (shared(&["a"], false, false), shared(&["a"], false, true), false),
            (shared(&["a"], false, true), shared(&[], false, true), true),
            (shared(&["a"], false, true), shared(&["a"], false, false), true),
            (shared(&["a", "b"], true, false), shared(&["a"], true, false), true),
            (shared(&["a"], true, false), shared(&["a", "b"], true, false), false),
            (Seen::Exclusive, shared(&["a"], true, false), true),
            (Seen::Exclusive, Seen::Exclusive, false),
            (shared(&["a"], false, false), Seen::Exclusive, false),
        ] {
            assert_eq!(before.frees_for_others(&after), frees, "{before:?} {after:?}");
        }
    }
}
