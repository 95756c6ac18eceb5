//! Statements and their values, and how both are sent.

use syncguard_core::backend::Effect;

use std::fmt::Write;

use sqlx::{
    Arguments, AssertSqlSafe, Row, SqlStr,
    postgres::{PgArguments, PgConnection, PgRow},
};

/// A statement with its values.
pub(crate) struct Statement {
    sql: SqlStr,
    values: Vec<Value>,
    effect: Effect,
    /// Whether the text holds several statements.
    is_multi_statement: bool,
}

enum Value {
    Text(Option<String>),
    Long(Option<i64>),
    Short(i32),
    Texts(Vec<String>),
    Longs(Vec<i64>),
}

/// How statements are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sending {
    /// Sent once to be prepared, and then by name, with the values separate.
    Prepared,
    /// Sent each time as one text with the values in it.
    ///
    /// A transaction pooler requires this. For any other statement, even one that is not kept
    /// prepared, the driver takes two steps, and the pooler treats each as a transaction. The
    /// second step may reach another connection of the server, and bind the values to the statement
    /// that was last prepared there.
    Unprepared,
}

impl Statement {
    /// A statement that changes something.
    pub(crate) fn write(sql: &SqlStr) -> Self {
        Self {
            sql: sql.clone(),
            values: Vec::new(),
            effect: Effect::MayHaveApplied,
            is_multi_statement: false,
        }
    }

    /// A statement that only reads.
    pub(crate) fn read(sql: &SqlStr) -> Self {
        Self { effect: Effect::NotApplied, ..Self::write(sql) }
    }

    /// Declares that the text holds several statements, which cannot be prepared, or one that must not
    /// be. The text is sent unprepared on every connection, and the server runs it as one
    /// transaction. Each of its statements has its own snapshot and is planned each time, with its
    /// values.
    pub(crate) fn multi_statement(self) -> Self {
        Self { is_multi_statement: true, ..self }
    }

    /// Binds a text to the next parameter.
    pub(crate) fn text(self, text: &str) -> Self {
        self.text_or_null(Some(text))
    }

    /// Binds a text or NULL to the next parameter.
    pub(crate) fn text_or_null(self, text: Option<&str>) -> Self {
        self.value(Value::Text(text.map(str::to_owned)))
    }

    /// Binds an integer of 64 bits to the next parameter.
    pub(crate) fn integer(self, integer: i64) -> Self {
        self.integer_or_null(Some(integer))
    }

    /// Binds an integer of 64 bits or NULL to the next parameter.
    pub(crate) fn integer_or_null(self, integer: Option<i64>) -> Self {
        self.value(Value::Long(integer))
    }

    /// Binds an integer of 32 bits to the next parameter.
    pub(crate) fn short(self, integer: i32) -> Self {
        self.value(Value::Short(integer))
    }

    /// Binds an array of texts to the next parameter.
    pub(crate) fn texts(self, texts: Vec<String>) -> Self {
        self.value(Value::Texts(texts))
    }

    /// Binds an array of integers of 64 bits to the next parameter.
    pub(crate) fn integers(self, integers: Vec<i64>) -> Self {
        self.value(Value::Longs(integers))
    }

    fn value(mut self, value: Value) -> Self {
        self.values.push(value);
        self
    }

    /// Returns what the statement may have done if its failure leaves that open.
    pub(crate) fn effect(&self) -> Effect {
        self.effect
    }

    /// Runs the statement to its end: one round trip, or two the first time on a connection where
    /// it is prepared.
    ///
    /// It must use `fetch_all`. PostgreSQL commits when it has sent the last row, and an error of
    /// the commit follows that row. This driver's `fetch_optional` reads on as well, but its stream
    /// stops with the row if it is dropped there, and accepts a grant that was never committed.
    pub(crate) async fn run(
        &self,
        connection: &mut PgConnection,
        sending: Sending,
    ) -> Result<Vec<PgRow>, sqlx::Error> {
        match sending {
            Sending::Prepared if !self.is_multi_statement => {
                sqlx::query_with(self.sql.clone(), self.arguments()).fetch_all(connection).await
            }
            // Only digits are put into the text.
            Sending::Prepared | Sending::Unprepared => {
                sqlx::raw_sql(AssertSqlSafe(self.text_with_values())).fetch_all(connection).await
            }
        }
    }

    fn arguments(&self) -> PgArguments {
        let mut arguments = PgArguments::default();
        for value in &self.values {
            // Only custom types can fail to encode, never texts and integers.
            let _ = match value {
                Value::Text(text) => arguments.add(text.as_deref()),
                Value::Long(integer) => arguments.add(integer),
                Value::Short(integer) => arguments.add(integer),
                Value::Texts(texts) => arguments.add(texts),
                Value::Longs(integers) => arguments.add(integers),
            };
        }
        arguments
    }

    /// Returns the text with the values in place of the parameters.
    fn text_with_values(&self) -> String {
        let mut text = self.sql.as_str().to_owned();
        // In reverse order: `$1` is a prefix of `$10`.
        for (index, value) in self.values.iter().enumerate().rev() {
            text = text.replace(&format!("${}", index + 1), &value.literal());
        }
        text
    }
}

impl Value {
    /// Returns an SQL literal. A text is written in hexadecimal digits, so that nothing in it can
    /// end the literal.
    fn literal(&self) -> String {
        match self {
            Self::Text(None) => "NULL::text".to_owned(),
            Self::Text(Some(text)) => hex_literal(text),
            Self::Long(None) => "NULL::bigint".to_owned(),
            Self::Long(Some(integer)) => format!("({integer})::bigint"),
            Self::Short(integer) => format!("({integer})::integer"),
            Self::Texts(texts) => array("text", texts.iter().map(|text| hex_literal(text))),
            Self::Longs(integers) => array("bigint", integers.iter().map(i64::to_string)),
        }
    }
}

fn hex_literal(text: &str) -> String {
    let mut digits = String::with_capacity(2 * text.len());
    for byte in text.bytes() {
        // Writing to a string does not fail.
        let _ = write!(digits, "{byte:02x}");
    }
    format!("convert_from(decode('{digits}', 'hex'), 'UTF8')")
}

fn array(of: &str, elements: impl Iterator<Item = String>) -> String {
    format!("ARRAY[{}]::{of}[]", elements.collect::<Vec<_>>().join(", "))
}

/// Returns whether a text ran in its own transaction.
///
/// A cancelled `pool.begin()` of the driver leaves a connection in the pool that is inside a
/// transaction that no one ends. A grant that is made inside it is invisible to all others, and is
/// rolled back in the end. Therefore each statement on connections that others use returns, in the
/// column `own_transaction`, whether the transaction began with the statement's text. If it did
/// not, the statement changes nothing. On connections of our own, where no one begins a
/// transaction, the column is always true.
///
/// The column compares `transaction_timestamp()` with `statement_timestamp()`. An unprepared text
/// is one message, at which the server reads the clock once. If the transaction began with the
/// text, both times are that reading. If it did not, they are readings for two messages, with a
/// round trip between them. (A prepared statement takes two messages, each with its own time;
/// connections that others use never get one.)
pub(crate) fn in_own_transaction(rows: &[PgRow]) -> bool {
    rows.first().is_some_and(|row| row.try_get("own_transaction").unwrap_or(false))
}

#[cfg(test)]
mod tests {
    use sqlx::SqlStr;

    use super::Statement;

    #[test]
    fn values_in_the_text_of_a_statement_are_only_digits() {
        let sql = SqlStr::from_static("SELECT $1, $2, $3, $4, $5, $6");
        let statement = Statement::read(&sql)
            .text("'; $4 --")
            .text_or_null(None)
            .integer(-1)
            .short(7)
            .texts(vec!["'".to_owned(), "$1".to_owned()])
            .integers(vec![-1, 2]);
        assert_eq!(
            statement.text_with_values(),
            "SELECT convert_from(decode('273b202434202d2d', 'hex'), 'UTF8'), NULL::text, \
             (-1)::bigint, (7)::integer, ARRAY[convert_from(decode('27', 'hex'), 'UTF8'), \
             convert_from(decode('2431', 'hex'), 'UTF8')]::text[], ARRAY[-1, 2]::bigint[]"
        );
    }
}
