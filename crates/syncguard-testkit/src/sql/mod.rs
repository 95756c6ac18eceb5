//! The cases that every backend on a SQL server must pass, beside the contract suite: faults of the
//! network and of the server, few connections, tables that others create, change and prune.
//!
//! The tests of a backend implement [`Tables`], and call each case in a test of its own.

pub mod connections;
pub mod malformed;
pub mod mutants;
pub mod network;
pub mod priorities;
pub mod schema;
pub mod server;
pub mod settings;
mod tables;
pub mod wire;

use self::tables::SHORT_TIMEOUT;
pub use self::tables::{Foreign, Setting, Tables, unique};
