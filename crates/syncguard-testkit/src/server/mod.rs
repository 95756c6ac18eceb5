//! Real servers that tests start, stop and kill by handle.
//!
//! | A test that … | uses |
//! | --- | --- |
//! | needs a store and nothing else | [`Redis::shared`](Shareable::shared) and the like |
//! | stops or kills a server, or needs settings of its own | [`RedisServer`], [`PostgresServer`], [`MariadbServer`] |
//! | needs several nodes | [`RedisCluster`], [`RedisSentinel`] |
//! | needs a pooler in front of a server | [`PgBouncer`] |
//!
//! A server listens on a free loopback port, keeps its files in a temporary directory, and ends
//! with its handle, also when a test panics. On Linux it also ends with the process that started
//! it. If it refuses to run as root, another user runs it.

mod account;
mod any;
mod builder;
mod call;
mod cluster;
mod directory;
mod emulator;
mod error;
mod handle;
mod launch;
mod layout;
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
mod site;

pub(crate) use self::call::call;
pub(crate) use self::place::free_ports;
pub use self::{
    any::AnyServer,
    builder::Builder,
    cluster::{Migration, RedisCluster},
    error::ServerError,
    handle::Server,
    mariadb::{Mariadb, MariadbServer},
    persistent::PersistentServer,
    pgbouncer::{PgBouncer, PgBouncerServer},
    place::Place,
    postgres::{Postgres, PostgresServer},
    program::{Program, Settings},
    redis::{Redis, RedisServer},
    sentinel::RedisSentinel,
    shared::{Shareable, Shared},
    site::Site,
};
