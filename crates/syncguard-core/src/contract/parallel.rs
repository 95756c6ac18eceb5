//! Many keys, many tasks, at the same time.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use super::{Harness, steps::*};
use crate::{LockManager, backend::LockBackend};

/// Hundreds of locks held at the same time are independent, each with a first fence, and all become
/// free.
pub async fn many_keys_are_held_at_the_same_time<H: Harness>(h: H) {
    const KEYS: usize = 200;
    let a = h.client().await;
    let locks = LockManager::new(h.client().await);
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..KEYS {
        let locks = locks.clone();
        tasks.spawn(async move { held(&locks, &format!("k{n}"), LONG).await });
    }
    let guards = tasks.join_all().await;
    assert_eq!(guards.len(), KEYS);
    for guard in &guards {
        assert_eq!(guard.fence().expect("is held").number(), 1);
        let record = a.lookup(&guard.key().clone().into()).await.expect("answers");
        assert_eq!(record.expect("is held").lock_id, guard.lock_id());
    }
    drop(guards);
    drained(&locks).await;
    for n in 0..KEYS {
        assert!(!is_locked(&a, &format!("k{n}")).await, "k{n}");
    }
}

/// Tasks of two processes that contend for a few keys never overlap, and every fence is higher than
/// the previous one.
pub async fn tasks_of_two_processes_never_overlap<H: Harness>(h: H) {
    const KEYS: usize = 3;
    const ROUNDS: usize = 6;
    let processes = [LockManager::new(h.client().await), LockManager::new(h.client().await)];
    let last = Arc::new(Mutex::new(HashMap::new()));
    let inside: Arc<Vec<_>> = Arc::new((0..KEYS).map(|_| tokio::sync::Mutex::new(())).collect());
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..12 {
        let (locks, last, inside) = (processes[task % 2].clone(), last.clone(), inside.clone());
        tasks.spawn(async move {
            for round in 0..ROUNDS {
                let n = (task + round) % KEYS;
                let lock = locks.lock(format!("k{n}")).wait(LONG).ttl(LONG);
                let work = async |lease: crate::Lease| {
                    let _alone = inside[n].try_lock().expect("no other task is inside");
                    let fence = lease.fence().expect("is held");
                    let before = last.lock().expect("no panic").insert(n, fence);
                    assert!(before < Some(fence), "{fence} after {before:?}");
                    tokio::task::yield_now().await;
                };
                lock.run(work).await.expect("it is granted the lock");
            }
        });
    }
    assert_eq!(tasks.join_all().await.len(), 12);
    assert_eq!(last.lock().expect("no panic").len(), KEYS);
}
