//! Making the table.

use crate::{
    backend::Store,
    error::{Effect, Failure},
    lookup::{text as text_of, value},
    statement::Statement,
    table::Table,
};

/// The revision of the table that the schema step makes, and the greatest that this program knows. A table that
/// does not say its revision is of revision 1; revision 2 says it.
///
/// A change that earlier clients can live with raises the revision alone, and gets a step in [`upgrade`]. One
/// that they cannot live with also raises the least revision that the row demands of clients.
const REVISION: i64 = 2;

/// Returns the statements that make the table and record its revision.
pub(crate) fn text(table: &Table) -> String {
    let [create, record] =
        [include_str!("sql/schema.sql"), include_str!("sql/schema_revision.sql")];
    table.fill(&format!("{};\n\n{record}", create.trim_end()))
}

/// How much of the table is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Missing,
    Incomplete,
    /// With the revision that it says, if it does.
    Complete(Option<i64>),
}

/// Makes the table where it is missing.
///
/// It looks first: who may not make tables need not where there is nothing to make. A table that
/// exists is never altered, and no statement is sent that would wait for those who use it. To make
/// one waits for no longer than the lock timeout, after which the server withdraws the request.
pub(crate) async fn set_up(store: &Store) -> Result<(), Failure> {
    match state(store).await? {
        State::Complete(_) => Ok(()),
        State::Incomplete => Err(Failure::NoTable),
        State::Missing => {
            store.connections.run(Statement::write(&store.sql.schema)).await?;
            record(store).await?;
            verify(store).await
        }
    }
}

/// Makes the table where it is missing, and records its revision where it does not say one.
///
/// Clients of earlier revisions that are connected go on.
pub(crate) async fn upgrade(store: &Store) -> Result<(), Failure> {
    set_up(store).await?;
    match state(store).await? {
        State::Complete(revision) if revision < Some(REVISION) => record(store).await,
        _ => Ok(()),
    }
}

async fn record(store: &Store) -> Result<(), Failure> {
    store.connections.run(Statement::write(&store.sql.schema_revision)).await.map(drop)
}

/// Fails where the table is missing, or is not as it should be.
pub(crate) async fn verify(store: &Store) -> Result<(), Failure> {
    if is_complete(store).await? { Ok(()) } else { Err(Failure::NoTable) }
}

pub(crate) async fn is_complete(store: &Store) -> Result<bool, Failure> {
    Ok(matches!(state(store).await?, State::Complete(_)))
}

/// Reads the state, and refuses a table that this program cannot use.
async fn state(store: &Store) -> Result<State, Failure> {
    let statement = Statement::read(&store.sql.schema_state).text(store.table.name());
    let row = store.connections.row(statement).await?;
    // Every part of the condition is a number once it is evaluated. Under load and with a short statement
    // timeout, the server has been seen to answer with NULL instead of the error of the timeout.
    let complete: Option<i64> = value(&row, "complete")?;
    let complete = complete.ok_or(Failure::TimedOut(Effect::None))?;
    Ok(match (value::<i64>(&row, "present")?, complete) {
        (0, _) => State::Missing,
        (_, 0) => State::Incomplete,
        _ => State::Complete(revision(store).await?),
    })
}

/// Reads the revision of the table, and refuses one that this program cannot use.
async fn revision(store: &Store) -> Result<Option<i64>, Failure> {
    let answer = store.connections.run(Statement::read(&store.sql.revision)).await?;
    let Some(row) = answer.rows.first() else {
        return Ok(None);
    };
    let numbers = text_of(row, "recorded").and_then(|recorded| recorded.split_once(','));
    let numbers = numbers.map(|(least, revision)| (least.parse::<i64>(), revision.parse::<i64>()));
    match numbers {
        Some((Ok(least), _)) if least > REVISION => {
            Err(Failure::NewerSchema { least, known: REVISION })
        }
        Some((Ok(least), Ok(revision))) if least >= 1 && revision >= least => Ok(Some(revision)),
        _ => Err(Failure::Unreadable("version of the lock table")),
    }
}
