//! Making the tables.

use crate::{backend::Store, error::Failure, lookup::value, statement::Statement, tables::Tables};

/// How often to make the tables while other clients, which do not wait for each other, make them too.
const ROUNDS: usize = 5;

/// What is said of a table, a type or an index that somebody else has made meanwhile.
const MADE_MEANWHILE: [&str; 5] = ["23505", "42P07", "42710", "42701", "40P01"];

/// Gives the statements that make the tables.
pub(crate) fn text(tables: &Tables) -> String {
    tables.fill(include_str!("sql/schema.sql"))
}

/// Makes what is missing of the tables.
///
/// It looks first: to add a column takes a lock that stops everybody, even where there is nothing to
/// add. Afterwards it looks again, through a connection of the pool: what was made must show there.
pub(crate) async fn set_up(store: &Store) -> Result<(), Failure> {
    for _ in 0..ROUNDS {
        if is_complete(store).await? {
            return Ok(());
        }
        match store.connections.run_text(text(&store.tables)).await {
            Err(failure) if failure.state().is_some_and(|s| MADE_MEANWHILE.contains(&s)) => {}
            done => done?,
        }
    }
    verify(store).await
}

/// Fails where something is missing of the tables.
pub(crate) async fn verify(store: &Store) -> Result<(), Failure> {
    if is_complete(store).await? { Ok(()) } else { Err(Failure::NoTables) }
}

pub(crate) async fn is_complete(store: &Store) -> Result<bool, Failure> {
    let statement = Statement::read(&store.sql.schema_state)
        .text(&store.tables.quoted_locks())
        .text(&store.tables.quoted_counters());
    value(&store.connections.row(statement).await?, "complete")
}
