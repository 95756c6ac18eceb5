//! The test kit of SyncGuard, shared by the tests and benchmarks of its crates.
//!
//! | Module | Holds |
//! | --- | --- |
//! | [`server`], [`find`] | servers that tests start, kill, stop and restart; the search for their programs |
//! | [`proxy`] | a network that fails on command |
//! | [`clock`] | a wall clock for a server that jumps on command |
//! | [`operations`] | short functions for the operations of a backend |
//! | [`mod@bench`] | code shared by the benchmarks of the backends |
//! | [`contender`] | the protocol of the program `contender`, a process that acquires locks on command |
//! | [`log_capture`] | a counter of `tracing` events |
//! | [`hostile`] | keys that a store could mistake for something else |
//! | [`history`] | which process held which lock and when, and a check of that history |
//! | [`mod@mutants`] | records that no client of ours has written |
//! | [`node`] | packages for Node, for tests that run other clients |
//! | [`process`] | a handle on a child process |
//! | [`random`] | random numbers |
//! | [`resource`] | a resource that checks fences |
//! | [`storm`] | processes that lock, and are killed and stopped |
//! | [`sql`] | the cases that the backends on SQL servers share |
//! | [`traced`] | spans and events as a subscriber sees them |
//! | [`typescript`] | clients like the TypeScript SyncGuard |
//!
//! Requires Unix: processes are stopped and killed by signals.

pub mod bench;
mod cache;
pub mod clock;
pub mod contender;
pub mod find;
pub mod history;
pub mod hostile;
pub mod log_capture;
pub mod mutants;
pub mod node;
pub mod operations;
pub mod process;
pub mod proxy;
pub mod random;
pub mod resource;
pub mod server;
pub mod sql;
pub mod storm;
mod subscriber;
pub mod traced;
pub mod typescript;
