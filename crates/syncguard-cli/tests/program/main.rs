//! End-to-end tests of the program: real processes, real signals, a separate store for each test.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod configuration;
mod dead_store;
mod death;
mod doctor;
mod documents;
mod environment;
mod exclusion;
mod leader;
mod list;
mod loss;
mod messages;
mod mysql;
mod opening;
mod options;
mod pass_through;
mod postgres;
mod prune;
mod redis;
mod refusals;
mod release;
mod sandbox;
mod settings;
mod shells;
mod signals;
mod status;
mod terminal;
mod wait;
