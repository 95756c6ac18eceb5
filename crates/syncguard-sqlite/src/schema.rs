//! Opening the file and creating the tables.

use std::{sync::Arc, time::Duration};

use sqlx::{
    ConnectOptions, Row,
    sqlite::{SqliteConnection, SqliteRow, SqliteSynchronous},
};
use tokio::time::{Instant, sleep};

use crate::{
    config::{Missing, Target},
    error::{Effect, Failure},
    identity::{Identity, Journal},
    permission::create_private,
};

/// The revision of the tables that `sql/schema.sql` makes, and the greatest that this program knows.
///
/// A change that earlier clients can live with raises the revision alone, and gets a step in [`upgrade`].
/// One that they cannot live with also raises the least revision that the row demands of clients.
const REVISION: i64 = 2;

/// How long to leave a database alone that another process is setting up.
const PAUSE: Duration = Duration::from_millis(10);

/// Opens a connection to a database that has the tables.
///
/// While another process creates the file, switches it to a write-ahead log or recovers its log, SQLite
/// answers that it is busy. Everything begins anew then, on a new connection, until the busy timeout
/// is over. So it does where the file is replaced meanwhile.
pub(crate) async fn open(
    target: &Target,
    synchronous: SqliteSynchronous,
) -> Result<(SqliteConnection, Arc<Identity>), Failure> {
    let deadline = Instant::now() + target.busy_timeout;
    loop {
        match open_once(target, synchronous).await {
            Err(failure) if failure.passes() && Instant::now() < deadline => sleep(PAUSE).await,
            outcome => return outcome,
        }
    }
}

async fn open_once(
    target: &Target,
    synchronous: SqliteSynchronous,
) -> Result<(SqliteConnection, Arc<Identity>), Failure> {
    Identity::before_opening(&target.path)?;
    if target.missing == Missing::Create {
        create_private(&target.path);
    }
    let mut connection =
        target.options.clone().synchronous(synchronous).connect().await.map_err(failed)?;
    // Where the file system has no shared memory, the mode stays as it was. Locks are safe all the
    // same, and `check` tells.
    let journal = read(&mut connection, include_str!("sql/journal_mode.sql")).await?;
    if !has_schema(&mut connection).await? {
        let create = sqlx::raw_sql(include_str!("sql/schema.sql"));
        create.execute(&mut connection).await.map_err(failed)?;
    }
    if revision(&mut connection).await? < REVISION {
        upgrade(&mut connection).await?;
    }
    let mode = journal.and_then(|row| row.try_get::<String, _>("journal_mode").ok());
    let is_ahead = mode.is_some_and(|mode| mode == "wal");
    let journal = if is_ahead { Journal::WriteAhead } else { Journal::Rollback };
    Ok((connection, Identity::of_open(&target.path, journal)?))
}

/// Reads the revision of the tables, and refuses those that this program cannot use.
async fn revision(connection: &mut SqliteConnection) -> Result<i64, Failure> {
    let version = "version of the lock tables";
    let row = read(connection, include_str!("sql/schema_version.sql")).await?;
    let row = row.ok_or(Failure::Unreadable(version))?;
    let least: i64 = row.try_get("version").map_err(|_| Failure::Unreadable(version))?;
    // Revision 1 does not say its number.
    let revision: i64 = if row.try_get("says_revision").unwrap_or(false) {
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

/// Brings the tables to this program's revision, in one transaction. The connection is thrown away unless
/// it went through.
async fn upgrade(connection: &mut SqliteConnection) -> Result<(), Failure> {
    let begin = sqlx::raw_sql(include_str!("sql/upgrade_begin.sql"));
    begin.execute(&mut *connection).await.map_err(failed)?;
    // Another process may have done it while this one waited for the write lock.
    let step = match revision(&mut *connection).await? {
        1 => include_str!("sql/upgrade_to_2.sql"),
        _ => include_str!("sql/upgrade_none.sql"),
    };
    sqlx::raw_sql(step).execute(connection).await.map_err(failed)?;
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
    Ok(sqlx::query(sql).fetch_all(connection).await.map_err(failed)?.pop())
}

/// No lock is touched while a connection is being opened.
fn failed(source: sqlx::Error) -> Failure {
    Failure::Driver(source, Effect::None)
}
