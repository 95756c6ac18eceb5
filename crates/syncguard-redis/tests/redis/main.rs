//! The contract suite on a single server, with and without grace, and on a cluster; and tests of
//! what is specific to Redis: stored formats, faults and wake-ups.

#![cfg(test)]

mod claims;
mod cluster;
mod contract;
mod corpus;
mod damaged;
mod failover;
mod gathering;
mod keys;
mod line;
mod mutants;
mod network;
mod other_types;
mod outcomes;
mod replicas;
mod rogue;
mod runtimes;
mod server;
mod settings;
mod shared;
mod wakeups;
mod wire;

use std::sync::atomic::{AtomicU64, Ordering};

use syncguard_redis::{RedisBackend, RedisConfig};
use syncguard_testkit::server::{Builder, Redis, RedisServer};

/// Configures a server with settings that are safe for locks.
fn safe() -> Builder<Redis> {
    RedisServer::builder().setting("appendonly", "yes").setting("save", "")
}

async fn connect(url: &str) -> RedisBackend {
    RedisBackend::connect(config(url)).await.unwrap()
}

fn config(url: &str) -> RedisConfig {
    RedisConfig::from_url(url).unwrap()
}

/// Returns a prefix that no other test uses.
fn fresh_prefix() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    format!("test-{}", COUNT.fetch_add(1, Ordering::Relaxed))
}
