//! Statements and their values, and how both are sent.

use std::{fmt::Write, sync::Arc};

use sqlx::{
    AssertSqlSafe, Either, Executor,
    mysql::{MySqlConnection, MySqlRow},
};
use tokio_stream::StreamExt;

use syncguard_core::backend::Effect;

use crate::error::Failure;

/// One statement or several with their values, which are sent as one text.
///
/// The driver can prepare one statement, but not several at once, and an acquire takes more than
/// one. The values are written into the text so that it still takes one round trip.
pub(crate) struct Statement {
    sql: Arc<str>,
    /// SQL literals. Texts are in hexadecimal digits, so that nothing in them can end the literal.
    values: Vec<String>,
    effect: Effect,
}

/// The server's answer to a statement, or to several at once.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub(crate) rows: Vec<MySqlRow>,
    /// How many rows the changing statements matched by their conditions, and how many they
    /// inserted, in all.
    pub(crate) changed: u64,
    /// The last value that was passed to `LAST_INSERT_ID()`, or 0.
    pub(crate) last_insert_id: u64,
}

impl Statement {
    /// A statement that changes something.
    pub(crate) fn write(sql: &Arc<str>) -> Self {
        Self { sql: sql.clone(), values: Vec::new(), effect: Effect::MayHaveApplied }
    }

    /// A statement that only reads.
    pub(crate) fn read(sql: &Arc<str>) -> Self {
        Self { effect: Effect::NotApplied, ..Self::write(sql) }
    }

    /// Binds a text to the next parameter.
    pub(crate) fn text(self, text: &str) -> Self {
        self.bytes(text.as_bytes())
    }

    /// Binds a text or NULL to the next parameter.
    pub(crate) fn text_or_null(self, text: Option<&str>) -> Self {
        match text {
            Some(text) => self.text(text),
            None => self.value("NULL".to_owned()),
        }
    }

    /// Binds a string of bytes to the next parameter.
    pub(crate) fn bytes(self, bytes: &[u8]) -> Self {
        self.value(format!("X'{}'", digits(bytes)))
    }

    /// Binds an integer to the next parameter.
    pub(crate) fn integer(self, integer: i64) -> Self {
        self.value(integer.to_string())
    }

    /// Binds an SQL expression of this crate, such as a number in digits, to the next parameter.
    pub(crate) fn digits(self, digits: &str) -> Self {
        self.value(digits.to_owned())
    }

    fn value(mut self, value: String) -> Self {
        self.values.push(value);
        self
    }

    /// Returns what the statement may have done if its failure leaves that open.
    pub(crate) fn effect(&self) -> Effect {
        self.effect
    }

    /// Runs the statements to their end: one round trip.
    ///
    /// It must run to the end, because a driver's future that stops at the first row leaves the
    /// rest of the answer in the connection, and with it the error of any later statement.
    ///
    /// If one of several statements that are sent together fails, it is undone, and the server runs
    /// none of those after it. So if none before it has changed anything, nothing was changed at
    /// all.
    pub(crate) async fn run(&self, connection: &mut MySqlConnection) -> Result<Answer, Failure> {
        let mut answer = Answer::default();
        // Only digits, or an expression of this crate, are put into the text.
        let mut results =
            connection.fetch_many(sqlx::raw_sql(AssertSqlSafe(self.text_with_values())));
        while let Some(result) = results.next().await {
            match result {
                Ok(Either::Left(done)) => {
                    answer.changed += done.rows_affected();
                    answer.last_insert_id = done.last_insert_id();
                }
                Ok(Either::Right(row)) => answer.rows.push(row),
                Err(source) => return Err(Failure::driver(source, self.effect, answer.changed)),
            }
        }
        Ok(answer)
    }

    /// Returns the text with the values in place of the parameters, which have one digit.
    fn text_with_values(&self) -> String {
        let mut parts = self.sql.split('$');
        let mut text = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let digit = part.chars().next().and_then(|first| first.to_digit(10));
            let Some(number) = digit else {
                // This begins a path in JSON.
                text.push('$');
                text.push_str(part);
                continue;
            };
            if let Some(value) = self.values.get((number as usize).wrapping_sub(1)) {
                text.push_str(value);
            }
            text.push_str(&part[1..]);
        }
        text
    }
}

/// Writes bytes in hexadecimal digits.
pub(crate) fn digits(bytes: &[u8]) -> String {
    let mut digits = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        // Writing to a string does not fail.
        let _ = write!(digits, "{byte:02X}");
    }
    digits
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::Statement;

    #[test]
    fn values_in_the_text_of_a_statement_are_only_digits() {
        let sql = Arc::from("SELECT $1, $2, $3, $4, $1, '$.*'");
        let statement = Statement::read(&sql);
        let statement = statement.text("'; $4 --").text_or_null(None).integer(-1).bytes(&[0xff]);
        let value = "X'273B202434202D2D'";
        assert_eq!(
            statement.text_with_values(),
            format!("SELECT {value}, NULL, -1, X'FF', {value}, '$.*'")
        );
    }
}
