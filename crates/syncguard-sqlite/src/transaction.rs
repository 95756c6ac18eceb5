//! Transactions of several statements.

use sqlx::{
    Connection,
    sqlite::{SqliteConnection, SqliteRow},
};

use crate::{error::Failure, statement::Statement, work::Work};

/// A statement that reads, and the statements that are derived from what it read.
///
/// **Invariant:** what was read is the current state until the transaction ends, because the
/// transaction takes the write lock of the database before it reads. So the decision needs no
/// second check, and the clock is read after every wait.
pub(crate) struct Transaction<D> {
    pub(crate) read: Statement,
    pub(crate) decide: D,
}

/// The statements to run before the transaction is committed, and its outcome. Without statements,
/// or after an error, it is rolled back.
pub(crate) type Decided<T> = Result<(Vec<Statement>, T), Failure>;

impl<D, T> Work for Transaction<D>
where
    D: Fn(&[SqliteRow]) -> Decided<T> + Sync,
    T: Send,
{
    type Output = Result<T, Failure>;

    async fn run(&self, connection: &mut SqliteConnection) -> Result<Self::Output, sqlx::Error> {
        // Dropping it rolls it back.
        let mut transaction = connection.begin_with(include_str!("sql/begin.sql")).await?;
        let rows = self.read.run(&mut transaction).await?;
        let (writes, outcome) = match (self.decide)(&rows) {
            Ok((writes, outcome)) => (writes, Ok(outcome)),
            Err(failure) => (Vec::new(), Err(failure)),
        };
        if writes.is_empty() {
            transaction.rollback().await?;
            return Ok(outcome);
        }
        for write in writes {
            write.run(&mut transaction).await?;
        }
        transaction.commit().await?;
        Ok(outcome)
    }
}
