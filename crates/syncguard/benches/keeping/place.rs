//! A server, and a way to it.

use std::{net::SocketAddr, sync::mpsc, thread, time::Duration};

use firestore_emulator::Emulator;
use syncguard::{
    DynBackend,
    firestore::{FirestoreBackend, FirestoreConfig},
};
use syncguard_testkit::{
    proxy::Proxy,
    server::{MariadbServer, PostgresServer, RedisServer},
};
use tokio::time::sleep;

pub(crate) struct Place {
    pub(crate) proxy: Proxy,
    url: String,
    server: Running,
}

enum Running {
    Postgres(PostgresServer),
    Mysql(MariadbServer),
    Redis(RedisServer),
    Firestore(Double),
}

/// The double of Firestore, on a thread of its own that can be stopped.
struct Double {
    address: SocketAddr,
    stops: tokio::sync::mpsc::UnboundedSender<Duration>,
}

impl Place {
    pub(crate) async fn start(store: &str) -> Self {
        let server = match store {
            "postgres" => Running::Postgres(PostgresServer::start().await.unwrap()),
            "mysql" => Running::Mysql(MariadbServer::start().await.unwrap()),
            "redis" => {
                let server = RedisServer::builder().setting("appendonly", "yes").start();
                Running::Redis(server.await.unwrap())
            }
            "firestore" => Running::Firestore(Double::start()),
            other => panic!("no store is called {other}"),
        };
        let address = match &server {
            Running::Postgres(server) => server.address(),
            Running::Mysql(server) => server.address(),
            Running::Redis(server) => server.address(),
            Running::Firestore(double) => double.address,
        };
        let proxy = Proxy::start(address).await.unwrap();
        let url = match &server {
            Running::Postgres(server) => server.url_through(proxy.address()),
            Running::Mysql(server) => server.url_through(proxy.address()),
            Running::Redis(server) => server.url_through(proxy.address()),
            Running::Firestore(_) => proxy.address().to_string(),
        };
        Self { proxy, url, server }
    }

    /// Connects with the default settings.
    pub(crate) async fn connect(&self) -> DynBackend {
        if let Running::Firestore(_) = self.server {
            let config = FirestoreConfig::new("bench").emulator(&self.url);
            return DynBackend::new(FirestoreBackend::connect(config).unwrap());
        }
        syncguard::connect(&self.url).await.unwrap()
    }

    /// Lets the server stand still.
    pub(crate) async fn stall(&self, time: Duration) {
        match &self.server {
            Running::Postgres(server) => server.pause().unwrap(),
            Running::Mysql(server) => server.pause().unwrap(),
            Running::Redis(server) => server.pause().unwrap(),
            Running::Firestore(double) => double.stops.send(time).unwrap(),
        }
        sleep(time).await;
        match &self.server {
            Running::Postgres(server) => server.resume().unwrap(),
            Running::Mysql(server) => server.resume().unwrap(),
            Running::Redis(server) => server.resume().unwrap(),
            Running::Firestore(_) => {}
        }
    }
}

impl Double {
    fn start() -> Self {
        let (started, address) = mpsc::channel();
        let (stops, mut stopped) = tokio::sync::mpsc::unbounded_channel();
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                let emulator = Emulator::builder().start().await.unwrap();
                started.send(emulator.address()).unwrap();
                while let Some(time) = stopped.recv().await {
                    // The whole server stands still: it has one thread.
                    thread::sleep(time);
                }
            });
        });
        Self { address: address.recv().unwrap(), stops }
    }
}
