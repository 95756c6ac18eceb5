//! Making the table.

use crate::{backend::Store, error::Failure, lookup::value, statement::Statement, table::Table};

/// Gives the statement that makes the table.
pub(crate) fn text(table: &Table) -> String {
    table.fill(include_str!("sql/schema.sql"))
}

/// Makes the table where it is missing.
///
/// It looks first: who may not make tables need not where there is nothing to make.
pub(crate) async fn set_up(store: &Store) -> Result<(), Failure> {
    if is_complete(store).await? {
        return Ok(());
    }
    store.connections.run(Statement::write(&store.sql.schema)).await?;
    verify(store).await
}

/// Fails where the table is missing, or is not as it should be.
pub(crate) async fn verify(store: &Store) -> Result<(), Failure> {
    if is_complete(store).await? { Ok(()) } else { Err(Failure::NoTable) }
}

pub(crate) async fn is_complete(store: &Store) -> Result<bool, Failure> {
    let statement = Statement::read(&store.sql.schema_state).text(store.table.name());
    Ok(value::<i64>(&store.connections.row(statement).await?, "complete")? != 0)
}
