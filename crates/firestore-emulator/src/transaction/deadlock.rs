//! Finds a cycle of parties that wait for each other, and which one to end.

use super::{
    TransactionId,
    locks::{Locks, Party},
};

/// Searches for a cycle through `party`, and returns the transaction to end to break it: the
/// youngest in the cycle.
///
/// Every cycle contains a transaction: only later parties wait for a party that holds nothing, and
/// that alone closes no cycle. Only the youngest is ended, so another party in the cycle proceeds.
pub(crate) fn victim(locks: &Locks, party: Party) -> Option<TransactionId> {
    let cycle = cycle(locks, party)?;
    let transactions = cycle.into_iter().filter_map(|party| match party {
        Party::Transaction(id) => Some(id),
        Party::Commit(_) => None,
    });
    transactions.max()
}

/// Follows the waits until it returns to the start.
fn cycle(locks: &Locks, start: Party) -> Option<Vec<Party>> {
    let mut seen = vec![start];
    let mut path = vec![(start, locks.waits_for(start))];
    while let Some((_, blockers)) = path.last_mut() {
        match blockers.pop_first() {
            Some(next) if next == start => {
                return Some(path.into_iter().map(|(party, _)| party).collect());
            }
            Some(next) if seen.contains(&next) => {}
            Some(next) => {
                seen.push(next);
                path.push((next, locks.waits_for(next)));
            }
            None => drop(path.pop()),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{name::DocumentName, transaction::Access};

    fn id(serial: u64) -> TransactionId {
        TransactionId::first(serial)
    }

    fn request(locks: &mut Locks, party: Party, access: Access, document: &str) {
        let name = format!("projects/p/databases/d/documents/c/{document}");
        let names = [DocumentName::parse(&name).unwrap()].into();
        let (ticket, _) = locks.request(party, access, names);
        if locks.is_free(ticket) == Ok(true) && access == Access::Shared {
            locks.grant(ticket);
        }
    }

    fn read(locks: &mut Locks, serial: u64, document: &str) {
        request(locks, Party::Transaction(id(serial)), Access::Shared, document);
    }

    fn write(locks: &mut Locks, serial: u64, document: &str) {
        request(locks, Party::Transaction(id(serial)), Access::Exclusive, document);
    }

    fn victim_of(locks: &Locks, serial: u64) -> Option<TransactionId> {
        victim(locks, Party::Transaction(id(serial)))
    }

    #[test]
    fn a_wait_without_a_cycle_is_not_a_deadlock() {
        let mut locks = Locks::default();
        read(&mut locks, 1, "a");
        read(&mut locks, 2, "a");
        write(&mut locks, 1, "a");
        assert_eq!(victim_of(&locks, 1), None);
    }

    #[test]
    fn of_two_readers_that_both_write_the_younger_is_ended() {
        let mut locks = Locks::default();
        read(&mut locks, 1, "a");
        read(&mut locks, 2, "a");
        write(&mut locks, 2, "a");
        write(&mut locks, 1, "a");
        assert_eq!(victim_of(&locks, 1), Some(id(2)));
        assert_eq!(victim_of(&locks, 2), Some(id(2)));
    }

    #[test]
    fn a_cycle_over_several_documents_is_found() {
        let mut locks = Locks::default();
        for (serial, document) in [(1, "a"), (2, "b"), (3, "c")] {
            read(&mut locks, serial, document);
        }
        for (serial, document) in [(1, "b"), (2, "c"), (3, "a")] {
            write(&mut locks, serial, document);
        }
        assert_eq!(victim_of(&locks, 3), Some(id(3)));
    }

    #[test]
    fn a_cycle_through_the_queue_ends_a_transaction_and_not_the_commit() {
        let mut locks = Locks::default();
        read(&mut locks, 1, "a");
        read(&mut locks, 2, "b");
        // 1 waits for 2, the commit waits for 1, and 2 waits behind the commit.
        write(&mut locks, 1, "b");
        let name =
            |id: &str| DocumentName::parse(&format!("projects/p/databases/d/documents/c/{id}"));
        let names = [name("a").unwrap(), name("c").unwrap()].into();
        locks.request(Party::Commit(0), Access::Exclusive, names);
        read(&mut locks, 2, "c");
        assert_eq!(victim_of(&locks, 2), Some(id(2)));
    }
}
