//! Making the table.

use crate::{
    backend::Store,
    error::{Effect, Failure},
    lookup::value,
    statement::Statement,
    table::Table,
};

/// Gives the statement that makes the table.
pub(crate) fn text(table: &Table) -> String {
    table.fill(include_str!("sql/schema.sql"))
}

/// How much of the table is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Missing,
    Incomplete,
    Complete,
}

/// Makes the table where it is missing.
///
/// It looks first: who may not make tables need not where there is nothing to make. A table that
/// exists is never altered, and no statement is sent that would wait for those who use it. To make
/// one waits for no longer than the lock timeout, after which the server withdraws the request.
pub(crate) async fn set_up(store: &Store) -> Result<(), Failure> {
    match state(store).await? {
        State::Complete => Ok(()),
        State::Incomplete => Err(Failure::NoTable),
        State::Missing => {
            store.connections.run(Statement::write(&store.sql.schema)).await?;
            verify(store).await
        }
    }
}

/// Fails where the table is missing, or is not as it should be.
pub(crate) async fn verify(store: &Store) -> Result<(), Failure> {
    if is_complete(store).await? { Ok(()) } else { Err(Failure::NoTable) }
}

pub(crate) async fn is_complete(store: &Store) -> Result<bool, Failure> {
    Ok(state(store).await? == State::Complete)
}

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
        _ => State::Complete,
    })
}
