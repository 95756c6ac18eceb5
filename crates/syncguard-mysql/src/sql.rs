//! The statements, with the name of the table in them.

use std::sync::Arc;

use syncguard_core::backend::Counters;

use crate::{
    error::Failure,
    names::{HEAD_BYTES, Table},
};

/// Each statement, or group of statements that are sent together, without the values.
pub(crate) struct Sql {
    pub(crate) acquire: Arc<str>,
    /// The same, but no counter is created.
    pub(crate) claim: Arc<str>,
    pub(crate) harden: Arc<str>,
    pub(crate) extend: Arc<str>,
    pub(crate) release: Arc<str>,
    pub(crate) abandon: Arc<str>,
    pub(crate) lookup_by_key: Arc<str>,
    pub(crate) lookup_by_id: Arc<str>,
    pub(crate) list: Arc<str>,
    pub(crate) force_clear: Arc<str>,
    pub(crate) retire: Arc<str>,
    pub(crate) prune: Arc<str>,
    pub(crate) prune_some: Arc<str>,
    pub(crate) revision: Arc<str>,
    pub(crate) schema_revision: Arc<str>,
    pub(crate) schema: Arc<str>,
    pub(crate) schema_sharing: Arc<str>,
    pub(crate) schema_state: Arc<str>,
    pub(crate) check: Arc<str>,
    /// `None` if the table does not have the columns of shared mode.
    pub(crate) sharing: Option<SharingSql>,
}

/// The statements of shared mode.
pub(crate) struct SharingSql {
    pub(crate) share: Arc<str>,
    pub(crate) announce: Arc<str>,
    pub(crate) extend: Arc<str>,
    pub(crate) leave: Arc<str>,
    pub(crate) abandon: Arc<str>,
    pub(crate) lookup_by_member: Arc<str>,
    pub(crate) force_release: Arc<str>,
    /// Removes an announcement, and looks the key up.
    pub(crate) withdraw: Arc<str>,
}

/// Which columns the table has. A client may use a table of an earlier one, which it does not
/// alter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Columns {
    Exclusive,
    Sharing,
}

/// The parts of statements that name the columns of shared mode, and what takes their place in a
/// table without them.
const PARTS: [(&str, &str, &str); 6] = [
    ("{shared_mode}", include_str!("sql/shared_mode.sql"), "NULL AS permits"),
    ("{sharing}", include_str!("sql/sharing.sql"), "NULL AS holders, NULL AS permits"),
    ("{is_intact}", include_str!("sql/is_intact.sql"), "TRUE"),
    ("{and_unshare}", include_str!("sql/and_unshare.sql"), ""),
    ("{member_of}", include_str!("sql/member_of.sql"), "NULL"),
    ("{and_unannounced}", include_str!("sql/and_unannounced.sql"), ""),
];

/// The fence of a grant without and with seeding.
const FENCES: [(&str, &str, &str); 2] = [
    ("{next_fence}", "fence + 1", "GREATEST(fence + 1, {now})"),
    (
        "{next_shared_fence}",
        "head.last_fence + 1",
        "CAST(GREATEST(head.last_fence + 1, head.now_ms) AS UNSIGNED)",
    ),
];

/// The expressions that statements have in common, in the order in which they are filled in.
const EXPRESSIONS: [(&str, &str); 7] = [
    ("{remove_holder}", include_str!("sql/remove_holder.sql")),
    ("{latest_expiry}", include_str!("sql/latest_expiry.sql")),
    ("{is_readable}", include_str!("sql/is_readable.sql")),
    ("{names_member}", include_str!("sql/names_member.sql")),
    ("{head_bytes}", HEAD_BYTES),
    ("{now}", include_str!("sql/now.sql")),
    ("{start}", include_str!("sql/start.sql")),
];

impl Sql {
    pub(crate) fn new(table: &Table, columns: Columns, counters: Counters) -> Self {
        let statement = |text: &str| statement(table, columns, counters, text);
        let acquire = |granted_fence: &str| {
            statement(&include_str!("sql/acquire.sql").replace("{granted_fence}", granted_fence))
        };
        let (prune, prune_some) =
            (include_str!("sql/prune.sql"), include_str!("sql/prune_some.sql"));
        let [prune, prune_some] = match columns {
            Columns::Exclusive => [prune, prune_some].map(str::to_owned),
            Columns::Sharing => [
                [prune, include_str!("sql/prune_members.sql")].join(";\n"),
                [prune_some, include_str!("sql/prune_some_members.sql")].join(";\n"),
            ],
        };
        Self {
            acquire: acquire("{next_fence}"),
            claim: acquire("IF(fence = 0, 0, {next_fence})"),
            harden: statement(include_str!("sql/harden.sql")),
            extend: statement(include_str!("sql/extend.sql")),
            release: statement(include_str!("sql/release.sql")),
            abandon: statement(include_str!("sql/abandon.sql")),
            lookup_by_key: statement(include_str!("sql/lookup_by_key.sql")),
            lookup_by_id: statement(include_str!("sql/lookup_by_id.sql")),
            list: statement(include_str!("sql/list.sql")),
            force_clear: statement(include_str!("sql/force_clear.sql")),
            retire: statement(include_str!("sql/retire.sql")),
            prune: statement(&prune),
            prune_some: statement(&prune_some),
            revision: statement(include_str!("sql/revision.sql")),
            schema_revision: statement(include_str!("sql/schema_revision.sql")),
            schema: statement(include_str!("sql/schema.sql")),
            schema_sharing: statement(include_str!("sql/schema_sharing.sql")),
            schema_state: statement(include_str!("sql/schema_state.sql")),
            check: statement(include_str!("sql/check.sql")),
            sharing: (columns == Columns::Sharing).then(|| SharingSql::new(table, counters)),
        }
    }
}

impl Sql {
    /// Returns the statements of shared mode, if the table has the columns for it.
    pub(crate) fn sharing(&self) -> Result<&SharingSql, Failure> {
        self.sharing.as_ref().ok_or(Failure::NoSharing)
    }
}

impl SharingSql {
    fn new(table: &Table, counters: Counters) -> Self {
        let statement = |text: &str| statement(table, Columns::Sharing, counters, text);
        Self {
            share: statement(include_str!("sql/share.sql")),
            announce: statement(include_str!("sql/announce.sql")),
            extend: statement(include_str!("sql/extend_shared.sql")),
            leave: statement(include_str!("sql/leave.sql")),
            abandon: statement(include_str!("sql/abandon_reader.sql")),
            lookup_by_member: statement(include_str!("sql/lookup_by_member.sql")),
            force_release: statement(include_str!("sql/force_shared.sql")),
            withdraw: statement(
                &[include_str!("sql/withdraw.sql"), include_str!("sql/lookup_by_key.sql")]
                    .join(";\n"),
            ),
        }
    }
}

/// Fills in everything but the values.
fn statement(table: &Table, columns: Columns, counters: Counters, text: &str) -> Arc<str> {
    let fill = |text: String, (name, sharing, exclusive): (&str, &str, &str)| match columns {
        Columns::Sharing => text.replace(name, &without_comments(sharing)),
        Columns::Exclusive => text.replace(name, exclusive),
    };
    let text = PARTS.into_iter().fold(text.to_owned(), fill);
    let text = FENCES.into_iter().fold(text, |text, (name, from_one, seeded)| match counters {
        Counters::FromOne => text.replace(name, from_one),
        Counters::Seeded => text.replace(name, seeded),
    });
    Arc::from(sent(table, &text))
}

/// Returns the statements that create the table and record its revision, and those that add to an
/// earlier table what it lacks.
pub(crate) fn schema(table: &Table) -> String {
    let texts = [
        include_str!("sql/schema_revision.sql"),
        include_str!("sql/schema.sql"),
        include_str!("sql/schema_sharing.sql"),
    ];
    table.fill(&texts.map(str::trim_end).join(";\n\n"))
}

/// The statements that a connection begins with.
pub(crate) fn settings() -> Arc<str> {
    Arc::from(without_comments(include_str!("sql/settings.sql")))
}

/// The statement that lists sessions.
pub(crate) fn sessions() -> Arc<str> {
    Arc::from(without_comments(include_str!("sql/sessions.sql")))
}

/// Inserts the common expressions and the names, and omits what the server need not read.
fn sent(table: &Table, text: &str) -> String {
    let fill = |text: String, (name, expression): (&str, &str)| {
        text.replace(name, &without_comments(expression))
    };
    without_comments(&table.fill(&EXPRESSIONS.into_iter().fold(text.to_owned(), fill)))
}

fn without_comments(text: &str) -> String {
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with("--"));
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use syncguard_core::backend::Counters;

    use super::{Columns, SharingSql, Sql, settings};
    use crate::names::Table;

    #[test]
    fn no_statement_contains_a_placeholder_or_a_comment() {
        for (columns, counters) in [
            (Columns::Exclusive, Counters::FromOne),
            (Columns::Sharing, Counters::FromOne),
            (Columns::Sharing, Counters::Seeded),
        ] {
            let sql = Sql::new(&Table::new("locks").unwrap(), columns, counters);
            let Sql { prune_some, revision, schema_revision, schema_sharing, .. } = &sql;
            let Sql { acquire, harden, extend, release, abandon, lookup_by_key, .. } = &sql;
            let Sql { lookup_by_id, list, force_clear, prune, schema, .. } = &sql;
            let Sql { schema_state, check, sharing, retire, claim, .. } = &sql;
            for text in [acquire, claim, extend, release, abandon, retire] {
                assert!(text.contains("SYSDATE(3)"), "{text}");
            }
            for text in [lookup_by_key, lookup_by_id, list] {
                assert!(text.contains("NOW(3)") && !text.contains("SYSDATE"), "{text}");
            }
            let settings = settings();
            let mut texts =
                vec![acquire, claim, extend, release, abandon, lookup_by_key, lookup_by_id];
            texts.extend([harden, list, force_clear, prune, schema, schema_state, check, retire]);
            texts.extend([prune_some, revision, schema_revision, schema_sharing, &settings]);
            if let Some(sharing) = sharing {
                let SharingSql { share, announce, extend, leave, .. } = sharing;
                let SharingSql { lookup_by_member, force_release, withdraw, abandon, .. } = sharing;
                for text in [share, announce, extend, leave] {
                    assert!(text.contains("SYSDATE(3)") && !text.contains("NOW(3)"), "{text}");
                }
                assert!(!lookup_by_member.contains("SYSDATE"), "{lookup_by_member}");
                texts.extend([share, announce, extend, leave, lookup_by_member]);
                texts.extend([force_release, withdraw, abandon]);
            }
            for text in texts {
                assert!(!text.contains(['{', '}']) && !text.contains("--"), "{text}");
            }
        }
    }

    #[test]
    fn statements_on_an_earlier_table_name_none_of_the_later_columns() {
        let table = Table::new("locks").unwrap();
        let sql = Sql::new(&table, Columns::Exclusive, Counters::Seeded);
        assert!(sql.sharing.is_none());
        let Sql { acquire, extend, release, abandon, lookup_by_key, lookup_by_id, .. } = &sql;
        let Sql { list, force_clear, prune, prune_some, retire, .. } = &sql;
        for text in [acquire, extend, release, abandon, lookup_by_key, lookup_by_id]
            .into_iter()
            .chain([list, force_clear, prune, prune_some, retire])
        {
            for column in ["holders =", "announced_", "FROM `locks` AS reader"] {
                assert!(!text.contains(column), "{text}");
            }
        }
    }
}
