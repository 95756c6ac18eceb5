//! Fence counters that are retired while they are used.

use std::time::SystemTime;

use firestore_emulator::{Emulator, Fault};
use syncguard_core::{
    Fence,
    backend::{AcquireOutcome, LockBackend, Mode, RetireRequest},
};
use syncguard_firestore::FirestoreBackend;
use syncguard_testkit::operations::{LONG, ask, granted, released};

use crate::{
    config,
    raw::{Raw, record, text},
    start,
};

fn connect(emulator: &Emulator) -> FirestoreBackend {
    FirestoreBackend::connect(config(emulator).seed_new_counters().request_timeout(LONG)).unwrap()
}

/// Sets the counter of a key to a time two days ago.
async fn age(emulator: &Emulator, key: &str) -> Fence {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let old = now - 2 * RetireRequest::MIN_UNUSED_FOR;
    let old = Fence::new(u64::try_from(old.as_millis()).unwrap()).unwrap();
    let fields = record([("fence", text(&old.to_string()))]);
    Raw::connect(emulator).set(&format!("fence_counters/fence:{key}"), fields).await.unwrap();
    old
}

async fn retire(backend: &FirestoreBackend) -> u64 {
    let request = RetireRequest::new(RetireRequest::MIN_UNUSED_FOR).unwrap();
    backend.retire_counters(&request).await.unwrap().retired
}

#[tokio::test]
async fn a_key_that_is_granted_during_its_retirement_keeps_its_counter() {
    let emulator = start().await;
    let (retiring, granting) = (connect(&emulator), connect(&emulator));
    for mode in [Mode::Exclusive, Mode::SHARED] {
        age(&emulator, "job").await;
        age(&emulator, "other").await;
        let held = emulator.inject(Fault::hold().document("fence:job"));
        let task = tokio::spawn({
            let retiring = retiring.clone();
            async move { retire(&retiring).await }
        });
        held.happened(1).await;
        let request = ask("job", LONG).with_mode(mode);
        let fence = granted(&granting, &request).await.fence;
        held.release();
        assert_eq!(task.await.unwrap(), 1, "only the counter of the other key");
        assert!(released(&granting, &request).await);
        let again = ask("job", LONG);
        let next = granted(&granting, &again).await.fence;
        assert!(next > fence, "{next} after {fence}");
        assert!(released(&granting, &again).await);
    }
}

#[tokio::test]
async fn a_grant_that_was_decided_on_a_counter_retired_since_is_decided_again() {
    let emulator = start().await;
    let (retiring, granting) = (connect(&emulator), connect(&emulator));
    for mode in [Mode::Exclusive, Mode::SHARED] {
        let old = age(&emulator, "job").await;
        let held = emulator.inject(Fault::hold().document("fence:job"));
        let request = ask("job", LONG).with_mode(mode);
        let task = tokio::spawn({
            let (granting, request) = (granting.clone(), request.clone());
            async move { granting.acquire(&request).await.unwrap() }
        });
        held.happened(1).await;
        assert_eq!(retire(&retiring).await, 1);
        held.release();
        let AcquireOutcome::Granted(grant) = task.await.unwrap() else { panic!("it is free") };
        assert!(grant.fence > old, "{} after {old}", grant.fence);
        assert!(released(&granting, &request).await);
    }
}
