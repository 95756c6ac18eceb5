//! The statements as they are sent.

use std::{sync::Arc, time::Duration};

use sqlx::{AssertSqlSafe, SqlSafeStr, SqlStr};
use syncguard_core::backend::{Counters, Turn};

use crate::{columns::Columns, names::Tables};

/// The pauses of an acquire that waits at the head of the queue, in milliseconds. After each, it
/// checks whether the key is free. The short ones are for peers that hold the key for a moment.
///
/// Their sum bounds the delay of a peer's attempt, and the time that the transaction is open
/// without need. However soon the peer asks again, the probability that a release falls into a
/// pause is about the share of the time that the pauses take (see `MIN_HEAD_INTERVAL` in
/// `holder_cache.rs`).
const PAUSES_MS: [u32; 4] = [1, 2, 4, 8];

/// The fence of a grant without and with seeding, as an acquire computes it, and the fence that it
/// expects the counter to have.
const FENCES: [(&str, &str, &str); 3] = [
    ("{first_fence}", "1", "floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint"),
    (
        "{next_fence}",
        "seen.fence + 1",
        "greatest(seen.fence + 1, floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint)",
    ),
    (
        "{seen_fence}",
        "excluded.fence - 1",
        "(SELECT last.fence FROM {counters} AS last WHERE last.fence_key = $5)",
    ),
];

/// How long a change of a table in use may wait for its users. Meanwhile, all later users of the
/// table wait behind it.
const SCHEMA_LOCK_TIMEOUT: Duration = Duration::from_secs(1);

/// What statements need because of the connections that they run on.
#[derive(Clone, Debug)]
pub(crate) struct StatementOptions {
    pub(crate) transaction_check: TransactionCheck,
    /// Sent before each statement if the session does not have our settings.
    pub(crate) preamble: Option<Preamble>,
    pub(crate) counters: Counters,
}

/// Whether each statement checks that it runs in its own transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TransactionCheck {
    /// The connections are our own, and none of them is ever inside a transaction.
    Skip,
    /// Others use the connections as well, and may leave one inside a transaction.
    Required,
}

/// The limits that a preamble sets, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Preamble {
    pub(crate) lock_timeout: u128,
    pub(crate) statement_timeout: u128,
}

/// The statements that grant a key in exclusive mode.
pub(crate) struct AcquireSql {
    pub(crate) direct: SqlStr,
    /// Several statements: an acquire behind all clients that queue for the key.
    pub(crate) queued: SqlStr,
    /// Several statements: the same, preceded by a wait at the head of the queue.
    pub(crate) at_head: SqlStr,
}

/// Each statement with the names of the tables in it.
pub(crate) struct Sql {
    pub(crate) acquire: AcquireSql,
    /// The same, but no counter is created.
    pub(crate) claim: AcquireSql,
    pub(crate) acquire_lookup: SqlStr,
    /// Several statements: a wait for the client that is deciding who gets the key, and a lookup.
    pub(crate) settled_lookup: SqlStr,
    /// Several statements if counters are seeded.
    pub(crate) share: SqlStr,
    /// Several statements: an announcement behind all clients that queue for the key.
    pub(crate) announce: SqlStr,
    pub(crate) extend: SqlStr,
    pub(crate) extend_many: SqlStr,
    pub(crate) release: SqlStr,
    pub(crate) leave: SqlStr,
    pub(crate) abandon: SqlStr,
    pub(crate) lookup_by_key: SqlStr,
    pub(crate) lookup_by_id: SqlStr,
    pub(crate) list: SqlStr,
    pub(crate) force_release: SqlStr,
    pub(crate) retire: SqlStr,
    pub(crate) prune: SqlStr,
    pub(crate) prune_some: SqlStr,
    pub(crate) revision: SqlStr,
    pub(crate) schema_state: SqlStr,
    /// Without a preamble, because it reads the settings that other sessions get.
    pub(crate) check: SqlStr,
    pub(crate) enter: SqlStr,
    pub(crate) quit: SqlStr,
    pub(crate) pass: SqlStr,
    pub(crate) columns: Columns,
    pub(crate) counters: Counters,
}

impl Sql {
    pub(crate) fn new(tables: &Tables, options: &StatementOptions, columns: Columns) -> Self {
        let preamble = options.preamble.map_or_else(String::new, Preamble::text);
        let plain = |text: &str| {
            let text = text.replace("{stand}", include_str!("sql/stand.sql"));
            let text = without_comments(&text);
            let text = FENCES.iter().fold(text, |text, (name, from_one, seeded)| {
                text.replace(
                    name,
                    match options.counters {
                        Counters::FromOne => from_one,
                        Counters::Seeded => seeded,
                    },
                )
            });
            let text = tables.fill(&columns.fill(&text));
            text.replace("{own_transaction}", options.transaction_check.expression())
        };
        let statement = |text: &str| sent(format!("{preamble}{}", plain(text)));
        let statements = |texts: &[&str]| statement(&texts.join(";\n"));
        let (queue, stand) = (include_str!("sql/queue.sql"), include_str!("sql/stand.sql"));
        Self {
            acquire: AcquireSql::counting(statements),
            claim: AcquireSql::claiming(statements),
            acquire_lookup: statement(stand),
            settled_lookup: statements(&[include_str!("sql/turn.sql"), stand]),
            share: match options.counters {
                Counters::FromOne => statement(include_str!("sql/share.sql")),
                Counters::Seeded => {
                    statements(&[include_str!("sql/seed.sql"), include_str!("sql/share.sql")])
                }
            },
            announce: statements(&[queue, include_str!("sql/announce.sql")]),
            extend: statement(include_str!("sql/extend.sql")),
            extend_many: statement(include_str!("sql/extend_many.sql")),
            release: statement(include_str!("sql/release.sql")),
            leave: statement(include_str!("sql/leave.sql")),
            abandon: statement(include_str!("sql/abandon.sql")),
            lookup_by_key: statement(include_str!("sql/lookup_by_key.sql")),
            lookup_by_id: statement(include_str!("sql/lookup_by_id.sql")),
            list: statement(include_str!("sql/list.sql")),
            force_release: statement(include_str!("sql/force_release.sql")),
            retire: statement(include_str!("sql/retire.sql")),
            prune: statement(include_str!("sql/prune.sql")),
            prune_some: statement(include_str!("sql/prune_some.sql")),
            revision: statement(include_str!("sql/revision.sql")),
            schema_state: statement(include_str!("sql/schema_state.sql")),
            check: sent(plain(include_str!("sql/check.sql"))),
            enter: statement(include_str!("sql/enter.sql")),
            quit: statement(include_str!("sql/quit.sql")),
            pass: statement(include_str!("sql/pass.sql")),
            columns,
            counters: options.counters,
        }
    }
}

impl AcquireSql {
    /// Returns the statements that create the counter of a key without one.
    fn counting(statements: impl Fn(&[&str]) -> SqlStr) -> Self {
        Self::new(statements, "", "counted")
    }

    /// Returns the statements that do not.
    fn claiming(statements: impl Fn(&[&str]) -> SqlStr) -> Self {
        let is_counted = without_comments(include_str!("sql/is_counted.sql"));
        let grants = without_comments(include_str!("sql/uncounted.sql"));
        let grants = grants.replace("{is_counted}", &is_counted);
        Self::new(statements, &format!(" AND ({is_counted})"), &grants)
    }

    fn new(statements: impl Fn(&[&str]) -> SqlStr, and_is_counted: &str, grants: &str) -> Self {
        let places = PAUSES_MS
            .map(|pause| include_str!("sql/place.sql").replace("{pause}", &pause.to_string()));
        let [first, second, third, fourth] = places.each_ref().map(String::as_str);
        let acquire = include_str!("sql/acquire.sql").replace("{grants}", grants);
        let acquire = &*acquire.replace("{and_is_counted}", and_is_counted);
        let queue = include_str!("sql/queue.sql");
        Self {
            direct: statements(&[acquire]),
            queued: statements(&[queue, acquire]),
            at_head: statements(&[first, second, third, fourth, queue, acquire]),
        }
    }
}

impl Preamble {
    fn text(self) -> String {
        let text = without_comments(include_str!("sql/preamble.sql"));
        text.replace("{lock_timeout}", &self.lock_timeout.to_string())
            .replace("{statement_timeout}", &self.statement_timeout.to_string())
            + "\n"
    }
}

impl TransactionCheck {
    fn expression(self) -> &'static str {
        match self {
            Self::Skip => "true",
            Self::Required => "(transaction_timestamp() = statement_timestamp())",
        }
    }
}

/// The texts that create and change the tables.
pub(crate) struct SchemaTexts {
    pub(crate) begin: String,
    pub(crate) locks: String,
    pub(crate) counters: String,
    pub(crate) columns: String,
    pub(crate) functions: String,
    pub(crate) revision: String,
}

impl SchemaTexts {
    pub(crate) fn new(
        tables: &Tables,
        lock_timeout: Duration,
        statement_timeout: Duration,
    ) -> Self {
        let fill = |text: &str| {
            tables
                .fill(&Columns::All.fill(text))
                .replace("{statement_timeout}", &statement_timeout.as_millis().to_string())
                .replace("{lock_timeout}", &lock_timeout.as_millis().to_string())
                .replace("{max_notified}", &Turn::MAX_NOTIFIED.to_string())
                .replace("{substitutes}", &Turn::SUBSTITUTES.to_string())
                .replace(
                    "{schema_lock_timeout}",
                    &lock_timeout.min(SCHEMA_LOCK_TIMEOUT).as_millis().to_string(),
                )
        };
        Self {
            begin: fill(include_str!("sql/schema_begin.sql")),
            locks: fill(include_str!("sql/schema_locks.sql")),
            counters: fill(include_str!("sql/schema_counters.sql")),
            columns: fill(include_str!("sql/schema_columns.sql")),
            functions: fill(concat!(
                include_str!("sql/schema_stale.sql"),
                include_str!("sql/schema_line.sql"),
                include_str!("sql/schema_live.sql"),
                include_str!("sql/schema_share.sql"),
                include_str!("sql/schema_extend.sql"),
                include_str!("sql/schema_leave.sql"),
            )),
            revision: fill(include_str!("sql/schema_revision.sql")),
        }
    }

    /// Returns the text that creates what is missing and adds the columns that are missing. It can
    /// be run any number of times.
    pub(crate) fn everything(&self) -> String {
        let Self { begin, locks, counters, columns, functions, revision } = self;
        format!("{begin}\n{locks}\n{columns}\n{counters}\n{functions}\n{revision}")
            .replace("{if_not_exists}", "IF NOT EXISTS")
    }
}

fn sent(text: String) -> SqlStr {
    // Only validated names, numbers and our own text have been filled in.
    AssertSqlSafe(Arc::<str>::from(text)).into_sql_str()
}

/// Removes comments and indents, because the text is sent each time if statements are not prepared.
fn without_comments(text: &str) -> String {
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with("--"));
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use syncguard_core::backend::Counters;

    use super::{Preamble, Sql, StatementOptions, TransactionCheck};
    use crate::{columns::Columns, names::Tables};

    #[test]
    fn no_statement_contains_a_placeholder_or_a_comment() {
        let preamble = Preamble { lock_timeout: 1, statement_timeout: 2 };
        for (transaction_check, preamble, counters) in [
            (TransactionCheck::Skip, None, Counters::FromOne),
            (TransactionCheck::Required, Some(preamble), Counters::Seeded),
        ] {
            for columns in [Columns::All, Columns::Owner, Columns::TypeScript] {
                let options = StatementOptions { transaction_check, preamble, counters };
                let sql = Sql::new(&Tables::new("a", "b").unwrap(), &options, columns);
                let acquires = [&sql.acquire, &sql.claim];
                let acquires = acquires.map(|sql| [&sql.direct, &sql.queued, &sql.at_head]);
                for text in acquires.into_iter().flatten().chain([
                    &sql.acquire_lookup,
                    &sql.settled_lookup,
                    &sql.extend,
                    &sql.extend_many,
                    &sql.release,
                    &sql.leave,
                    &sql.abandon,
                    &sql.share,
                    &sql.announce,
                    &sql.lookup_by_id,
                    &sql.force_release,
                    &sql.retire,
                    &sql.enter,
                    &sql.quit,
                    &sql.pass,
                    &sql.list,
                    &sql.prune,
                    &sql.prune_some,
                    &sql.revision,
                    &sql.schema_state,
                    &sql.check,
                ]) {
                    assert!(!text.as_str().contains(['{', '}']), "{}", text.as_str());
                    assert!(!text.as_str().contains("--"), "{}", text.as_str());
                }
            }
        }
    }
}
