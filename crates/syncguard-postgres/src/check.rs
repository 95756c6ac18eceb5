//! Checks for settings that would break a guarantee.

use sqlx::postgres::PgRow;
use syncguard_core::backend::Finding;

use crate::{
    columns::Columns, error::Failure, row::value, schema, statement::Statement, store::Store,
    transport,
};

/// The oldest supported version, as PostgreSQL writes it: 12.
const OLDEST: i32 = 120_000;

const WITHOUT_OWNER: &str = "no owner is stored, and waiters poll at a short interval, because \
                             grants of this library cannot be told from those of clients that \
                             notify no one; run `syncguard schema --apply` or setup_schema and \
                             connect again";

/// Checks the settings as the server sets them by itself, not as this backend requests them: other
/// clients of the same tables use the server's.
pub(crate) async fn check(store: &Store) -> Result<Vec<Finding>, Failure> {
    let row = store.connections.plain_row(Statement::read(&store.sql.check)).await?;
    let server = Server::read(&row)?;
    let mut findings = server.findings();
    let to_listen = store.waiters.connect_options().and_then(transport::finding);
    let ways = [transport::finding(&store.connections.plain), to_listen];
    for way in ways.into_iter().flatten() {
        if findings.last() != Some(&way) {
            findings.push(way);
        }
    }
    // A server that is too old may not even accept the statement.
    let state = schema::State::read(store).await?;
    if !state.usable {
        let consequence =
            "no lock can be kept; call setup_schema, or run the statements that schema_sql returns";
        findings.push(Finding::unsafe_setting("lock tables missing or incomplete", consequence));
    } else if store.sql.columns == Columns::TypeScript {
        findings.push(Finding::warning("lock table without owner columns", WITHOUT_OWNER));
    }
    Ok(findings)
}

/// What a server reports about itself.
#[derive(Clone)]
struct Server {
    version: i32,
    isolation: String,
    synchronous_commit: String,
    fsync: String,
    full_page_writes: String,
    standby: bool,
    standbys: i64,
    unawaited: bool,
}

impl Server {
    fn read(row: &PgRow) -> Result<Self, Failure> {
        Ok(Self {
            version: value(row, "version")?,
            isolation: value(row, "isolation")?,
            synchronous_commit: value(row, "synchronous_commit")?,
            fsync: value(row, "fsync")?,
            full_page_writes: value(row, "full_page_writes")?,
            standby: value(row, "standby")?,
            standbys: value(row, "standbys")?,
            unawaited: value(row, "unawaited")?,
        })
    }

    fn findings(&self) -> Vec<Finding> {
        let findings = [
            self.version(),
            self.durability(),
            self.torn_pages(),
            self.role(),
            self.isolation(),
            self.commits(),
            self.replication(),
        ];
        findings.into_iter().flatten().collect()
    }

    fn version(&self) -> Option<Finding> {
        let setting = || format!("server_version_num = {}", self.version);
        (self.version < OLDEST).then(|| {
            Finding::unsafe_setting(setting(), "statements may fail; use PostgreSQL 12 or later")
        })
    }

    fn durability(&self) -> Option<Finding> {
        let consequence = "a crash of the machine takes back grants and fences, or the whole \
                           database; set fsync = on";
        (self.fsync == "off").then(|| Finding::unsafe_setting("fsync = off", consequence))
    }

    fn torn_pages(&self) -> Option<Finding> {
        let consequence = "a crash of the machine can leave pages that are half written, and with \
                           them two holders or a fence that goes back; set full_page_writes = on";
        (self.full_page_writes == "off")
            .then(|| Finding::unsafe_setting("full_page_writes = off", consequence))
    }

    fn role(&self) -> Option<Finding> {
        let consequence = "it refuses every write; connect to the primary";
        self.standby.then(|| Finding::unsafe_setting("standby", consequence))
    }

    /// Each statement is correct at any level; at a stricter one the server undoes statements that
    /// conflict, and they are run again.
    fn isolation(&self) -> Option<Finding> {
        let consequence = "this backend asks for read committed where it makes its own connections, \
                           and runs a statement again where it does not; other clients of the lock \
                           tables fail where they meet";
        (self.isolation != "read committed").then(|| {
            Finding::warning(
                format!("default_transaction_isolation = {}", self.isolation),
                consequence,
            )
        })
    }

    /// Each grant and each extend requests the wait by itself.
    fn commits(&self) -> Option<Finding> {
        let consequence = "this backend waits for the disk all the same; other clients of the lock \
                           tables do not, so a crash of the server takes back their last grants \
                           and fences";
        (self.synchronous_commit == "off")
            .then(|| Finding::warning("synchronous_commit = off", consequence))
    }

    /// A standby that takes over may not have received the last grants.
    fn replication(&self) -> Option<Finding> {
        let consequence = "a failover can lose the last grants and fences: two holders, with one \
                           fence; set synchronous_standby_names, and let resources refuse an equal \
                           fence under another lock id";
        (self.standbys > 0 && self.unawaited && !self.standby).then(|| {
            Finding::warning(
                format!("{} standbys that are not waited for", self.standbys),
                consequence,
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use syncguard_core::backend::Severity;

    use super::Server;

    fn safe() -> Server {
        Server {
            version: 150_000,
            isolation: "read committed".to_owned(),
            synchronous_commit: "on".to_owned(),
            fsync: "on".to_owned(),
            full_page_writes: "on".to_owned(),
            standby: false,
            standbys: 0,
            unawaited: true,
        }
    }

    fn severities(server: &Server) -> Vec<(Severity, String)> {
        let findings = server.findings();
        findings.into_iter().map(|f| (f.severity, f.setting.into_owned())).collect()
    }

    #[test]
    fn a_server_that_loses_nothing_has_no_finding() {
        assert_eq!(severities(&safe()), []);
        let awaited = Server { standbys: 2, unawaited: false, ..safe() };
        assert_eq!(severities(&awaited), []);
    }

    #[test]
    fn each_setting_that_breaks_a_guarantee_is_found() {
        let off = || "off".to_owned();
        for (bad, setting) in [
            (Server { fsync: off(), ..safe() }, "fsync = off"),
            (Server { full_page_writes: off(), ..safe() }, "full_page_writes = off"),
            (Server { standby: true, ..safe() }, "standby"),
            (Server { version: 110_000, ..safe() }, "server_version_num = 110000"),
        ] {
            assert_eq!(severities(&bad), [(Severity::Unsafe, setting.to_owned())]);
        }
    }

    #[test]
    fn a_setting_that_is_overridden_or_weakens_a_guarantee_is_a_warning() {
        for (weak, setting) in [
            (
                Server { isolation: "serializable".to_owned(), ..safe() },
                "default_transaction_isolation = serializable",
            ),
            (Server { synchronous_commit: "off".to_owned(), ..safe() }, "synchronous_commit = off"),
            (Server { standbys: 1, ..safe() }, "1 standbys that are not waited for"),
        ] {
            assert_eq!(severities(&weak), [(Severity::Warning, setting.to_owned())]);
        }
    }
}
