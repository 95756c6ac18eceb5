//! The contract suite.

use std::net::SocketAddr;

use syncguard_core::{
    Fence, LockKey,
    contract::{Harness, Hook, Profile, lifecycle, run},
};
use syncguard_postgres::{PostgresBackend, PostgresConfig};
use syncguard_testkit::{
    proxy::Proxy,
    server::{PgBouncer, PgBouncerServer, Postgres, PostgresServer, Shareable, Shared},
};

use crate::{Foreign, Names};

mod plain {
    syncguard_core::contract_tests!(super::super::Plain<{ super::super::SHARED }>);
}

mod pooled {
    syncguard_core::contract_tests!(super::super::Pooled<{ super::super::SHARED }>);
}

#[test]
fn a_server_of_its_own_keeps_locks_and_fences_over_a_restart() {
    let case = lifecycle::a_durable_store_keeps_locks_and_fences_over_a_restart;
    run::<Plain<OWN>, _, _>(RESTART, case);
}

#[test]
fn a_server_behind_pgbouncer_keeps_locks_and_fences_over_a_restart() {
    let case = lifecycle::a_durable_store_keeps_locks_and_fences_over_a_restart;
    run::<Pooled<OWN>, _, _>(RESTART, case);
}

const SHARED: bool = false;
const OWN: bool = true;

const RESTART: &str = "lifecycle::a_durable_store_keeps_locks_and_fences_over_a_restart";

/// Tables on a server that the cases share unless they break it, behind a proxy.
struct Plain<const OWNED: bool> {
    server: Site,
    proxy: Proxy,
    names: Names,
}

/// Where the server is.
enum Site {
    Own(PostgresServer),
    Shared(Shared<Postgres>),
}

impl Site {
    fn url(&self) -> String {
        match self {
            Self::Own(server) => server.url(),
            Self::Shared(server) => server.url().to_owned(),
        }
    }

    fn url_through(&self, address: SocketAddr) -> String {
        match self {
            Self::Own(server) => server.url_through(address),
            Self::Shared(server) => server.url_through(address),
        }
    }

    fn address(&self) -> SocketAddr {
        match self {
            Self::Own(server) => server.address(),
            Self::Shared(server) => server.address().unwrap(),
        }
    }

    async fn restart(&self) {
        match self {
            Self::Own(server) => server.restart().await.unwrap(),
            Self::Shared(_) => panic!("others use it as well"),
        }
    }
}

impl<const OWNED: bool> Plain<OWNED> {
    async fn up() -> Self {
        let server = match OWNED {
            true => Site::Own(PostgresServer::start().await.unwrap()),
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
    if owned { profile } else { profile.without(RESTART, why) }
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

    async fn seed_fence(&self, key: &LockKey, fence: Fence) -> Hook {
        self.client().await;
        self.seed(key, fence).await;
        Hook::Done
    }

    async fn restart(&self) -> Hook {
        self.server.restart().await;
        Hook::Done
    }

    async fn sever(&self) -> Hook {
        assert!(self.proxy.cut_all().await > 0);
        Hook::Done
    }
}

/// The same with a pgbouncer in between, which gives out connections for single transactions. Listening
/// goes past it.
struct Pooled<const OWNED: bool> {
    _pooler: PgBouncerServer,
    plain: Plain<OWNED>,
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
        let config = self.plain.config().pgbouncer();
        PostgresBackend::connect(config.listen_url(&self.plain.server.url()).unwrap())
            .await
            .unwrap()
    }

    async fn seed_fence(&self, key: &LockKey, fence: Fence) -> Hook {
        self.client().await;
        self.plain.seed(key, fence).await;
        Hook::Done
    }

    async fn restart(&self) -> Hook {
        self.plain.restart().await
    }

    async fn sever(&self) -> Hook {
        self.plain.sever().await
    }
}
