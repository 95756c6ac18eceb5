//! Real servers that tests start, break and stop by handle.
//!
//! | A test that … | uses |
//! | --- | --- |
//! | needs a store and nothing else | [`Redis::shared`](Shareable::shared) and the like |
//! | breaks a server, or needs settings of its own | [`RedisServer`], [`PostgresServer`], [`MariadbServer`] |
//! | needs several nodes | [`RedisCluster`], [`RedisSentinel`] |
//! | needs a pooler before a server | [`PgBouncer`] |
//!
//! A server listens on a free loopback port, keeps its files in a temporary directory, and ends
//! with its handle, also when a test panics. On Linux it also dies with the process that started
//! it. Where it refuses to run as root, another user runs it.

mod account;
mod builder;
mod call;
mod cluster;
mod directory;
mod double;
mod error;
mod handle;
mod launch;
mod layout;
mod leased;
mod mariadb;
mod persistent;
mod pgbouncer;
mod place;
mod postgres;
mod process;
mod procfs;
mod program;
mod redis;
mod sentinel;
mod shared;

pub(crate) use self::call::call;
pub(crate) use self::place::free_ports;
pub use self::{
    builder::Builder,
    cluster::{Migration, RedisCluster},
    error::ServerError,
    handle::Server,
    leased::Lent,
    mariadb::{Mariadb, MariadbServer},
    persistent::Lasting,
    pgbouncer::{PgBouncer, PgBouncerServer},
    place::Place,
    postgres::{Postgres, PostgresServer},
    program::{Program, Settings},
    redis::{Redis, RedisServer},
    sentinel::RedisSentinel,
    shared::{Shareable, Shared},
};
