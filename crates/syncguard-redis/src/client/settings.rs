//! How the driver is set up.

use std::time::Duration;

use fred::types::{
    Builder, RespVersion,
    config::{Blocking, ReconnectError, ReconnectPolicy},
};

/// Where the driver connects, and its time limits.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) builder: Builder,
    pub(crate) command_timeout: Duration,
    pub(crate) connect_timeout: Duration,
}

impl Settings {
    /// Returns a builder with every setting that the guarantees depend on, whatever else the caller
    /// has chosen.
    ///
    /// - One attempt for each command: by default a script whose reply was lost is sent again.
    /// - No redirections: the driver learns where a slot is and leaves the retry to this crate.
    ///   With one attempt and redirections enabled, an `ASK` ends the driver's task and all that is
    ///   in flight.
    /// - A timeout for each command, which also cancels it while it waits to be sent.
    /// - Unlimited reconnects: without a policy, commands hang forever after a disconnect.
    /// - A connection that does not answer is closed, instead of being waited for.
    /// - Errors of a server that is not, or not yet, the primary lead to a reconnect.
    ///
    /// - `TCP_NODELAY`: with Nagle's algorithm, a call that becomes ready while another is in flight
    ///   waits for the answer to that one, up to a round trip. Calls that are ready together are joined
    ///   before they reach the driver (see `gather.rs`).
    pub(crate) fn prepared(&self) -> Builder {
        let mut builder = self.builder.clone();
        builder.with_config(|config| {
            config.fail_fast = true;
            config.blocking = Blocking::Block;
            config.version = RespVersion::RESP2;
        });
        builder.with_performance_config(|performance| {
            performance.default_command_timeout = self.command_timeout;
            performance.broadcast_channel_capacity = 1_024;
        });
        builder.with_connection_config(|connection| {
            connection.tcp.nodelay = Some(true);
            connection.max_command_attempts = 1;
            connection.max_redirections = 0;
            connection.connection_timeout = self.connect_timeout;
            connection.internal_command_timeout = self.connect_timeout;
            connection.unresponsive.max_timeout = Some(self.command_timeout);
            connection.unresponsive.interval = self.command_timeout / 4;
            connection.reconnect_errors = vec![
                ReconnectError::ClusterDown,
                ReconnectError::Loading,
                ReconnectError::MasterDown,
                ReconnectError::ReadOnly,
            ];
        });
        builder.set_policy(ReconnectPolicy::Exponential {
            attempts: 0,
            max_attempts: 0,
            min_delay: 10,
            max_delay: 1_000,
            base: 2,
            jitter: 10,
        });
        builder
    }

    pub(crate) fn is_cluster(&self) -> bool {
        let config = self.builder.get_config();
        config.is_some_and(|config| config.server.is_clustered())
    }

    /// The maximum duration of a call while the runtime is driven: the wait for a connection or for
    /// a new one, and then the command.
    pub(super) fn max_call_duration(&self) -> Duration {
        2 * self.command_timeout + self.connect_timeout
    }
}
