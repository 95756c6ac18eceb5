//! The test kit of SyncGuard: what the tests that cross its crates are made of.
//!
//! | Module | Holds |
//! | --- | --- |
//! | [`server`], [`find`] | servers that are started for tests, killed, stopped and restarted; where their programs are |
//! | [`proxy`] | a network that fails on command |
//! | [`clock`] | a wall clock that jumps on command, for a server |
//! | [`operations`] | short words by which tests ask something of a backend |
//! | [`mod@bench`] | what the benchmarks of backends have in common |
//! | [`contender`] | what the program `contender`, a process that wants locks, is told and tells |
//! | [`log_capture`] | what is told through `tracing` |
//! | [`hostile`] | keys that a store could take for something else |
//! | [`history`] | who was in which lock and when, and what is wrong with that |
//! | [`mod@mutants`] | records that nothing of ours has written |
//! | [`node`] | packages for Node, for tests that run other people's clients |
//! | [`process`] | a handle on a process that is spoken to, stopped and killed |
//! | [`resource`] | a resource that checks fences |
//! | [`traced`] | spans and events as a subscriber sees them |
//!
//! It needs a Unix: processes are stopped and killed by signals.

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
pub mod resource;
pub mod server;
mod subscriber;
pub mod traced;
