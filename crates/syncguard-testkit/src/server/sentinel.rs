use super::{RedisServer, ServerError, cluster::agreement};

/// A Redis primary and its replica, watched by one sentinel that fails over within two seconds.
#[derive(Debug)]
#[must_use = "the servers end with their handle"]
pub struct RedisSentinel {
    primary: RedisServer,
    replica: RedisServer,
    sentinel: RedisServer,
}

impl RedisSentinel {
    /// The name under which the sentinel knows the primary.
    pub const SERVICE: &'static str = "syncguard";

    /// Starts all three, and waits until the sentinel could fail over.
    ///
    /// # Errors
    ///
    /// [`ServerError`], of one of them or of their coming together.
    pub async fn start() -> Result<Self, ServerError> {
        // A replica gets its copy at once, rather than when others may have come as well.
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
        agreement("a replica that can take over", || servers.dissent()).await?;
        Ok(servers)
    }

    /// The server that is the primary at first.
    pub fn primary(&self) -> &RedisServer {
        &self.primary
    }

    /// The server that is the replica at first.
    pub fn replica(&self) -> &RedisServer {
        &self.replica
    }

    /// The sentinel, which clients ask for the primary.
    pub fn sentinel(&self) -> &RedisServer {
        &self.sentinel
    }

    /// Waits until the sentinel names the replica as the primary.
    ///
    /// # Errors
    ///
    /// [`ServerError::Unsettled`] after half a minute.
    pub async fn failed_over(&self) -> Result<(), ServerError> {
        agreement("a failover", || async {
            let ask = ["SENTINEL", "get-master-addr-by-name", Self::SERVICE];
            let named = self.sentinel.command(&ask).await?;
            let port = self.replica.port().to_string();
            let role = self.replica.command(&["ROLE"]).await?;
            let done = named.lines().nth(1) == Some(&port) && role.starts_with("master");
            Ok((!done).then_some(named))
        })
        .await
    }

    async fn dissent(&self) -> Result<Option<String>, ServerError> {
        let role = self.replica.command(&["ROLE"]).await?;
        if !role.lines().any(|line| line == "connected") {
            return Ok(Some(role));
        }
        let ask = ["SENTINEL", "replicas", Self::SERVICE];
        let replicas = self.sentinel.command(&ask).await?;
        let mut lines = replicas.lines();
        let healthy = lines.any(|line| line == "master-link-status") && lines.next() == Some("ok");
        Ok((!healthy).then_some(replicas))
    }
}
