//! Checks for settings that would break a guarantee.

use syncguard_core::backend::Finding;

use crate::{client::Reply, error::Failure, names::Shape, store::Store};

/// Checks each server.
pub(crate) async fn check(store: &Store) -> Result<Vec<Finding>, Failure> {
    let mut findings = Vec::new();
    for node in store.client.nodes().await? {
        let info = store.client.at(node.as_ref(), "INFO", &[]).await?;
        // Managed services often forbid reading the configuration.
        let fsync = store.client.at(node.as_ref(), "CONFIG", &["GET", "appendfsync"]).await;
        let fsync = match fsync {
            Ok(reply) => reply.list().get(1).and_then(Reply::text).map(str::to_owned),
            Err(Failure::Refused(_)) => None,
            Err(failure) => return Err(failure),
        };
        let server = Server {
            info: info.text().unwrap_or_default(),
            fsync: fsync.as_deref(),
            shape: store.layout.shape(),
            waits_for_replicas: store.options.replicas.is_some(),
        };
        for finding in server.findings() {
            if !findings.contains(&finding) {
                findings.push(finding);
            }
        }
    }
    Ok(findings)
}

/// What a server reports about itself.
struct Server<'a> {
    info: &'a str,
    fsync: Option<&'a str>,
    shape: Shape,
    waits_for_replicas: bool,
}

impl Server<'_> {
    fn findings(&self) -> Vec<Finding> {
        let findings =
            [self.persistence(), self.eviction(), self.role(), self.cluster(), self.replication()];
        findings.into_iter().flatten().collect()
    }

    /// A snapshot is minutes old. A log that is synced on each write is written before the
    /// answer. With a log that is synced every second, the server postpones a write for up to two
    /// seconds while the previous sync is still running, and answers nevertheless: such writes are
    /// lost even if only the process dies.
    fn persistence(&self) -> Option<Finding> {
        match self.number("aof_enabled") {
            None => {
                let consequence =
                    "it could not be read, so grants and fences may not survive a restart";
                return Some(Finding::unknown("appendonly", consequence));
            }
            Some(0) => {
                let consequence = "a restart takes back grants and fences: two holders, with fences \
                                   that repeat; set appendonly yes";
                return Some(Finding::unsafe_setting("appendonly no", consequence));
            }
            Some(_) => {}
        }
        match self.fsync {
            Some("always") => None,
            Some("everysec") => Some(Finding::warning(
                "appendfsync everysec",
                "a crash of the server takes back the grants and fences of the last two seconds if its \
                 disk is slow, and a power failure in any case; appendfsync always does not",
            )),
            Some(other) => Some(Finding::unsafe_setting(
                format!("appendfsync {other}"),
                "a power failure takes back the grants and fences of half a minute",
            )),
            None => Some(Finding::unknown(
                "appendfsync",
                "it could not be read, so a power failure may take back grants and fences",
            )),
        }
    }

    /// Eviction removes live locks, and under the `allkeys` policies fence counters as well.
    /// Without a memory limit nothing is evicted, but an operator who sets one later does not
    /// think of the policy.
    fn eviction(&self) -> Option<Finding> {
        let policy = self.value("maxmemory_policy").filter(|policy| *policy != "noeviction")?;
        let setting = format!("maxmemory-policy {policy}");
        let consequence = "a server that is short of memory drops live locks, whose keys are then \
                           granted again; set maxmemory-policy noeviction";
        Some(match self.number("maxmemory") {
            Some(0) => Finding::warning(
                setting,
                "as soon as somebody sets maxmemory, live locks are dropped",
            ),
            _ => Finding::unsafe_setting(setting, consequence),
        })
    }

    fn role(&self) -> Option<Finding> {
        let replica = self.value("role").is_some_and(|role| role != "master");
        let consequence = "it refuses every write; connect to the primary, or through a sentinel";
        replica.then(|| Finding::unsafe_setting("role replica", consequence))
    }

    fn cluster(&self) -> Option<Finding> {
        let untagged = self.shape == Shape::Plain && self.number("cluster_enabled") == Some(1);
        let consequence = "the names of a lock lie in different slots, so no operation works; use a \
                           redis-cluster:// address";
        untagged.then(|| {
            Finding::unsafe_setting("cluster-enabled yes with a plain layout", consequence)
        })
    }

    /// Replication is asynchronous: a replica that takes over may not have received the last
    /// grants.
    fn replication(&self) -> Option<Finding> {
        let replicas = self.number("connected_slaves").filter(|replicas| *replicas > 0)?;
        let consequence = "a failover can lose the last grants and fences: two holders, with one \
                           fence; let grants wait for replicas, and let resources refuse an equal \
                           fence under another lock id";
        let finding = || {
            Finding::warning(format!("{replicas} replicas that are not waited for"), consequence)
        };
        (!self.waits_for_replicas).then(finding)
    }

    fn value(&self, name: &str) -> Option<&str> {
        let mut lines = self.info.lines().filter_map(|line| line.split_once(':'));
        lines.find(|(found, _)| *found == name).map(|(_, value)| value.trim())
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.value(name)?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use syncguard_core::backend::Severity;

    use super::{Server, Shape};

    const SAFE: &str = "aof_enabled:1\r\nmaxmemory:0\r\nmaxmemory_policy:noeviction\r\n\
                        role:master\r\nconnected_slaves:0\r\ncluster_enabled:0\r\n";

    fn findings_of(info: &str, fsync: Option<&str>) -> Vec<(Severity, String)> {
        let (shape, waits_for_replicas) = (Shape::Plain, false);
        let findings = Server { info, fsync, shape, waits_for_replicas }.findings();
        findings.into_iter().map(|f| (f.severity, f.setting.into_owned())).collect()
    }

    #[test]
    fn a_server_that_loses_nothing_has_no_finding() {
        assert_eq!(findings_of(SAFE, Some("always")), []);
    }

    #[test]
    fn each_setting_that_breaks_a_guarantee_is_reported() {
        for (safe, bad, finding) in [
            ("aof_enabled:1", "aof_enabled:0", "appendonly no"),
            (
                "maxmemory:0\r\nmaxmemory_policy:noeviction",
                "maxmemory:1\r\nmaxmemory_policy:allkeys-lru",
                "maxmemory-policy allkeys-lru",
            ),
            ("role:master", "role:slave", "role replica"),
            ("cluster_enabled:0", "cluster_enabled:1", "cluster-enabled yes with a plain layout"),
        ] {
            let found = findings_of(&SAFE.replace(safe, bad), Some("always"));
            assert_eq!(found, [(Severity::Unsafe, finding.to_owned())]);
        }
        assert_eq!(
            findings_of(SAFE, Some("no")),
            [(Severity::Unsafe, "appendfsync no".to_owned())]
        );
    }

    #[test]
    fn a_setting_that_weakens_a_guarantee_is_a_warning_and_one_that_cannot_be_read_is_unknown() {
        for (safe, weak) in [
            ("connected_slaves:0", "connected_slaves:2"),
            ("policy:noeviction", "policy:volatile-lru"),
        ] {
            let found = findings_of(&SAFE.replace(safe, weak), Some("always"));
            assert!(matches!(found.as_slice(), [(Severity::Warning, _)]), "{found:?}");
        }
        let fsync = findings_of(SAFE, Some("everysec"));
        assert!(matches!(fsync.as_slice(), [(Severity::Warning, _)]), "{fsync:?}");
        for (info, fsync, setting) in [
            (SAFE.replace("aof_enabled:1", "nothing:1"), Some("always"), "appendonly"),
            (SAFE.to_owned(), None, "appendfsync"),
        ] {
            assert_eq!(findings_of(&info, fsync), [(Severity::Unknown, setting.to_owned())]);
        }
    }
}
