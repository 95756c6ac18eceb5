//! The parties that hold locks, and those that wait for locks.
//!
//! Transactions hold shared locks on what they have read until they end. A commit needs exclusive
//! access to what it writes, but only while it is applied, so exclusive locks are requested and
//! used and never held.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use tokio::sync::Notify;

use super::TransactionId;
use crate::name::DocumentName;

/// A party that locks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Party {
    Transaction(TransactionId),
    /// A commit outside a transaction. It holds nothing, so no wait for it is long.
    Commit(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Shared,
    Exclusive,
}

/// A place in the queue. A lower one came first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Ticket(u64);

/// Why a request was ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EndReason {
    Deadlock,
    Expired,
}

#[derive(Debug)]
struct Request {
    party: Party,
    access: Access,
    names: BTreeSet<DocumentName>,
    reason: Option<EndReason>,
    wake: Arc<Notify>,
}

/// The shared locks that are held, and the queue.
///
/// **Invariant: a request that is granted conflicts with no lock of another party and with no
/// request that came first**, unless that one waits for a lock of the same party: an upgrade goes
/// ahead of those that wait for its party to end. All others are served in order of arrival, so a
/// stream of readers does not starve writers.
#[derive(Debug, Default)]
pub(crate) struct Locks {
    readers: HashMap<DocumentName, BTreeSet<Party>>,
    queue: BTreeMap<Ticket, Request>,
    next: u64,
}

impl Locks {
    /// Queues for all the names together.
    pub(crate) fn request(
        &mut self,
        party: Party,
        access: Access,
        names: BTreeSet<DocumentName>,
    ) -> (Ticket, Arc<Notify>) {
        let ticket = Ticket(self.next);
        self.next += 1;
        let wake = Arc::new(Notify::new());
        let request = Request { party, access, names, reason: None, wake: wake.clone() };
        self.queue.insert(ticket, request);
        (ticket, wake)
    }

    /// Returns whether a request can be granted, or why it never will be.
    pub(crate) fn is_free(&self, ticket: Ticket) -> Result<bool, EndReason> {
        let Some(request) = self.queue.get(&ticket) else {
            return Err(EndReason::Expired);
        };
        match request.reason {
            Some(reason) => Err(reason),
            None => Ok(self.blockers(ticket, request).is_empty()),
        }
    }

    /// Removes a request that [is free](Self::is_free) from the queue. A shared lock is held from
    /// now on.
    pub(crate) fn grant(&mut self, ticket: Ticket) {
        if let Some(Request { party, access: Access::Shared, names, .. }) =
            self.queue.remove(&ticket)
        {
            for name in names {
                self.readers.entry(name).or_default().insert(party);
            }
        }
        self.wake();
    }

    /// Removes a request that is no longer waited for from the queue.
    pub(crate) fn withdraw(&mut self, ticket: Ticket) {
        if self.queue.remove(&ticket).is_some() {
            self.wake();
        }
    }

    /// Releases all locks of a party. Its pending requests end with the reason.
    pub(crate) fn release(&mut self, party: Party, reason: EndReason) {
        self.readers.retain(|_, readers| {
            readers.remove(&party);
            !readers.is_empty()
        });
        for request in self.queue.values_mut().filter(|request| request.party == party) {
            request.reason = request.reason.or(Some(reason));
            request.wake.notify_one();
        }
        self.wake();
    }

    pub(crate) fn is_waiting(&self, party: Party) -> bool {
        self.queue.values().any(|request| request.party == party && request.reason.is_none())
    }

    /// Returns the parties that a party waits for, in any of its requests.
    pub(super) fn waits_for(&self, party: Party) -> BTreeSet<Party> {
        let requests = self.queue.iter().filter(|(_, request)| request.party == party);
        requests.flat_map(|(ticket, request)| self.blockers(*ticket, request)).collect()
    }

    fn blockers(&self, ticket: Ticket, request: &Request) -> BTreeSet<Party> {
        let earlier = self.queue.range(..ticket).map(|(_, earlier)| earlier);
        let earlier = earlier.filter(|earlier| self.is_ahead(earlier, request));
        earlier.map(|earlier| earlier.party).chain(self.readers_against(request)).collect()
    }

    /// Returns the holders of what a writer needs exclusively.
    fn readers_against<'a>(&'a self, request: &'a Request) -> impl Iterator<Item = Party> + 'a {
        let names = request.names.iter().filter(|_| request.access == Access::Exclusive);
        let readers = names.filter_map(|name| self.readers.get(name)).flatten().copied();
        readers.filter(|reader| *reader != request.party)
    }

    fn is_ahead(&self, earlier: &Request, request: &Request) -> bool {
        let conflict = earlier.access == Access::Exclusive || request.access == Access::Exclusive;
        let others = earlier.party != request.party && earlier.reason.is_none();
        others
            && conflict
            && !earlier.names.is_disjoint(&request.names)
            && !self.readers_against(earlier).any(|reader| reader == request.party)
    }

    fn wake(&self) {
        let free = self.queue.iter().filter(|(ticket, request)| {
            request.reason.is_none() && self.blockers(**ticket, request).is_empty()
        });
        free.for_each(|(_, request)| request.wake.notify_one());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transaction(serial: u64) -> Party {
        Party::Transaction(TransactionId::first(serial))
    }

    fn names<const N: usize>(ids: [&str; N]) -> BTreeSet<DocumentName> {
        let name = |id| format!("projects/p/databases/d/documents/c/{id}");
        ids.iter().map(|id| DocumentName::parse(&name(id)).unwrap()).collect()
    }

    fn request<const N: usize>(
        locks: &mut Locks,
        by: Party,
        access: Access,
        ids: [&str; N],
    ) -> Ticket {
        locks.request(by, access, names(ids)).0
    }

    /// Requests a shared lock and takes it.
    fn read(locks: &mut Locks, party: Party, id: &str) {
        let ticket = request(locks, party, Access::Shared, [id]);
        assert_eq!(locks.is_free(ticket), Ok(true));
        locks.grant(ticket);
    }

    #[test]
    fn readers_share_and_a_writer_waits_for_each_of_them() {
        let mut locks = Locks::default();
        read(&mut locks, transaction(1), "a");
        read(&mut locks, transaction(2), "a");
        let write = request(&mut locks, Party::Commit(0), Access::Exclusive, ["a"]);
        for reader in [1, 2] {
            assert_eq!(locks.is_free(write), Ok(false));
            locks.release(transaction(reader), EndReason::Expired);
        }
        assert_eq!(locks.is_free(write), Ok(true));
    }

    #[test]
    fn a_reader_that_comes_after_a_writer_waits_behind_it() {
        let mut locks = Locks::default();
        read(&mut locks, transaction(1), "a");
        let write = request(&mut locks, Party::Commit(0), Access::Exclusive, ["a"]);
        let late = request(&mut locks, transaction(2), Access::Shared, ["a"]);
        assert_eq!(locks.is_free(late), Ok(false));
        locks.release(transaction(1), EndReason::Expired);
        assert_eq!((locks.is_free(write), locks.is_free(late)), (Ok(true), Ok(false)));
        locks.grant(write);
        assert_eq!(locks.is_free(late), Ok(true));
    }

    #[test]
    fn the_only_reader_may_write_ahead_of_the_queue() {
        let mut locks = Locks::default();
        read(&mut locks, transaction(1), "a");
        request(&mut locks, Party::Commit(0), Access::Exclusive, ["a", "b"]);
        let upgrade = request(&mut locks, transaction(1), Access::Exclusive, ["a", "b"]);
        assert_eq!(locks.is_free(upgrade), Ok(true));
    }

    #[test]
    fn a_reader_may_read_again_ahead_of_the_queue() {
        let mut locks = Locks::default();
        read(&mut locks, transaction(1), "a");
        request(&mut locks, Party::Commit(0), Access::Exclusive, ["a"]);
        read(&mut locks, transaction(1), "a");
    }

    #[test]
    fn locks_on_different_documents_do_not_conflict() {
        let mut locks = Locks::default();
        read(&mut locks, transaction(1), "a");
        let other = request(&mut locks, Party::Commit(0), Access::Exclusive, ["b"]);
        assert_eq!(locks.is_free(other), Ok(true));
    }

    #[test]
    fn a_withdrawn_request_unblocks_the_next_one() {
        let mut locks = Locks::default();
        let first = request(&mut locks, Party::Commit(0), Access::Exclusive, ["a"]);
        let second = request(&mut locks, Party::Commit(1), Access::Exclusive, ["a"]);
        assert_eq!(locks.is_free(second), Ok(false));
        locks.withdraw(first);
        assert_eq!(locks.is_free(second), Ok(true));
    }

    #[test]
    fn the_requests_of_an_ended_party_report_the_reason() {
        let mut locks = Locks::default();
        read(&mut locks, transaction(1), "a");
        read(&mut locks, transaction(2), "a");
        let write = request(&mut locks, transaction(2), Access::Exclusive, ["a"]);
        locks.release(transaction(2), EndReason::Deadlock);
        assert_eq!(locks.is_free(write), Err(EndReason::Deadlock));
        assert!(!locks.is_waiting(transaction(2)));
    }
}
