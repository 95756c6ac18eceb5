//! The contract suite.

use std::{net::SocketAddr, time::Duration};

use firestore_emulator::{Concurrency, Emulator};
use syncguard_core::{
    Fence, LockId, LockKey,
    contract::{Harness, Hook, Profile, lifecycle, run, shared},
};
use syncguard_firestore::{FirestoreBackend, FirestoreConfig};
use syncguard_testkit::{find::Store, proxy::Proxy};
use tokio::sync::Mutex;

use crate::{
    config_at,
    raw::{Raw, record, text},
    start_as,
};

mod pessimistic {
    syncguard_core::contract_tests!(super::super::Site<{ super::super::EXTERNAL }>);
}

mod optimistic {
    syncguard_core::contract_tests!(super::super::Site<{ super::super::OPTIMISTIC }>);
}

#[test]
fn the_double_keeps_locks_and_fences_over_a_restart() {
    let case = lifecycle::a_durable_store_keeps_locks_and_fences_over_a_restart;
    run::<Site<PESSIMISTIC>, _, _>(RESTART, case);
}

#[test]
fn the_double_keeps_shared_grants_over_a_restart() {
    let case = shared::shared_grants_survive_a_restart;
    run::<Site<PESSIMISTIC>, _, _>(SHARED_RESTART, case);
}

/// The server that the environment names, or else a pessimistic double started for the case.
const EXTERNAL: u8 = 0;
/// A pessimistic double started for the case.
const PESSIMISTIC: u8 = 1;
/// An optimistic double started for the case.
const OPTIMISTIC: u8 = 2;

const RESTART: &str = "lifecycle::a_durable_store_keeps_locks_and_fences_over_a_restart";
const SHARED_RESTART: &str = "shared::shared_grants_survive_a_restart";

/// Two collections that no other case uses, on a server behind a proxy.
struct Site<const KIND: u8> {
    /// The double, if the server was started for the case.
    own: Option<Mutex<Emulator>>,
    server: SocketAddr,
    proxy: Proxy,
    locks: String,
    fences: String,
}

/// Returns the address of the server that the environment names.
async fn external_server() -> Option<SocketAddr> {
    let address = Store::Firestore.address()?;
    let mut found = tokio::net::lookup_host(&address).await.unwrap();
    Some(found.next().unwrap_or_else(|| panic!("there is no {address}")))
}

impl<const KIND: u8> Site<KIND> {
    fn config(&self) -> FirestoreConfig {
        // A thousand concurrent calls take long on a busy machine.
        let config = config_at(self.proxy.address()).request_timeout(Duration::from_secs(30));
        config.collections(&self.locks, &self.fences)
    }
}

impl<const KIND: u8> Harness for Site<KIND> {
    type Backend = FirestoreBackend;

    fn profile() -> Profile {
        let profile =
            Profile::network(if KIND == OPTIMISTIC { "firestore-optimistic" } else { "firestore" });
        if KIND != EXTERNAL || Store::Firestore.address().is_none() {
            return profile;
        }
        let reason = "it breaks the server that was given; run on one of its own";
        profile.without(RESTART, reason).without(SHARED_RESTART, reason)
    }

    async fn start() -> Self {
        let concurrency = match KIND {
            OPTIMISTIC => Concurrency::Optimistic,
            _ => Concurrency::Pessimistic,
        };
        let external_server = if KIND == EXTERNAL { external_server().await } else { None };
        let own = if external_server.is_some() { None } else { Some(start_as(concurrency).await) };
        let server = external_server.or_else(|| own.as_ref().map(Emulator::address)).unwrap();
        let proxy = Proxy::start(server).await.unwrap();
        let [locks, fences] =
            ["locks", "fences"].map(|name| format!("{name}_{}", LockId::mint().unwrap().as_str()));
        Self { own: own.map(Mutex::new), server, proxy, locks, fences }
    }

    async fn client(&self) -> FirestoreBackend {
        FirestoreBackend::connect(self.config()).unwrap()
    }

    async fn seeding_client(&self) -> Option<FirestoreBackend> {
        Some(FirestoreBackend::connect(self.config().seed_new_counters()).unwrap())
    }

    async fn seed_fence(&self, key: &LockKey, fence: Fence) -> Hook {
        let counter = format!("{}/fence:{}", self.fences, key.as_str());
        let fields = record([("fence", text(&fence.to_string()))]);
        Raw::at(self.server).set(&counter, fields).await.unwrap();
        Hook::Done
    }

    async fn restart(&self) -> Hook {
        let Some(own) = &self.own else { panic!("others use it as well") };
        own.lock().await.restart().await.unwrap();
        Hook::Done
    }

    async fn cut_connections(&self) -> Hook {
        assert!(self.proxy.cut_all().await > 0);
        Hook::Done
    }
}
