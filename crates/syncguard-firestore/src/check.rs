//! Checks for settings that would break a guarantee.

use std::borrow::Cow;

use syncguard_core::backend::{Finding, Severity};

use crate::{
    client::{Document, Lane, Read, Search},
    clock::Skew,
    error::Failure,
    names::DocumentName,
    record::{Counter, Stored},
    store::Store,
};

/// The maximum number of locks that are checked.
const MAX_CHECKED_LOCKS: usize = 100;

/// Compares the clocks, and checks whether the locks still have their fence counters.
///
/// A TTL policy cannot be seen from here, but its effects can.
pub(crate) async fn check(store: &Store) -> Result<Vec<Finding>, Failure> {
    let search = Search { condition: None, order: None, limit: MAX_CHECKED_LOCKS };
    let call = store.client.call(Lane::Common);
    let Read { found: locks, .. } = store.client.search(call, search).await?;
    let names: Vec<_> = locks.iter().map(|lock| store.layout.fence(&lock.name)).collect();
    let mut behind = 0;
    if !names.is_empty() {
        let names: Vec<_> = names.iter().collect();
        let Read { found, .. } = store.client.read_all(call, &names).await?;
        let counter = |name: &DocumentName| found.iter().find(|counter| counter.name == *name);
        let pairs = locks.iter().zip(&names).map(|(lock, name)| (lock, counter(name)));
        behind = pairs.filter(|(lock, counter)| is_behind(lock, *counter)).count();
    }
    let clocks = store.client.clock.skew().map(skew_finding);
    Ok(clocks.into_iter().chain(lost_counters_finding(behind)).collect())
}

fn skew_finding(skew: Skew) -> Finding {
    let consequence = "a TypeScript client on this host takes live locks for over, or over ones for \
                       live; locks of this backend are safe; synchronise the clock";
    Finding {
        severity: Severity::Warning,
        setting: skew.setting().into(),
        consequence: consequence.into(),
    }
}

fn is_behind(lock: &Document, counter: Option<&Document>) -> bool {
    let Ok(lock) = Stored::parse(lock) else {
        return false;
    };
    let last = counter.and_then(|counter| Counter::parse(counter).fence().ok());
    last.is_none_or(|last| last < lock.fence())
}

fn lost_counters_finding(behind: usize) -> Option<Finding> {
    let consequence = "fences go back; no lock of this backend is granted before the counter is \
                       restored; let no TTL policy and no clean-up delete fence counters";
    let setting = Cow::Owned(format!("{behind} locks without the fence counter that granted them"));
    (behind > 0).then(|| Finding {
        severity: Severity::Unsafe,
        setting,
        consequence: consequence.into(),
    })
}
