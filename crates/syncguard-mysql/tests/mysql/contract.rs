//! The contract suite.

use syncguard_core::{
    Fence, LockKey,
    contract::{Harness, Hook, Profile, lifecycle, run, shared},
};
use syncguard_mysql::{MysqlBackend, MysqlConfig};
use syncguard_testkit::{
    proxy::Proxy,
    server::{Mariadb, MariadbServer, Shareable, Site},
};

use crate::{Foreign, Name, snapshot};

mod plain {
    syncguard_core::contract_tests!(super::super::Plain<{ super::super::SHARED }>);
}

mod with_snapshot_isolation {
    syncguard_core::contract_tests!(super::super::Plain<{ super::super::SNAPSHOT }>);
}

#[test]
fn a_dedicated_server_keeps_locks_and_fences_over_a_restart() {
    let case = lifecycle::a_durable_store_keeps_locks_and_fences_over_a_restart;
    run::<Plain<OWN>, _, _>(RESTART, case);
}

#[test]
fn a_dedicated_server_keeps_shared_grants_over_a_restart() {
    run::<Plain<OWN>, _, _>(SHARED_RESTART, shared::shared_grants_survive_a_restart);
}

const SHARED: u8 = 0;
const OWN: u8 = 1;
/// A dedicated server with snapshot isolation.
const SNAPSHOT: u8 = 2;

const RESTART: &str = "lifecycle::a_durable_store_keeps_locks_and_fences_over_a_restart";
const SHARED_RESTART: &str = "shared::shared_grants_survive_a_restart";

/// A table on a server that the cases share unless they break it, behind a proxy.
struct Plain<const SITE: u8> {
    server: Site<Mariadb>,
    proxy: Proxy,
    name: Name,
}

impl<const SITE: u8> Plain<SITE> {
    fn config(&self) -> MysqlConfig {
        self.name.config(&self.server.url_through(self.proxy.address()))
    }
}

impl<const SITE: u8> Harness for Plain<SITE> {
    type Backend = MysqlBackend;

    fn profile() -> Profile {
        let why = "it breaks the server that the cases share; run on one of its own";
        match SITE {
            SHARED => Profile::network("mysql").without(RESTART, why).without(SHARED_RESTART, why),
            SNAPSHOT => Profile::network("mariadb with snapshot isolation"),
            _ => Profile::network("mysql"),
        }
    }

    async fn start() -> Self {
        let server = match SITE {
            SHARED => Site::Shared(Mariadb::shared().await.unwrap()),
            SNAPSHOT => snapshot::start().await.into(),
            _ => MariadbServer::start().await.unwrap().into(),
        };
        let proxy = Proxy::start(server.address()).await.unwrap();
        Self { server, proxy, name: Name::fresh() }
    }

    async fn client(&self) -> MysqlBackend {
        MysqlBackend::connect(self.config()).await.unwrap()
    }

    async fn seeding_client(&self) -> Option<MysqlBackend> {
        Some(MysqlBackend::connect(self.config().seed_new_counters()).await.unwrap())
    }

    async fn seed_fence(&self, key: &LockKey, fence: Fence) -> Hook {
        self.client().await;
        let (key, fence) = (key.as_str(), fence.number());
        let seed = self.name.fill(&format!(
            "INSERT INTO {{locks}} (lock_key, fence, acquired_at_ms, expires_at_ms)
             VALUES ('{key}', {fence}, 0, 0)"
        ));
        Foreign::open(&self.server.url()).await.run(&seed).await;
        Hook::Done
    }

    async fn restart(&self) -> Hook {
        self.server.restart().await;
        Hook::Done
    }

    async fn cut_connections(&self) -> Hook {
        assert!(self.proxy.cut_all().await > 0);
        Hook::Done
    }
}
