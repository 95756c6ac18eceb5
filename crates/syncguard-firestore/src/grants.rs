//! What this client knows about the grants that it made itself.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use syncguard_core::{LockId, Timestamp};

use crate::{
    client::{Expect, Version, Write},
    names::DocumentName,
    record::expiry_fields,
    sharing::Sharing,
};

/// The maximum number of remembered grants. A grant that was forgotten costs another round trip.
const MAX_GRANTS: usize = 10_000;

/// A grant as it was last written.
///
/// **Invariant:** `expires_at` is what the document contains in exactly this version. A version is
/// never written twice, so a client that changes the document on the condition of its version knows
/// what the expiry was until then.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) document: DocumentName,
    pub(crate) version: Version,
    pub(crate) expires_at: Timestamp,
    /// What else the document contains in that version, if others share the key.
    pub(crate) sharing: Option<Box<Sharing>>,
}

impl Known {
    /// Returns the write that sets the expiry of the grant of `id`, on the condition of the version.
    pub(crate) fn set_expiry(&self, id: LockId, expires_at: Timestamp, now: Timestamp) -> Write {
        let expect = Expect::Version(self.version);
        match self.sharing.as_deref().cloned() {
            None => {
                let fields = expiry_fields(expires_at);
                Write::merge(&self.document, &["expiresAtMs"], fields, expect)
            }
            Some(sharing) => sharing.with_expiry(id, expires_at, now).write(&self.document, expect),
        }
    }

    /// Returns the write that ends the grant of `id`, on the condition of the version.
    pub(crate) fn end(&self, id: LockId, now: Timestamp) -> Write {
        let expect = Expect::Version(self.version);
        match self.sharing.as_deref().cloned() {
            None => Write::delete(&self.document, expect),
            Some(sharing) => sharing.without(id, now).write(&self.document, expect),
        }
    }
}

/// The remembered grants, bounded in number.
///
/// They are hints: every write that rests on one has the version as its condition, so an outdated
/// one does no harm.
#[derive(Debug, Default)]
pub(crate) struct Grants(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    known: HashMap<LockId, Known>,
    /// The ids in order of insertion, including some that are forgotten.
    order: VecDeque<LockId>,
}

impl Grants {
    pub(crate) fn find(&self, id: LockId) -> Option<Known> {
        self.lock().known.get(&id).cloned()
    }

    /// Remembers an exclusive grant, unless a later version of it is known: replies may arrive out
    /// of order. The version of a shared document seldom lasts until it is needed again.
    pub(crate) fn remember(&self, id: LockId, grant: Known) {
        if grant.sharing.is_some() {
            return;
        }
        let mut inner = self.lock();
        match inner.known.get_mut(&id) {
            Some(known) if known.version >= grant.version => return,
            Some(known) => {
                *known = grant;
                return;
            }
            None => {}
        }
        inner.known.insert(id, grant);
        inner.order.push_back(id);
        if inner.order.len() > MAX_GRANTS
            && let Some(oldest) = inner.order.pop_front()
        {
            inner.known.remove(&oldest);
        }
    }

    /// Forgets a grant, and returns it.
    pub(crate) fn take(&self, id: LockId) -> Option<Known> {
        self.lock().known.remove(&id)
    }

    pub(crate) fn forget(&self, id: LockId) {
        drop(self.take(id));
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // No code panics while the mutex is held.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use syncguard_core::{LockId, Timestamp};

    use super::{Grants, Known, MAX_GRANTS};
    use crate::{client::Version, names::DocumentName};

    fn known(version: i64) -> Known {
        let expires_at = Timestamp::from_unix_millis(version);
        let document = DocumentName::new("d".to_owned());
        Known { document, version: Version::from_micros(version), expires_at, sharing: None }
    }

    #[test]
    fn a_version_that_arrives_late_does_not_replace_a_later_one() {
        let (grants, id) = (Grants::default(), LockId::mint().unwrap());
        for (version, expected) in [(1, 1), (3, 3), (2, 3)] {
            grants.remember(id, known(version));
            assert_eq!(grants.find(id).unwrap().version, Version::from_micros(expected));
        }
        grants.forget(id);
        assert!(grants.find(id).is_none());
    }

    #[test]
    fn the_oldest_grants_are_forgotten_beyond_the_limit() {
        let grants = Grants::default();
        let ids: Vec<_> = (0..MAX_GRANTS + 10).map(|_| LockId::mint().unwrap()).collect();
        for id in &ids {
            grants.remember(*id, known(1));
        }
        assert!(ids[..10].iter().all(|id| grants.find(*id).is_none()));
        assert!(ids[10..].iter().all(|id| grants.find(*id).is_some()));
        assert_eq!(grants.lock().known.len(), MAX_GRANTS);
        assert_eq!(grants.lock().order.len(), MAX_GRANTS);
    }
}
