use std::{
    future::Future,
    time::{Duration, Instant},
};

use tokio::time::sleep;

use super::{Builder, Redis, RedisServer, ServerError};

const MASTERS: usize = 3;
const AGREEMENT_TIMEOUT: Duration = Duration::from_secs(30);
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// A Redis cluster of three masters that share the slots evenly, without replicas.
#[derive(Debug)]
#[must_use = "a cluster ends with its handle"]
pub struct RedisCluster {
    nodes: Vec<RedisServer>,
}

impl RedisCluster {
    /// Starts a cluster.
    ///
    /// # Errors
    ///
    /// [`ServerError`], of a node or of the formation of the cluster.
    pub async fn start() -> Result<Self, ServerError> {
        Self::start_with(RedisServer::builder()).await
    }

    /// Starts a cluster whose nodes have the settings of `node`.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub async fn start_with(node: Builder<Redis>) -> Result<Self, ServerError> {
        let node = node.setting("cluster-enabled", "yes").setting("cluster-node-timeout", "2000");
        let mut nodes = Vec::with_capacity(MASTERS);
        for _ in 0..MASTERS {
            nodes.push(node.clone().start().await?);
        }
        let cluster = Self { nodes };
        let addresses = cluster.addresses();
        let mut create = vec!["--cluster", "create"];
        create.extend(addresses.iter().map(String::as_str));
        create.extend(["--cluster-replicas", "0", "--cluster-yes"]);
        cluster.nodes[0].command(&create).await?;
        cluster.wait_until_settled().await?;
        Ok(cluster)
    }

    /// Returns the nodes. Each is a server that can be killed or stopped by itself.
    pub fn nodes(&self) -> &[RedisServer] {
        &self.nodes
    }

    /// Returns host and port of each node.
    #[must_use]
    pub fn addresses(&self) -> Vec<String> {
        let addresses = self.nodes.iter().map(RedisServer::address);
        addresses.map(|address| address.to_string()).collect()
    }

    /// Waits until every node reports the cluster as healthy and knows all nodes.
    ///
    /// # Errors
    ///
    /// [`ServerError::NoAgreement`] after 30 seconds.
    pub async fn wait_until_settled(&self) -> Result<(), ServerError> {
        wait_for_agreement("a cluster in order", || self.first_disagreement()).await
    }

    /// Returns the slot of a key.
    ///
    /// # Errors
    ///
    /// If a node does not answer.
    pub async fn slot_of(&self, key: &str) -> Result<u16, ServerError> {
        let slot = self.nodes[0].command(&["CLUSTER", "KEYSLOT", key]).await?;
        slot.parse().map_err(|_| unreadable("a slot", slot))
    }

    /// Returns the index in [`nodes`](Self::nodes) of the node that serves a slot.
    ///
    /// # Errors
    ///
    /// If a node does not answer, or no node serves the slot.
    pub async fn owner_of(&self, slot: u16) -> Result<usize, ServerError> {
        let view = self.nodes[0].command(&["CLUSTER", "NODES"]).await?;
        let port = owner_port(&view, slot);
        let owner = self.nodes.iter().position(|node| Some(node.port()) == port);
        owner.ok_or_else(|| unreadable("the owner of a slot", view))
    }

    /// Begins to migrate a slot to another node. From now on, the owner answers ASK for every key
    /// of the slot that it does not have, and the target accepts such keys only after ASKING.
    ///
    /// # Errors
    ///
    /// If a node refuses, for example because it owns the slot already.
    pub async fn migrate(&self, slot: u16, to: usize) -> Result<Migration<'_>, ServerError> {
        let from = self.owner_of(slot).await?;
        let (source, target) = (&self.nodes[from], &self.nodes[to]);
        let (source_id, target_id) = (id(source).await?, id(target).await?);
        set_slot(target, slot, "IMPORTING", &source_id).await?;
        set_slot(source, slot, "MIGRATING", &target_id).await?;
        Ok(Migration { cluster: self, slot, from, to, target_id })
    }

    async fn first_disagreement(&self) -> Result<Option<String>, ServerError> {
        for node in &self.nodes {
            let info = node.command(&["CLUSTER", "INFO"]).await?;
            let all_known = format!("cluster_known_nodes:{MASTERS}\r");
            if !info.contains("cluster_state:ok") || !info.contains(&all_known) {
                return Ok(Some(info));
            }
        }
        Ok(None)
    }
}

/// The migration of a slot from one node to another.
#[derive(Debug)]
#[must_use = "a slot is on its way until the migration is finished"]
pub struct Migration<'a> {
    cluster: &'a RedisCluster,
    slot: u16,
    from: usize,
    to: usize,
    target_id: String,
}

impl Migration<'_> {
    /// Moves the existing keys. The owner keeps the slot, and answers ASK for them.
    ///
    /// # Errors
    ///
    /// If a node refuses.
    pub async fn move_keys(&self) -> Result<(), ServerError> {
        let source = &self.cluster.nodes[self.from];
        let port = self.cluster.nodes[self.to].port().to_string();
        let slot = self.slot.to_string();
        loop {
            let query = ["CLUSTER", "GETKEYSINSLOT", &slot, "100"];
            let keys = source.command(&query).await?;
            if keys.is_empty() {
                return Ok(());
            }
            let mut migrate = vec!["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"];
            migrate.extend(keys.lines());
            source.command(&migrate).await?;
        }
    }

    /// Moves the keys, assigns the slot to the target, and waits until all nodes know. From now on,
    /// the former owner answers MOVED.
    ///
    /// # Errors
    ///
    /// If a node refuses.
    pub async fn finish(self) -> Result<(), ServerError> {
        self.move_keys().await?;
        // The new owner must know first, otherwise the slot has no owner for a moment.
        let new_owner = &self.cluster.nodes[self.to];
        set_slot(new_owner, self.slot, "NODE", &self.target_id).await?;
        for node in &self.cluster.nodes {
            set_slot(node, self.slot, "NODE", &self.target_id).await?;
        }
        self.cluster.wait_until_settled().await
    }
}

/// Polls `disagreement` until it returns `None`.
pub(super) async fn wait_for_agreement<F>(
    what: &'static str,
    mut disagreement: impl FnMut() -> F,
) -> Result<(), ServerError>
where
    F: Future<Output = Result<Option<String>, ServerError>>,
{
    let started = Instant::now();
    loop {
        let seen = match disagreement().await {
            Ok(None) => return Ok(()),
            Ok(Some(seen)) => seen,
            // A server that changes its role disconnects its clients, including this one.
            Err(ServerError::Failed { output, .. }) => output,
            Err(error) => return Err(error),
        };
        if started.elapsed() > AGREEMENT_TIMEOUT {
            let limit = AGREEMENT_TIMEOUT;
            return Err(ServerError::NoAgreement { what, limit, seen });
        }
        sleep(POLL_INTERVAL).await;
    }
}

async fn id(node: &RedisServer) -> Result<String, ServerError> {
    node.command(&["CLUSTER", "MYID"]).await
}

async fn set_slot(node: &RedisServer, slot: u16, state: &str, of: &str) -> Result<(), ServerError> {
    let slot = slot.to_string();
    let set = ["CLUSTER", "SETSLOT", &slot, state, of];
    node.command(&set).await.map(drop)
}

/// Reads the port from a line of CLUSTER NODES: `<id> <ip>:<port>@<bus> <flags> … <slots> …`.
fn owner_port(view: &str, slot: u16) -> Option<u16> {
    let serves = |range: &str| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let first: Option<u16> = first.parse().ok();
        let last: Option<u16> = last.parse().ok();
        first.zip(last).is_some_and(|(first, last)| (first..=last).contains(&slot))
    };
    let line = view.lines().find(|line| line.split(' ').skip(8).any(serves))?;
    let address = line.split(' ').nth(1)?.split('@').next()?;
    address.rsplit_once(':')?.1.parse().ok()
}

fn unreadable(what: &'static str, seen: String) -> ServerError {
    let limit = Duration::ZERO;
    ServerError::NoAgreement { what, limit, seen }
}

#[cfg(test)]
mod tests {
    use super::owner_port;

    #[test]
    fn the_owner_of_a_slot_is_read_from_ranges_and_single_slots() {
        let view = "a 127.0.0.1:1001@11001 myself,master - 0 1 1 connected 0-5460\n\
                    b 127.0.0.1:1002@11002,host master - 0 2 2 connected 5461-10922 16383 [7->-a]";
        assert_eq!(owner_port(view, 5460), Some(1001));
        assert_eq!(owner_port(view, 5461), Some(1002));
        assert_eq!(owner_port(view, 16383), Some(1002));
        assert_eq!(owner_port(view, 11000), None);
    }
}
