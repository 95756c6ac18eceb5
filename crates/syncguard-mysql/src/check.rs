//! Checks for settings that would break a guarantee.

use std::collections::BTreeMap;

use syncguard_core::backend::Finding;

use crate::{error::Failure, row::text, schema, statement::Statement, store::Store};

/// The oldest supported versions.
const OLDEST_MYSQL: (u64, u64) = (8, 0);
const OLDEST_MARIADB: (u64, u64) = (10, 6);

/// Checks the settings of the server.
pub(crate) async fn check(store: &Store) -> Result<Vec<Finding>, Failure> {
    let rows = store.connections.run(Statement::read(&store.sql.check)).await?.rows;
    let named =
        rows.iter().filter_map(|row| Some((text(row, "Variable_name")?, text(row, "Value")?)));
    let server = Server(named.map(|(name, value)| (name.to_owned(), value.to_owned())).collect());
    let mut findings = server.findings();
    findings.extend(store.transport.clone());
    findings.extend(schema::finding(store).await?);
    Ok(findings)
}

/// What a server reports about itself.
#[derive(Clone, Debug)]
struct Server(BTreeMap<String, String>);

impl Server {
    fn findings(&self) -> Vec<Finding> {
        let findings = [
            self.version(),
            self.flush(),
            self.torn_pages(),
            self.binary_log(),
            self.binary_log_format(),
            self.role(),
            self.clock(),
            self.cluster(),
        ];
        findings.into_iter().flatten().collect()
    }

    /// Returns a setting that has one of these values, as the server spells it.
    fn found(&self, name: &str, values: &[&str]) -> Option<String> {
        let value = self.0.get(name)?;
        values.contains(&value.as_str()).then(|| format!("{name} = {value}"))
    }

    fn version(&self) -> Option<Finding> {
        let version = self.0.get("version")?;
        let mut numbers = version.split(['.', '-']).map_while(|number| number.parse().ok());
        let version_of = (numbers.next()?, numbers.next()?);
        let oldest = if version.contains("MariaDB") { OLDEST_MARIADB } else { OLDEST_MYSQL };
        let consequence = "statements may fail; use MySQL 8 or MariaDB 10.6 or later";
        (version_of < oldest)
            .then(|| Finding::unsafe_setting(format!("version = {version}"), consequence))
    }

    fn flush(&self) -> Option<Finding> {
        let consequence = "a crash takes back grants and fences: two holders, with one fence; set \
                           innodb_flush_log_at_trx_commit = 1";
        let setting = self.found("innodb_flush_log_at_trx_commit", &["0", "2"])?;
        Some(Finding::unsafe_setting(setting, consequence))
    }

    fn torn_pages(&self) -> Option<Finding> {
        let consequence = "a crash of the machine can leave pages that are half written, and with \
                           them no table at all; set innodb_doublewrite = ON";
        let setting = self.found("innodb_doublewrite", &["OFF", "DETECT_ONLY"])?;
        Some(Finding::unsafe_setting(setting, consequence))
    }

    /// With a binary log, recovery undoes what is not in it.
    fn binary_log(&self) -> Option<Finding> {
        self.found("log_bin", &["ON", "1"])?;
        let every = self.0.get("sync_binlog").filter(|every| *every != "1")?;
        let consequence = "a crash of the machine takes back grants and fences: two holders, with \
                           one fence; set sync_binlog = 1";
        Some(Finding::unsafe_setting(format!("sync_binlog = {every}"), consequence))
    }

    fn binary_log_format(&self) -> Option<Finding> {
        self.found("log_bin", &["ON", "1"])?;
        let consequence = "every write fails; set binlog_format = ROW or MIXED";
        Some(Finding::unsafe_setting(self.found("binlog_format", &["STATEMENT"])?, consequence))
    }

    fn role(&self) -> Option<Finding> {
        let names = ["read_only", "super_read_only", "innodb_read_only"];
        let setting = names.into_iter().find_map(|name| self.found(name, &["ON", "1"]))?;
        Some(Finding::unsafe_setting(setting, "it refuses every write; connect to the primary"))
    }

    /// The time that decides whether a grant is over is then read before the wait for its row. It
    /// is never too late, so no one is granted a key that another client holds.
    fn clock(&self) -> Option<Finding> {
        let consequence = "a statement that waits takes the time from before its wait: a grant may \
                           end early, and one that is just over may be extended";
        Some(Finding::warning(self.found("sysdate_is_now", &["ON"])?, consequence))
    }

    fn cluster(&self) -> Option<Finding> {
        let consequence = "a node may not yet know the last grants of another; let all clients use \
                           one node at a time";
        Some(Finding::warning(self.found("wsrep_on", &["ON", "1"])?, consequence))
    }
}

#[cfg(test)]
mod tests {
    use syncguard_core::backend::Severity;

    use super::Server;

    fn server(settings: &[(&str, &str)]) -> Server {
        let safe = [
            ("version", "10.11.4-MariaDB-1"),
            ("innodb_flush_log_at_trx_commit", "1"),
            ("innodb_doublewrite", "ON"),
            ("log_bin", "ON"),
            ("sync_binlog", "1"),
            ("binlog_format", "MIXED"),
            ("read_only", "OFF"),
            ("sysdate_is_now", "OFF"),
            ("wsrep_on", "OFF"),
        ];
        let settings = safe.iter().chain(settings);
        Server(settings.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    fn severities(settings: &[(&str, &str)]) -> Vec<(Severity, String)> {
        let findings = server(settings).findings();
        findings.into_iter().map(|f| (f.severity, f.setting.into_owned())).collect()
    }

    #[test]
    fn a_server_that_loses_nothing_has_no_finding() {
        for settings in [
            &[("version", "8.0.36")][..],
            &[("version", "8.4.0-commercial"), ("innodb_doublewrite", "DETECT_AND_RECOVER")],
            &[("version", "10.6.0-MariaDB")],
            &[("innodb_flush_log_at_trx_commit", "3")],
            &[("log_bin", "OFF"), ("sync_binlog", "0"), ("binlog_format", "STATEMENT")],
        ] {
            assert_eq!(severities(settings), [], "{settings:?}");
        }
    }

    #[test]
    fn each_setting_that_breaks_a_guarantee_is_found() {
        for (name, value) in [
            ("version", "5.7.44"),
            ("version", "10.5.23-MariaDB"),
            ("innodb_flush_log_at_trx_commit", "0"),
            ("innodb_flush_log_at_trx_commit", "2"),
            ("innodb_doublewrite", "OFF"),
            ("sync_binlog", "0"),
            ("sync_binlog", "1000"),
            ("binlog_format", "STATEMENT"),
            ("read_only", "ON"),
            ("super_read_only", "ON"),
        ] {
            let found = (Severity::Unsafe, format!("{name} = {value}"));
            assert_eq!(severities(&[(name, value)]), [found]);
        }
    }

    #[test]
    fn a_setting_that_weakens_a_guarantee_is_a_warning() {
        for name in ["sysdate_is_now", "wsrep_on"] {
            assert_eq!(severities(&[(name, "ON")]), [(Severity::Warning, format!("{name} = ON"))]);
        }
    }
}
