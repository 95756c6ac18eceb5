use syncguard_core::{ListRequest, LockPage, LockQuery, LockRecord, PageToken};

use crate::MemoryBackend;

impl MemoryBackend {
    pub(crate) fn lookup_now(&self, query: &LockQuery) -> Option<LockRecord> {
        let mut slots = self.lock();
        let now = self.now();
        let key = match query {
            LockQuery::ByKey(key) => key.clone(),
            LockQuery::ById(lock_id) => slots.held_by(*lock_id, now).ok()?.0,
        };
        let slot = slots.by_key.get(&key)?;
        Some(slot.record(&key, slot.live(now)?, now))
    }

    /// Pages by key: a page's mark is the last key that it gave.
    pub(crate) fn list_now(&self, request: &ListRequest) -> LockPage {
        let slots = self.lock();
        let now = self.now();
        let after = request.after.as_ref().map_or("", PageToken::as_str);
        let mut held = slots
            .by_key
            .iter()
            .filter(|(key, _)| key.as_str() > after && key.as_str().starts_with(&request.prefix))
            .filter_map(|(key, slot)| Some(slot.record(key, slot.live(now)?, now)));
        let locks: Vec<_> = held.by_ref().take(request.limit).collect();
        let last = locks.last().map(|lock| PageToken::new(lock.key.as_str()));
        LockPage { next: held.next().and(last), locks }
    }
}
