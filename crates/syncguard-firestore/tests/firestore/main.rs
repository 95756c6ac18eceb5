//! Runs the contract suite in both concurrency modes of the server, and tests what is specific to
//! Firestore: its documents, faults, clock, notifications and other clients. The specific tests
//! need a server that fails on command, so they start doubles of their own, even if the environment
//! names a server.

#![cfg(test)]

mod claims;
mod contention;
mod contract;
mod damaged;
mod faults;
mod fencing;
mod holds;
mod keeping;
mod keys;
mod late;
mod network;
mod peers;
mod raw;
mod retiring;
mod runtimes;
mod sharing;
mod sharing_faults;
mod skew;
mod stale;
mod storm;
mod trips;
mod wakeups;
mod wire;

use std::net::SocketAddr;

use firestore_emulator::{Concurrency, Emulator};
use syncguard_firestore::{FirestoreBackend, FirestoreConfig};

const PROJECT: &str = "p";

async fn start() -> Emulator {
    start_as(Concurrency::Pessimistic).await
}

async fn start_as(concurrency: Concurrency) -> Emulator {
    Emulator::builder().concurrency(concurrency).start().await.unwrap()
}

fn config(emulator: &Emulator) -> FirestoreConfig {
    config_at(emulator.address())
}

fn config_at(server: SocketAddr) -> FirestoreConfig {
    FirestoreConfig::new(PROJECT).emulator(server.to_string())
}

/// Creates a client with its own connection.
fn connect(emulator: &Emulator) -> FirestoreBackend {
    FirestoreBackend::connect(config(emulator)).unwrap()
}
