#![doc = include_str!("../README.md")]

mod backends;
mod config;
mod connect;
mod registry;

pub use config::{Config, StoreConfig};
pub use connect::connect;
pub use registry::Registry;
pub use syncguard_core::*;

#[cfg(feature = "firestore")]
pub use syncguard_firestore as firestore;
#[cfg(feature = "memory")]
pub use syncguard_memory as memory;
#[cfg(feature = "mysql")]
pub use syncguard_mysql as mysql;
#[cfg(feature = "postgres")]
pub use syncguard_postgres as postgres;
#[cfg(feature = "redis")]
pub use syncguard_redis as redis;
#[cfg(feature = "sqlite")]
pub use syncguard_sqlite as sqlite;

#[cfg(all(doc, feature = "memory"))]
#[doc = include_str!("../FEATURES.md")]
pub mod features {}

// The examples of the project's front page are compiled and run with the others.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct FrontPage;
