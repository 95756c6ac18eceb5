//! Statements.

use sqlx::{
    Arguments, Encode, Sqlite, Type,
    sqlite::{SqliteArguments, SqliteConnection, SqliteRow},
};

use syncguard_core::Fence;

use crate::work::Work;

/// A statement with its values.
pub(crate) struct Statement {
    sql: &'static str,
    values: SqliteArguments,
}

impl Statement {
    pub(crate) fn new(sql: &'static str) -> Self {
        Self { sql, values: SqliteArguments::default() }
    }

    /// Binds a text to the next parameter.
    pub(crate) fn text(self, text: &str) -> Self {
        self.text_or_null(Some(text))
    }

    /// Binds a text or NULL to the next parameter.
    pub(crate) fn text_or_null(self, text: Option<&str>) -> Self {
        self.value(text.map(str::to_owned))
    }

    /// Binds an integer to the next parameter.
    pub(crate) fn integer(self, integer: i64) -> Self {
        self.integer_or_null(Some(integer))
    }

    /// Binds an integer or NULL to the next parameter.
    pub(crate) fn integer_or_null(self, integer: Option<i64>) -> Self {
        self.value(integer)
    }

    /// Binds a fence or NULL to the next parameter.
    pub(crate) fn fence(self, fence: Option<Fence>) -> Self {
        self.integer_or_null(fence.and_then(|fence| i64::try_from(fence.number()).ok()))
    }

    fn value(mut self, value: impl Encode<'static, Sqlite> + Type<Sqlite>) -> Self {
        // Only custom types can fail to encode, never texts and integers.
        let _ = self.values.add(value);
        self
    }
}

impl Work for Statement {
    type Output = Vec<SqliteRow>;

    /// Runs the statement to its end, and returns its rows.
    ///
    /// It must not use `fetch_one` or `fetch_optional`: a statement commits after its last row, but
    /// these stop after the first one. The driver then ignores whether the commit, which has become
    /// part of resetting the statement, succeeded.
    async fn run(&self, connection: &mut SqliteConnection) -> Result<Vec<SqliteRow>, sqlx::Error> {
        sqlx::query_with(self.sql, self.values.clone()).fetch_all(connection).await
    }
}
