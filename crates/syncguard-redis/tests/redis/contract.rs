//! The contract suite.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use syncguard_core::{
    Fence, LockKey,
    backend::RetireRequest,
    contract::{Harness, Hook, Profile, lifecycle, run},
};
use syncguard_redis::{RedisBackend, RedisConfig};
use syncguard_testkit::{
    proxy::Proxy,
    server::{RedisCluster, RedisServer},
};
use tokio::sync::Mutex;

use crate::{config, fresh_prefix, safe};

mod standalone {
    syncguard_core::contract_tests!(super::super::Standalone<1_000>);
}

mod without_grace {
    syncguard_core::contract_tests!(super::super::Standalone<0>);
}

mod cluster {
    syncguard_core::contract_tests!(super::super::Cluster<{ super::super::SHARED }>);
}

#[test]
fn a_cluster_keeps_locks_and_fences_over_a_restart() {
    let case = lifecycle::a_durable_store_keeps_locks_and_fences_over_a_restart;
    run::<Cluster<OWN>, _, _>(RESTART, case);
}

#[test]
fn a_client_of_a_cluster_whose_connections_are_cut_works_again() {
    run::<Cluster<OWN>, _, _>(SEVER, lifecycle::a_client_whose_connections_are_cut_recovers);
}

/// One server for each case, behind a proxy, with a grace of `GRACE` milliseconds.
struct Standalone<const GRACE: u64> {
    server: RedisServer,
    proxy: Proxy,
}

impl<const GRACE: u64> Standalone<GRACE> {
    fn config(&self) -> RedisConfig {
        let config = config(&self.server.url_through(self.proxy.address()));
        config.grace(Duration::from_millis(GRACE))
    }
}

impl<const GRACE: u64> Harness for Standalone<GRACE> {
    type Backend = RedisBackend;

    fn profile() -> Profile {
        if GRACE > 0 {
            return Profile::network("redis");
        }
        let none = "parity with TypeScript: a record is stored for its ttl, so there is no grace";
        Profile::network("redis-without-grace")
            .without("expiry::a_key_is_not_granted_within_the_grace", none)
            .without("expiry::the_holder_can_extend_within_the_grace", none)
            .without("expiry::the_holder_can_release_within_the_grace", none)
            .without("shared_expiry::a_reader_keeps_its_grant_within_the_grace", none)
            .without("shared_expiry::no_writer_is_granted_within_the_grace_of_a_reader", none)
    }

    async fn start() -> Self {
        let server = safe().start().await.unwrap();
        let proxy = Proxy::start(server.address()).await.unwrap();
        Self { server, proxy }
    }

    async fn client(&self) -> RedisBackend {
        RedisBackend::connect(self.config()).await.unwrap()
    }

    async fn seeding_client(&self) -> Option<RedisBackend> {
        Some(RedisBackend::connect(self.config().seed_new_counters()).await.unwrap())
    }

    async fn seed_fence(&self, key: &LockKey, fence: Fence) -> Hook {
        let name = format!("syncguard:fence:syncguard:{}", key.as_str());
        self.server.command(&["SET", &name, &fence.number().to_string()]).await.unwrap();
        Hook::Done
    }

    async fn restart(&self) -> Hook {
        self.server.restart().await.unwrap();
        Hook::Done
    }

    async fn cut_connections(&self) -> Hook {
        assert!(self.proxy.cut_all().await > 0);
        Hook::Done
    }
}

const SHARED: bool = false;
const OWN: bool = true;

const RESTART: &str = "lifecycle::a_durable_store_keeps_locks_and_fences_over_a_restart";
const SEVER: &str = "lifecycle::a_client_whose_connections_are_cut_recovers";

/// A prefix on a cluster of three nodes. The cases share the cluster unless they break it.
struct Cluster<const OWNED: bool> {
    cluster: Arc<RedisCluster>,
    prefix: String,
}

impl<const OWNED: bool> Cluster<OWNED> {
    /// Returns the cluster that is in use, or starts one.
    async fn shared() -> Arc<RedisCluster> {
        static IN_USE: Mutex<Weak<RedisCluster>> = Mutex::const_new(Weak::new());
        let mut in_use = IN_USE.lock().await;
        if let Some(cluster) = in_use.upgrade() {
            return cluster;
        }
        let cluster = Arc::new(RedisCluster::start_with(safe()).await.unwrap());
        *in_use = Arc::downgrade(&cluster);
        cluster
    }

    fn config(&self) -> RedisConfig {
        let addresses = self.cluster.addresses();
        let (first, others) = addresses.split_first().unwrap();
        let others: Vec<_> = others.iter().map(|node| format!("node={node}")).collect();
        let url = format!("redis-cluster://{first}?{}", others.join("&"));
        config(&url).prefix(self.prefix.as_str())
    }
}

impl<const OWNED: bool> Harness for Cluster<OWNED> {
    type Backend = RedisBackend;

    fn profile() -> Profile {
        let profile = Profile::network("redis-cluster");
        if OWNED {
            return profile;
        }
        let why = "it breaks the cluster that the cases share; run on one of its own";
        profile.without(RESTART, why).without(SEVER, why)
    }

    async fn start() -> Self {
        let cluster = match OWNED {
            true => Arc::new(RedisCluster::start_with(safe()).await.unwrap()),
            false => Self::shared().await,
        };
        Self { cluster, prefix: fresh_prefix() }
    }

    async fn client(&self) -> RedisBackend {
        RedisBackend::connect(self.config()).await.unwrap()
    }

    async fn seeding_client(&self) -> Option<RedisBackend> {
        // The counters of one client are kept for ever, those of the other one expire.
        let config = self.config().seed_new_counters();
        let config = config.expire_counters(RetireRequest::MIN_UNUSED_FOR);
        Some(RedisBackend::connect(config).await.unwrap())
    }

    async fn seed_fence(&self, key: &LockKey, fence: Fence) -> Hook {
        let name = format!("{{{}:{}}}:fence", self.prefix, key.as_str());
        let number = fence.number().to_string();
        self.cluster.nodes()[0].command(&["-c", "SET", &name, &number]).await.unwrap();
        Hook::Done
    }

    async fn restart(&self) -> Hook {
        for node in self.cluster.nodes() {
            node.restart().await.unwrap();
        }
        self.cluster.wait_until_settled().await.unwrap();
        Hook::Done
    }

    async fn cut_connections(&self) -> Hook {
        for node in self.cluster.nodes() {
            node.command(&["CLIENT", "KILL", "TYPE", "normal"]).await.unwrap();
        }
        Hook::Done
    }
}
