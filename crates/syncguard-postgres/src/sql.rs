//! The statements, with the names of the tables in them.

use std::sync::Arc;

use sqlx::{AssertSqlSafe, SqlSafeStr, SqlStr};

use crate::tables::Tables;

/// Who else uses the connections, and may leave one inside a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Company {
    Nobody,
    Others,
}

/// Each statement as it is sent.
pub(crate) struct Sql {
    pub(crate) acquire: SqlStr,
    pub(crate) stand: SqlStr,
    pub(crate) extend: SqlStr,
    pub(crate) release: SqlStr,
    pub(crate) abandon: SqlStr,
    pub(crate) lookup_by_key: SqlStr,
    pub(crate) lookup_by_id: SqlStr,
    pub(crate) list: SqlStr,
    pub(crate) force_release: SqlStr,
    pub(crate) prune: SqlStr,
    pub(crate) schema_state: SqlStr,
    pub(crate) check: SqlStr,
}

impl Sql {
    pub(crate) fn new(tables: &Tables, company: Company) -> Self {
        let sound = match company {
            Company::Nobody => "true".to_owned(),
            Company::Others => without_comments(include_str!("sql/sound.sql")),
        };
        let statement = |text: &str| {
            let text = text.replace("{stand}", include_str!("sql/stand.sql"));
            let sent = without_comments(&tables.fill(&text)).replace("{sound}", &sound);
            // Nothing has been filled in but names that were found to be plain, and text of ours.
            AssertSqlSafe(Arc::<str>::from(sent)).into_sql_str()
        };
        Self {
            acquire: statement(include_str!("sql/acquire.sql")),
            stand: statement(include_str!("sql/stand.sql")),
            extend: statement(include_str!("sql/extend.sql")),
            release: statement(include_str!("sql/release.sql")),
            abandon: statement(include_str!("sql/abandon.sql")),
            lookup_by_key: statement(include_str!("sql/lookup_by_key.sql")),
            lookup_by_id: statement(include_str!("sql/lookup_by_id.sql")),
            list: statement(include_str!("sql/list.sql")),
            force_release: statement(include_str!("sql/force_release.sql")),
            prune: statement(include_str!("sql/prune.sql")),
            schema_state: statement(include_str!("sql/schema_state.sql")),
            check: statement(include_str!("sql/check.sql")),
        }
    }
}

/// Leaves comments and indents out: where statements are not prepared, the text is sent each time.
fn without_comments(text: &str) -> String {
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with("--"));
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::{Company, Sql};
    use crate::tables::Tables;

    #[test]
    fn no_statement_has_a_gap_or_a_comment() {
        for company in [Company::Nobody, Company::Others] {
            let sql = Sql::new(&Tables::new("a", "b").unwrap(), company);
            for text in
                [&sql.acquire, &sql.release, &sql.abandon, &sql.list, &sql.prune, &sql.check]
            {
                assert!(!text.as_str().contains(['{', '}']), "{}", text.as_str());
                assert!(!text.as_str().contains("--"), "{}", text.as_str());
            }
        }
    }
}
