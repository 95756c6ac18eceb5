//! The contract suite: the guarantees of every backend, as cases that run against the real store.
//!
//! A backend's crate implements a [`Harness`] that starts the store and connects clients, and
//! expands the suite with [`contract_tests!`](crate::contract_tests), which generates one named
//! test for each case. Most cases wait for real time to pass, so run them in parallel.
//!
//! A case that cannot run because the harness lacks a hook, or because the profile excludes it,
//! counts as skipped. So does every case of a backend whose profile name is in the comma-separated
//! environment variable `SYNCGUARD_SKIP`. If `SYNCGUARD_CONTRACT_REPORT` names a file, each case
//! appends a line to it: backend, case, `passed` or `skipped`, and the reason, separated by tabs.
//!
//! # Examples
//!
//! ```
//! use syncguard_core::contract::{Harness, Profile};
//! # use syncguard_core::DynBackend as MyBackend;
//! # async fn connect(namespace: u64) -> MyBackend { std::future::pending().await }
//!
//! struct MyHarness(u64);
//!
//! impl Harness for MyHarness {
//!     type Backend = MyBackend;
//!
//!     fn profile() -> Profile {
//!         Profile::in_process("my-store")
//!     }
//!
//!     async fn start() -> Self {
//!         static NAMESPACES: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
//!         Self(NAMESPACES.fetch_add(1, std::sync::atomic::Ordering::Relaxed))
//!     }
//!
//!     async fn client(&self) -> MyBackend {
//!         connect(self.0).await
//!     }
//! }
//!
//! # #[cfg(any())]
//! syncguard_core::contract_tests!(MyHarness);
//! # fn main() {}
//! ```

#![expect(clippy::expect_used, reason = "a case fails by panicking")]

mod cases;
mod faulty;
mod harness;
mod report;
mod steps;

pub mod abandon;
pub mod announcements;
pub mod cancellation;
pub mod contention;
pub mod expiry;
pub mod extend;
pub mod failure;
pub mod fencing;
pub mod guard;
pub mod idempotence;
pub mod invalid;
pub mod keys;
pub mod lifecycle;
pub mod lookup;
pub mod operators;
pub mod ownership;
pub mod parallel;
pub mod patterns;
pub mod permits;
pub mod retirement;
pub mod running;
pub mod shared;
pub mod shared_expiry;
pub mod shared_guards;
pub mod shared_lookup;
pub mod shared_requests;
pub mod shared_waiting;
pub mod waiting;

pub use cases::CASES;
pub use faulty::{Fault, Faulty, Gate};
pub use harness::{Connection, Harness, Hook, Profile, run};
pub use report::CaseOutcome;
