//! Creating the tables.

use sqlx::{
    Row,
    sqlite::{SqliteConnection, SqliteRow},
};

use crate::error::Failure;

/// The revision of the tables that `sql/schema.sql` creates, and the latest that this program
/// knows.
///
/// A change that is compatible with earlier clients raises only the revision, and gets a step in
/// [`upgrade`]. An incompatible change also raises the least revision that the row demands of
/// clients.
const REVISION: i64 = 3;

/// Creates the tables if they are missing, and upgrades them to this program's revision.
pub(crate) async fn set_up(connection: &mut SqliteConnection) -> Result<(), Failure> {
    if !has_schema(connection).await? {
        let create = sqlx::raw_sql(include_str!("sql/schema.sql"));
        create.execute(&mut *connection).await.map_err(Failure::in_opening)?;
    }
    while revision(connection).await? < REVISION {
        upgrade(connection).await?;
    }
    Ok(())
}

/// Reads the revision of the tables, and refuses those that this program cannot use.
async fn revision(connection: &mut SqliteConnection) -> Result<i64, Failure> {
    let version = "version of the lock tables";
    let row = read(connection, include_str!("sql/schema_version.sql")).await?;
    let row = row.ok_or(Failure::Unreadable(version))?;
    let least: i64 = row.try_get("version").map_err(|_| Failure::Unreadable(version))?;
    // Revision 1 does not record its number.
    let revision: i64 = if row.try_get("has_revision").unwrap_or(false) {
        let row = read(connection, include_str!("sql/schema_revision.sql")).await?;
        let revision = row.and_then(|row| row.try_get("revision").ok());
        revision.ok_or(Failure::Unreadable(version))?
    } else {
        1
    };
    if least > REVISION {
        return Err(Failure::NewerSchema { least, known: REVISION });
    }
    if least < 1 || revision < least {
        return Err(Failure::Unreadable(version));
    }
    Ok(revision)
}

/// Upgrades the tables by one revision, in one transaction. If the transaction fails, the connection
/// is discarded.
async fn upgrade(connection: &mut SqliteConnection) -> Result<(), Failure> {
    let begin = sqlx::raw_sql(include_str!("sql/begin.sql"));
    begin.execute(&mut *connection).await.map_err(Failure::in_opening)?;
    // Another process may have done it while this one waited for the write lock.
    let step = match revision(&mut *connection).await? {
        1 => include_str!("sql/upgrade_to_2.sql"),
        2 => include_str!("sql/upgrade_to_3.sql"),
        _ => include_str!("sql/upgrade_none.sql"),
    };
    sqlx::raw_sql(step).execute(connection).await.map_err(Failure::in_opening)?;
    Ok(())
}

async fn has_schema(connection: &mut SqliteConnection) -> Result<bool, Failure> {
    let row = read(connection, include_str!("sql/schema_exists.sql")).await?;
    let found = row.and_then(|row| row.try_get("found").ok());
    found.ok_or(Failure::Unreadable("list of tables"))
}

async fn read(
    connection: &mut SqliteConnection,
    sql: &'static str,
) -> Result<Option<SqliteRow>, Failure> {
    Ok(sqlx::query(sql).fetch_all(connection).await.map_err(Failure::in_opening)?.pop())
}

#[cfg(test)]
mod tests {
    use sqlx::{ConnectOptions, sqlite::SqliteConnectOptions};

    use super::*;

    const REVISION_1: &str = include_str!("../tests/sqlite/revision_1.sql");

    /// Both clients have read revision 1 before either began the upgrade.
    #[tokio::test]
    async fn an_upgrade_that_another_client_has_done_meanwhile_changes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let options = SqliteConnectOptions::new().filename(directory.path().join("locks.db"));
        let mut first = options.clone().create_if_missing(true).connect().await.unwrap();
        sqlx::raw_sql(REVISION_1).execute(&mut first).await.unwrap();
        let mut second = options.connect().await.unwrap();
        assert_eq!(revision(&mut first).await.unwrap(), 1);
        assert_eq!(revision(&mut second).await.unwrap(), 1);
        for earlier in 1..REVISION {
            upgrade(&mut first).await.unwrap();
            assert_eq!(revision(&mut second).await.unwrap(), earlier + 1);
        }
        upgrade(&mut second).await.unwrap();
        assert_eq!(revision(&mut second).await.unwrap(), REVISION);
        let begin = sqlx::raw_sql(include_str!("sql/begin.sql"));
        begin.execute(&mut first).await.expect("the second one left a transaction open");
    }
}
