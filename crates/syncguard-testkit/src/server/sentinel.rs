use super::{RedisServer, ServerError, cluster::wait_for_agreement};

/// A Redis primary and its replica, monitored by one sentinel that fails over within two seconds.
#[derive(Debug)]
#[must_use = "the servers end with their handle"]
pub struct RedisSentinel {
    primary: RedisServer,
    replica: RedisServer,
    sentinel: RedisServer,
}

impl RedisSentinel {
    /// The name of the primary at the sentinel.
    pub const SERVICE: &'static str = "syncguard";

    /// Starts all three, and waits until the sentinel is able to fail over.
    ///
    /// # Errors
    ///
    /// [`ServerError`], of one of them or of their connection.
    pub async fn start() -> Result<Self, ServerError> {
        // A replica gets its copy at once. By default the primary waits for other replicas first.
        let server = RedisServer::builder().setting("repl-diskless-sync-delay", "0");
        let primary = server.clone().start().await?;
        let port = primary.port();
        let replica = server.setting("replicaof", format!("127.0.0.1 {port}"));
        let replica = replica.start().await?;
        let of_service = |name: &str, value: &str| {
            (format!("sentinel {name}"), format!("{} {value}", Self::SERVICE))
        };
        let (monitor, watched) = of_service("monitor", &format!("127.0.0.1 {port} 1"));
        let (down, after) = of_service("down-after-milliseconds", "500");
        let (failover, limit) = of_service("failover-timeout", "2000");
        let sentinel = RedisServer::builder().argument("--sentinel");
        let sentinel = sentinel.setting(monitor, watched).setting(down, after);
        let sentinel = sentinel.setting(failover, limit).start().await?;
        let servers = Self { primary, replica, sentinel };
        wait_for_agreement("a replica that can take over", || servers.disagreement()).await?;
        Ok(servers)
    }

    /// Returns the server that is the primary at first.
    pub fn primary(&self) -> &RedisServer {
        &self.primary
    }

    /// Returns the server that is the replica at first.
    pub fn replica(&self) -> &RedisServer {
        &self.replica
    }

    /// Returns the sentinel, which clients query for the primary.
    pub fn sentinel(&self) -> &RedisServer {
        &self.sentinel
    }

    /// Waits until the sentinel reports the replica as the primary.
    ///
    /// # Errors
    ///
    /// [`ServerError::NoAgreement`] after 30 seconds.
    pub async fn wait_for_failover(&self) -> Result<(), ServerError> {
        wait_for_agreement("a failover", || async {
            let query = ["SENTINEL", "get-master-addr-by-name", Self::SERVICE];
            let named = self.sentinel.command(&query).await?;
            let port = self.replica.port().to_string();
            let role = self.replica.command(&["ROLE"]).await?;
            let done = named.lines().nth(1) == Some(&port) && role.starts_with("master");
            Ok((!done).then_some(named))
        })
        .await
    }

    async fn disagreement(&self) -> Result<Option<String>, ServerError> {
        let role = self.replica.command(&["ROLE"]).await?;
        if !role.lines().any(|line| line == "connected") {
            return Ok(Some(role));
        }
        let query = ["SENTINEL", "replicas", Self::SERVICE];
        let replicas = self.sentinel.command(&query).await?;
        let mut lines = replicas.lines();
        let healthy = lines.any(|line| line == "master-link-status") && lines.next() == Some("ok");
        Ok((!healthy).then_some(replicas))
    }
}
