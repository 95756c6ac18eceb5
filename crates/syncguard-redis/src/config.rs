//! Where the server is and how it is used.

use std::{fmt, time::Duration};

use fred::types::Builder;
use syncguard_core::{
    Error, Operation, UnsafeSettings,
    backend::{Counters, RetireRequest},
};

use crate::{
    address,
    client::Settings,
    error::Failure,
    names::{Layout, Shape},
    options::{Options, Replicas},
};

/// The shortest timeout: below it, a server that is not idle is taken for one that is down.
const MIN_TIMEOUT: Duration = Duration::from_millis(10);

/// The longest lifetime of a counter, which leaves room for additions.
const MAX_COUNTER_LIFETIME: Duration = Duration::from_secs(100 * 366 * 24 * 3_600);

/// Configures which server keeps the locks and how it is used.
///
/// # Examples
///
/// ```no_run
/// use std::time::Duration;
/// use syncguard_core::UnsafeSettings;
/// use syncguard_redis::{RedisBackend, RedisConfig};
///
/// # async fn example() -> Result<(), syncguard_core::Error> {
/// let config = RedisConfig::from_url("rediss://app:secret@redis.internal:6380/2")?
///     .prefix("billing")
///     .command_timeout(Duration::from_secs(2))
///     .unsafe_settings(UnsafeSettings::Refuse);
/// let backend = RedisBackend::connect(config).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct RedisConfig {
    builder: Builder,
    prefix: String,
    pub(crate) options: Options,
    pub(crate) unsafe_settings: UnsafeSettings,
    command_timeout: Duration,
    connect_timeout: Duration,
}

impl RedisConfig {
    /// The default prefix of all names. It is the one of the TypeScript SyncGuard.
    pub const DEFAULT_PREFIX: &'static str = "syncguard";

    /// The longest prefix, in bytes.
    pub const MAX_PREFIX: usize = Layout::MAX_PREFIX;

    /// The default and longest time for which a grant keeps its key past its expiry: 1000 ms.
    pub const MAX_GRACE: Duration = Duration::from_millis(1_000);

    /// The default command timeout: 5 seconds.
    pub const DEFAULT_COMMAND_TIMEOUT: Duration = Duration::from_secs(5);

    /// The default connect timeout: 5 seconds.
    pub const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

    /// Parses an address.
    ///
    /// | Address | Server |
    /// | --- | --- |
    /// | `redis://[user:password@]host[:port][/database]` | one server, or a proxy for one |
    /// | `rediss://…` | the same over TLS |
    /// | `redis-sentinel://host:port?sentinelServiceName=name[&node=host:port…]` | the primary that the sentinels name |
    /// | `redis-cluster://host:port[?node=host:port…]` | a cluster |
    /// | `redis+unix:///path/to/socket` | one server, through a Unix socket |
    ///
    /// `rediss-sentinel`, `rediss-cluster` and the same schemes with `valkey` work as well.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidArgument`](syncguard_core::ErrorKind::InvalidArgument) if the address has
    /// none of these forms, or if it requires TLS and the trusted certificates cannot be loaded.
    /// The message names their file and does not repeat the address, which may hold a password.
    pub fn from_url(url: &str) -> Result<Self, Error> {
        let config = address::parse(url)
            .map_err(|failure| failure.into_error().with_operation(Operation::Connect))?;
        Ok(Self::from_builder(Builder::from_config(config)))
    }

    /// Uses a driver's builder with the caller's own addresses, credentials, TLS and TCP settings.
    ///
    /// The settings that the guarantees depend on are overridden: one attempt for each command, the
    /// timeouts, the reconnects, `TCP_NODELAY`, and version 2 of the protocol.
    pub fn from_builder(builder: Builder) -> Self {
        Self {
            builder,
            prefix: Self::DEFAULT_PREFIX.to_owned(),
            options: Options {
                grace: Self::MAX_GRACE,
                replicas: None,
                counters: Counters::FromOne,
                counter_lifetime: None,
            },
            unsafe_settings: UnsafeSettings::default(),
            command_timeout: Self::DEFAULT_COMMAND_TIMEOUT,
            connect_timeout: Self::DEFAULT_CONNECT_TIMEOUT,
        }
    }

    /// Sets the prefix of all key names. All clients that share locks need the same prefix.
    ///
    /// A lock under this prefix must not be able to have the name of another prefix's fence
    /// counter: the lock of `k` under the prefix `a:fence:a` would be the counter of `k` under the
    /// prefix `a`. [Connecting](crate::RedisBackend::connect) refuses such a prefix, except to a cluster, where
    /// names have another form.
    #[must_use]
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Sets how long past its expiry a grant keeps its key: whole milliseconds, at most
    /// [`MAX_GRACE`](Self::MAX_GRACE).
    ///
    /// The grace is how much longer than its ttl a record is stored. With a grace of zero, as in
    /// the TypeScript SyncGuard, only the holder's safety margin lies between two holders. Clients
    /// with different graces exclude each other correctly: a record that is still stored counts for
    /// all.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.options.grace = grace;
        self
    }

    /// Sets how unsafe settings of the server are handled.
    #[must_use]
    pub fn unsafe_settings(mut self, unsafe_settings: UnsafeSettings) -> Self {
        self.unsafe_settings = unsafe_settings;
        self
    }

    /// Sets the maximum duration of a command, from the call to its answer, reconnects included.
    ///
    /// Keep it below the request timeout of the lock layer (10 s by default). Then the driver
    /// cancels what it has not sent before a caller gives up waiting.
    #[must_use]
    pub fn command_timeout(mut self, timeout: Duration) -> Self {
        self.command_timeout = timeout;
        self
    }

    /// Sets the maximum duration of connecting.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Requires that a grant or an extend has reached this many replicas (`WAIT`) within `timeout`
    /// before it counts. `timeout` must be shorter than the command timeout.
    ///
    /// This makes the loss of a grant in a failover unlikely, not impossible: a replica that has
    /// the grant need not be the one that takes over. It costs a round trip, and the connection
    /// waits in the meantime. If too few replicas have the grant, or if their number is unknown,
    /// the call returns a [`ServiceUnavailable`](syncguard_core::ErrorKind::ServiceUnavailable)
    /// error and the grant is released. Only if that release is answered does the error report that
    /// nothing was applied.
    ///
    /// [Connecting](crate::RedisBackend::connect) refuses a user who may not call `WAIT`.
    #[must_use]
    pub fn wait_for_replicas(mut self, count: u32, timeout: Duration) -> Self {
        self.options.replicas = Some(Replicas { count, timeout });
        self
    }

    /// Makes the fence of each grant at least the server's Unix milliseconds. Without this, the
    /// fences of a key that has no counter yet start at 1.
    ///
    /// If a server loses its data, or goes back to older data, new fences are then higher than all
    /// that it granted before, unless its clock is set back or a key was granted more than once per
    /// millisecond.
    ///
    /// If all clients of the server set this, and none is a TypeScript client, counters that are no
    /// longer used can be [retired](syncguard_core::LockManager::retire_counters), or
    /// [expire](Self::expire_counters).
    #[must_use]
    pub fn seed_new_counters(mut self) -> Self {
        self.options.counters = Counters::Seeded;
        self
    }

    /// Lets the server delete the counter of a key that was not granted for `unused_for`: at least a
    /// day. Then nothing is left for ever of keys of one use.
    ///
    /// This requires [`seed_new_counters`](Self::seed_new_counters). **All clients of the server must
    /// set both, and none may be a TypeScript client**: a counter that was deleted begins at 1 there.
    /// The server's clock must never be set back by `unused_for` or more.
    /// [`Counters`](syncguard_core::backend::Counters) has the proof; a counter expires once the
    /// clock is `unused_for` beyond its value.
    #[must_use]
    pub fn expire_counters(mut self, unused_for: Duration) -> Self {
        self.options.counter_lifetime = Some(unused_for);
        self
    }

    /// Describes where the locks are, without credentials.
    pub(crate) fn server(&self) -> String {
        let config = self.builder.get_config();
        config.map_or_else(String::new, |config| address::describe(&config.server))
    }

    /// Returns the driver's settings and the layout of names, or the rule that a value breaks.
    pub(crate) fn validated(&self) -> Result<(Settings, Layout), Failure> {
        let settings = Settings {
            builder: self.builder.clone(),
            command_timeout: self.command_timeout,
            connect_timeout: self.connect_timeout,
        };
        let shape = if settings.is_cluster() { Shape::Tagged } else { Shape::Plain };
        let (prefix, bytes) = (&self.prefix, self.prefix.len());
        require(bytes <= Self::MAX_PREFIX, || {
            format!("the prefix has {bytes} bytes; it must have at most {}", Self::MAX_PREFIX)
        })?;
        let is_tag = !prefix.trim_end_matches(':').is_empty() && !prefix.contains(['{', '}']);
        require(shape == Shape::Plain || is_tag, || {
            format!(
                "the prefix is {prefix:?}; on a cluster it must have characters other than colons, \
                 and no braces"
            )
        })?;
        require(shape == Shape::Tagged || !Layout::is_among_counters(prefix), || {
            format!(
                "with the prefix {prefix:?}, locks would have the names of another prefix's fence \
                 counters"
            )
        })?;
        let grace = self.options.grace;
        let is_whole = grace.subsec_nanos().is_multiple_of(1_000_000);
        require(is_whole && grace <= Self::MAX_GRACE, || {
            format!("the grace is {grace:?}; it must be whole milliseconds, at most 1000")
        })?;
        for (name, timeout) in
            [("command_timeout", self.command_timeout), ("connect_timeout", self.connect_timeout)]
        {
            require(timeout >= MIN_TIMEOUT, || {
                format!("{name} is {timeout:?}; it must be at least 10 ms")
            })?;
        }
        if let Some(Replicas { timeout, .. }) = self.options.replicas {
            let limit = self.command_timeout;
            require(timeout >= Duration::from_millis(1) && timeout < limit, || {
                format!(
                    "the timeout for replicas is {timeout:?}; it must be at least 1 ms, and shorter \
                     than command_timeout, which is {limit:?}"
                )
            })?;
        }
        if let Some(unused_for) = self.options.counter_lifetime {
            require(self.options.counters == Counters::Seeded, || {
                "expire_counters requires seed_new_counters".to_owned()
            })?;
            let limits = RetireRequest::MIN_UNUSED_FOR..=MAX_COUNTER_LIFETIME;
            require(limits.contains(&unused_for), || {
                format!("counters expire after {unused_for:?}; it must be 24 h to 100 years")
            })?;
        }
        Ok((settings, Layout::new(&self.prefix, shape)))
    }
}

/// Refuses a configuration that breaks a rule.
fn require(holds: bool, rule: impl FnOnce() -> String) -> Result<(), Failure> {
    if holds { Ok(()) } else { Err(Failure::Config(rule())) }
}

impl fmt::Debug for RedisConfig {
    /// Omits the builder, which may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisConfig")
            .field("prefix", &self.prefix)
            .field("options", &self.options)
            .field("unsafe_settings", &self.unsafe_settings)
            .field("command_timeout", &self.command_timeout)
            .field("connect_timeout", &self.connect_timeout)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use syncguard_core::backend::RetireRequest;

    use super::RedisConfig;
    use crate::names::Shape;

    const URL: &str = "redis://localhost:6379";

    fn shape_of(url: &str) -> Shape {
        RedisConfig::from_url(url).unwrap().validated().unwrap().1.shape()
    }

    #[test]
    fn an_address_says_what_kind_of_server_it_is() {
        for url in [
            URL,
            "rediss://u:p@h",
            "valkey://h/3",
            "redis+unix:///tmp/redis.sock",
            "redis-sentinel://h:1?sentinelServiceName=s&node=i:2",
        ] {
            assert_eq!(shape_of(url), Shape::Plain, "{url}");
        }
        for url in ["redis-cluster://h:1?node=i:2", "valkeys-cluster://h:1"] {
            assert_eq!(shape_of(url), Shape::Tagged, "{url}");
        }
    }

    #[test]
    fn values_that_break_a_rule_are_refused() {
        let config = || RedisConfig::from_url(URL).unwrap();
        let cluster = || RedisConfig::from_url("redis-cluster://h:1").unwrap();
        let second = Duration::from_secs(1);
        for bad in [
            config().prefix("p".repeat(401)),
            cluster().prefix("a{b"),
            cluster().prefix("::"),
            config().prefix("fence"),
            config().prefix("fence:a:"),
            config().prefix("a:fence"),
            config().prefix("a:fence:a"),
            config().prefix("a:b:fence:a"),
            config().prefix("a:b:fence:a:b:c"),
            config().prefix("fence:fence:b"),
            config().grace(second + Duration::from_millis(1)),
            config().grace(Duration::from_micros(1)),
            config().command_timeout(Duration::ZERO),
            config().wait_for_replicas(1, Duration::ZERO),
            config().wait_for_replicas(1, second).command_timeout(second),
            config().expire_counters(RetireRequest::MIN_UNUSED_FOR),
            config().seed_new_counters().expire_counters(RetireRequest::MIN_UNUSED_FOR - second),
            config().seed_new_counters().expire_counters(Duration::MAX),
        ] {
            assert!(bad.validated().is_err(), "{bad:?}");
        }
        for good in [
            config().prefix("").grace(Duration::ZERO),
            config().prefix("fences"),
            config().prefix("a:Fence:a"),
            config().prefix("geo:fence:alerts"),
            config().prefix("a:fence:ab"),
            cluster().prefix("a:fence:a"),
            config().seed_new_counters().expire_counters(RetireRequest::MIN_UNUSED_FOR),
        ] {
            assert!(good.validated().is_ok(), "{good:?}");
        }
    }

    #[test]
    fn a_password_shows_in_no_log() {
        let config = RedisConfig::from_url("redis://u:secret@h").unwrap();
        assert!(!format!("{config:?}").contains("secret"));
    }
}
