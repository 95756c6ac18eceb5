//! The contract suite.

use firestore_emulator::{Concurrency, Emulator};
use syncguard_core::{
    Fence, LockKey,
    contract::{Harness, Hook, Profile},
};
use syncguard_firestore::FirestoreBackend;
use syncguard_tests::proxy::Proxy;
use tokio::sync::Mutex;

use crate::{
    config,
    raw::{Raw, record, text},
    start_as,
};

mod pessimistic {
    syncguard_core::contract_tests!(super::super::Double<{ super::super::LOCKS }>);
}

mod optimistic {
    syncguard_core::contract_tests!(super::super::Double<{ super::super::CONFLICTS }>);
}

const LOCKS: bool = false;
const CONFLICTS: bool = true;

/// One server for each case, behind a proxy, that lets transactions lock or conflict.
struct Double<const OPTIMISTIC: bool> {
    emulator: Mutex<Emulator>,
    proxy: Proxy,
}

impl<const OPTIMISTIC: bool> Harness for Double<OPTIMISTIC> {
    type Backend = FirestoreBackend;

    fn profile() -> Profile {
        Profile::network(if OPTIMISTIC { "firestore-optimistic" } else { "firestore" })
    }

    async fn start() -> Self {
        let concurrency =
            if OPTIMISTIC { Concurrency::Optimistic } else { Concurrency::Pessimistic };
        let emulator = start_as(concurrency).await;
        let proxy = Proxy::start(emulator.address()).await.unwrap();
        Self { emulator: Mutex::new(emulator), proxy }
    }

    async fn client(&self) -> FirestoreBackend {
        let emulator = self.emulator.lock().await;
        config(&emulator).emulator(self.proxy.address().to_string()).connect().unwrap()
    }

    async fn seed_fence(&self, key: &LockKey, fence: Fence) -> Hook {
        let raw = Raw::connect(&*self.emulator.lock().await);
        let counter = format!("fence_counters/fence:{}", key.as_str());
        raw.set(&counter, record([("fence", text(&fence.to_string()))])).await.unwrap();
        Hook::Done
    }

    async fn restart(&self) -> Hook {
        self.emulator.lock().await.restart().await.unwrap();
        Hook::Done
    }

    async fn sever(&self) -> Hook {
        assert!(self.proxy.cut_all().await > 0);
        Hook::Done
    }
}
