//! The statements, with the name of the table in them.

use std::sync::Arc;

use crate::names::Table;

/// Each statement, or group of statements that are sent together, without the values.
pub(crate) struct Sql {
    pub(crate) acquire: Arc<str>,
    pub(crate) harden: Arc<str>,
    pub(crate) extend: Arc<str>,
    pub(crate) release: Arc<str>,
    pub(crate) abandon: Arc<str>,
    pub(crate) lookup_by_key: Arc<str>,
    pub(crate) lookup_by_id: Arc<str>,
    pub(crate) list: Arc<str>,
    pub(crate) force_clear: Arc<str>,
    pub(crate) prune: Arc<str>,
    pub(crate) prune_some: Arc<str>,
    pub(crate) revision: Arc<str>,
    pub(crate) schema_revision: Arc<str>,
    pub(crate) schema: Arc<str>,
    pub(crate) schema_state: Arc<str>,
    pub(crate) check: Arc<str>,
}

impl Sql {
    pub(crate) fn new(table: &Table) -> Self {
        let statement = |text: &str| Arc::from(sent(&table.fill(text)));
        Self {
            acquire: statement(include_str!("sql/acquire.sql")),
            harden: statement(include_str!("sql/harden.sql")),
            extend: statement(include_str!("sql/extend.sql")),
            release: statement(include_str!("sql/release.sql")),
            abandon: statement(include_str!("sql/abandon.sql")),
            lookup_by_key: statement(include_str!("sql/lookup_by_key.sql")),
            lookup_by_id: statement(include_str!("sql/lookup_by_id.sql")),
            list: statement(include_str!("sql/list.sql")),
            force_clear: statement(include_str!("sql/force_clear.sql")),
            prune: statement(include_str!("sql/prune.sql")),
            prune_some: statement(include_str!("sql/prune_some.sql")),
            revision: statement(include_str!("sql/revision.sql")),
            schema_revision: statement(include_str!("sql/schema_revision.sql")),
            schema: statement(include_str!("sql/schema.sql")),
            schema_state: statement(include_str!("sql/schema_state.sql")),
            check: statement(include_str!("sql/check.sql")),
        }
    }
}

/// Returns the statements that create the table and record its revision.
pub(crate) fn schema(table: &Table) -> String {
    let [record, create] =
        [include_str!("sql/schema_revision.sql"), include_str!("sql/schema.sql")];
    table.fill(&format!("{};\n\n{create}", record.trim_end()))
}

/// The statements that a connection begins with.
pub(crate) fn settings() -> Arc<str> {
    Arc::from(sent(include_str!("sql/settings.sql")))
}

/// The statement that lists sessions.
pub(crate) fn sessions() -> Arc<str> {
    Arc::from(without_comments(include_str!("sql/sessions.sql")))
}

/// Inserts the expressions that read the clock, and omits what the server need not read.
fn sent(text: &str) -> String {
    let now = without_comments(include_str!("sql/now.sql"));
    let start = without_comments(include_str!("sql/start.sql"));
    without_comments(text).replace("{now}", &now).replace("{start}", &start)
}

fn without_comments(text: &str) -> String {
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with("--"));
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::{Sql, settings};
    use crate::names::Table;

    #[test]
    fn no_statement_contains_a_placeholder_or_a_comment() {
        let sql = Sql::new(&Table::new("locks").unwrap());
        let Sql { prune_some, revision, schema_revision, .. } = &sql;
        let Sql { acquire, harden, extend, release, abandon, lookup_by_key, .. } = &sql;
        let Sql { lookup_by_id, list, force_clear, prune, schema, schema_state, check, .. } = &sql;
        for text in [acquire, extend, release, abandon] {
            assert!(text.contains("SYSDATE(3)"), "{text}");
        }
        for text in [lookup_by_key, lookup_by_id, list] {
            assert!(text.contains("NOW(3)") && !text.contains("SYSDATE"), "{text}");
        }
        let settings = settings();
        for text in [acquire, extend, release, abandon, lookup_by_key, lookup_by_id]
            .into_iter()
            .chain([harden, list, force_clear, prune, schema, schema_state, check, &settings])
            .chain([prune_some, revision, schema_revision])
        {
            assert!(!text.contains(['{', '}']) && !text.contains("--"), "{text}");
        }
    }
}
