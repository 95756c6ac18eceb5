//! What a connection runs.

use sqlx::sqlite::SqliteConnection;

/// What a connection runs in one turn.
pub(crate) trait Work: Sync {
    type Output: Send;

    /// Runs it to its end. If it fails, nothing of it is stored, except what a statement kept by
    /// itself.
    fn run(
        &self,
        connection: &mut SqliteConnection,
    ) -> impl Future<Output = Result<Self::Output, sqlx::Error>> + Send;
}
