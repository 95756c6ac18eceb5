//! The contract suite.

use syncguard_core::{
    Fence, LockKey,
    contract::{Harness, Hook, Profile, lifecycle, run, shared},
};
use syncguard_postgres::{PostgresBackend, PostgresConfig};
use syncguard_testkit::{
    proxy::Proxy,
    server::{PgBouncer, PgBouncerServer, Postgres, PostgresServer, Shareable, Site},
};

use crate::{Foreign, Names};

mod plain {
    syncguard_core::contract_tests!(super::super::Plain<{ super::super::SHARED }>);
}

mod pooled {
    syncguard_core::contract_tests!(super::super::Pooled<{ super::super::SHARED }>);
}

#[test]
fn a_dedicated_server_keeps_locks_and_fences_over_a_restart() {
    let case = lifecycle::a_durable_store_keeps_locks_and_fences_over_a_restart;
    run::<Plain<OWN>, _, _>(RESTART, case);
}

#[test]
fn a_server_behind_pgbouncer_keeps_locks_and_fences_over_a_restart() {
    let case = lifecycle::a_durable_store_keeps_locks_and_fences_over_a_restart;
    run::<Pooled<OWN>, _, _>(RESTART, case);
}

#[test]
fn a_dedicated_server_keeps_shared_grants_over_a_restart() {
    run::<Plain<OWN>, _, _>(SHARED_RESTART, shared::shared_grants_survive_a_restart);
}

#[test]
fn a_server_behind_pgbouncer_keeps_shared_grants_over_a_restart() {
    run::<Pooled<OWN>, _, _>(SHARED_RESTART, shared::shared_grants_survive_a_restart);
}

const SHARED: bool = false;
const OWN: bool = true;

const RESTART: &str = "lifecycle::a_durable_store_keeps_locks_and_fences_over_a_restart";
const SHARED_RESTART: &str = "shared::shared_grants_survive_a_restart";

/// Tables on a server that the cases share unless they break it, behind a proxy.
struct Plain<const OWNED: bool> {
    server: Site<Postgres>,
    proxy: Proxy,
    names: Names,
}

impl<const OWNED: bool> Plain<OWNED> {
    async fn up() -> Self {
        let server = match OWNED {
            true => PostgresServer::start().await.unwrap().into(),
            false => Site::Shared(Postgres::shared().await.unwrap()),
        };
        let proxy = Proxy::start(server.address()).await.unwrap();
        Self { server, proxy, names: Names::fresh() }
    }

    fn config(&self) -> PostgresConfig {
        self.names.config(&self.server.url_through(self.proxy.address()))
    }

    async fn seed(&self, key: &LockKey, fence: Fence) {
        let counters = &self.names.counters;
        let sql = format!("INSERT INTO {counters} (fence_key, fence) VALUES ($1, $2)");
        let seed = sqlx::query(sqlx::AssertSqlSafe(sql));
        let number = i64::try_from(fence.number()).unwrap();
        let seed = seed.bind(format!("fence:{}", key.as_str())).bind(number);
        seed.execute(&mut Foreign::open(&self.server.url()).await.0).await.unwrap();
    }
}

fn profile(name: &'static str, owned: bool) -> Profile {
    let why = "it breaks the server that the cases share; run on one of its own";
    let profile = Profile::network(name);
    match owned {
        true => profile,
        false => profile.without(RESTART, why).without(SHARED_RESTART, why),
    }
}

impl<const OWNED: bool> Harness for Plain<OWNED> {
    type Backend = PostgresBackend;

    fn profile() -> Profile {
        profile("postgres", OWNED)
    }

    async fn start() -> Self {
        Self::up().await
    }

    async fn client(&self) -> PostgresBackend {
        PostgresBackend::connect(self.config()).await.unwrap()
    }

    async fn seeding_client(&self) -> Option<PostgresBackend> {
        Some(PostgresBackend::connect(self.config().seed_new_counters()).await.unwrap())
    }

    async fn seed_fence(&self, key: &LockKey, fence: Fence) -> Hook {
        self.client().await;
        self.seed(key, fence).await;
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

/// The same behind pgbouncer, which assigns connections to single transactions. The connection that
/// listens bypasses it.
struct Pooled<const OWNED: bool> {
    _pooler: PgBouncerServer,
    plain: Plain<OWNED>,
}

impl<const OWNED: bool> Pooled<OWNED> {
    fn config(&self) -> PostgresConfig {
        let config = self.plain.config().pgbouncer();
        config.listen_url(&self.plain.server.url()).unwrap()
    }
}

impl<const OWNED: bool> Harness for Pooled<OWNED> {
    type Backend = PostgresBackend;

    fn profile() -> Profile {
        profile("postgres-pgbouncer", OWNED)
    }

    async fn start() -> Self {
        let mut plain = Plain::up().await;
        let pooler = PgBouncer::before(plain.server.address()).setting("max_client_conn", "500");
        let pooler = pooler.start().await.unwrap();
        plain.proxy = Proxy::start(pooler.address()).await.unwrap();
        Self { _pooler: pooler, plain }
    }

    async fn client(&self) -> PostgresBackend {
        PostgresBackend::connect(self.config()).await.unwrap()
    }

    async fn seeding_client(&self) -> Option<PostgresBackend> {
        Some(PostgresBackend::connect(self.config().seed_new_counters()).await.unwrap())
    }

    async fn seed_fence(&self, key: &LockKey, fence: Fence) -> Hook {
        self.client().await;
        self.plain.seed(key, fence).await;
        Hook::Done
    }

    async fn restart(&self) -> Hook {
        self.plain.restart().await
    }

    async fn cut_connections(&self) -> Hook {
        self.plain.cut_connections().await
    }
}
