//! Clients like the TypeScript SyncGuard, written from the stored formats only. They share no code
//! with the backends, use one lock at a time, and notify no one of their releases.

mod postgres;
mod redis;

pub use self::{postgres::PostgresPeer, redis::RedisPeer};
