//! The test kit of SyncGuard: what the tests that cross its crates are made of.
//!
//! | Module | Holds |
//! | --- | --- |
//! | [`contender`] | what the program `contender`, a process that wants locks, is told and tells |
//! | [`history`] | who was in which lock and when, and what is wrong with that |
//! | [`process`] | a handle on a process that is spoken to, stopped and killed |
//! | [`resource`] | a resource that checks fences |
//!
//! It needs a Unix: processes are stopped and killed by signals.

pub mod contender;
pub mod history;
pub mod process;
pub mod resource;
