//! Creating the table, and the table that records its revision.

use syncguard_core::backend::{Effect, Finding};

use crate::{error::Failure, row::value, sql::Columns, statement::Statement, store::Store};

/// The revision of the table that the schema step creates, and the latest that this program knows.
/// A table without a recorded revision is of revision 1; revision 2 records it, and revision 3 has
/// the columns of shared mode.
///
/// A change that is compatible with earlier clients raises only the revision, and gets a step in
/// [`upgrade`]. An incompatible change also raises the least revision that the row demands of
/// clients.
const REVISION: i64 = 3;

/// Which parts of the table exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Missing,
    Incomplete,
    Complete(Revision, Columns),
}

/// What is known about the revision of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Revision {
    /// No revision is recorded: it is the first.
    Unrecorded,
    /// If a revision is recorded, the user may not read it. Users with rights to the lock table
    /// alone keep working when the other table is created.
    Hidden,
    Recorded(i64),
}

/// Creates the table if it is missing. If the table exists, this only reads. Returns which columns
/// it has.
///
/// It checks first, so that a user without the privilege to create tables does not need it if there
/// is nothing to create. An existing table is never altered, and no statement is sent that would
/// wait for its users. Creating the table waits no longer than the lock timeout, after which the
/// server withdraws the request.
pub(crate) async fn set_up(store: &Store) -> Result<Columns, Failure> {
    match state(store).await? {
        State::Complete(_, columns) => Ok(columns),
        State::Incomplete => Err(Failure::NoTable),
        State::Missing => {
            // The revision comes first, so that a client that finds the table finds its revision.
            record(store).await?;
            store.connections.run(Statement::write(&store.sql.schema)).await?;
            verify(store).await
        }
    }
}

/// Creates the table if it is missing, adds the columns that it lacks, and records its revision if
/// none is recorded, or an earlier one.
///
/// Clients that are connected keep working.
pub(crate) async fn upgrade(store: &Store) -> Result<(), Failure> {
    if set_up(store).await? == Columns::Exclusive {
        store.connections.run(Statement::write(&store.sql.schema_sharing)).await?;
    }
    match state(store).await? {
        State::Complete(Revision::Recorded(REVISION..), _) => Ok(()),
        _ => record(store).await,
    }
}

async fn record(store: &Store) -> Result<(), Failure> {
    store.connections.run(Statement::write(&store.sql.schema_revision)).await.map(drop)
}

/// Fails if the table is missing, or does not have the expected form. Returns which columns it has.
pub(crate) async fn verify(store: &Store) -> Result<Columns, Failure> {
    match state(store).await? {
        State::Complete(_, columns) => Ok(columns),
        State::Missing | State::Incomplete => Err(Failure::NoTable),
    }
}

/// Reports a table that does not have the expected form.
pub(crate) async fn finding(store: &Store) -> Result<Option<Finding>, Failure> {
    Ok(match state(store).await? {
        State::Missing | State::Incomplete => {
            let consequence = "no lock can be kept; call setup_schema, or run the statements that \
                               schema_sql returns";
            Some(Finding::unsafe_setting("lock table missing or incomplete", consequence))
        }
        State::Complete(Revision::Hidden, _) => {
            let consequence = "a table for later clients is not noticed; run the statements that \
                               schema_sql returns, and grant SELECT on the table that they create \
                               beside the lock table";
            Some(Finding::unknown("revision of the lock table", consequence))
        }
        State::Complete(..) => None,
    })
}

/// Reads the state, and refuses a table that this program cannot use.
async fn state(store: &Store) -> Result<State, Failure> {
    let revision = revision(store).await?;
    let statement = Statement::read(&store.sql.schema_state).text(store.table.name());
    let row = store.connections.row(statement).await?;
    // Every part of the condition is a number once it is evaluated. Under load and with a short
    // statement timeout, the server has been seen to answer with NULL instead of the error of the
    // timeout.
    let complete: Option<i64> = value(&row, "complete")?;
    let complete = complete.ok_or(Failure::TimedOut(Effect::NotApplied))?;
    let columns = match value::<i64>(&row, "shared")? {
        0 => Columns::Exclusive,
        _ => Columns::Sharing,
    };
    Ok(match (value::<i64>(&row, "present")?, complete) {
        (0, _) => State::Missing,
        (_, 0) => State::Incomplete,
        _ => State::Complete(revision, columns),
    })
}

/// Reads the revision of the table, and refuses one that this program cannot use.
async fn revision(store: &Store) -> Result<Revision, Failure> {
    let answer = match store.connections.run(Statement::read(&store.sql.revision)).await {
        Ok(answer) => answer,
        Err(failure) if failure.is_unknown_table() => return Ok(Revision::Unrecorded),
        Err(failure) if failure.is_denied() => return Ok(Revision::Hidden),
        Err(failure) => return Err(failure),
    };
    let Some(row) = answer.rows.first() else {
        return Ok(Revision::Unrecorded);
    };
    let (least, revision): (i64, i64) = (value(row, "version")?, value(row, "revision")?);
    match least {
        _ if least > REVISION => Err(Failure::NewerSchema { least, known: REVISION }),
        1.. if revision >= least => Ok(Revision::Recorded(revision)),
        _ => Err(Failure::Unreadable("version of the lock table")),
    }
}
