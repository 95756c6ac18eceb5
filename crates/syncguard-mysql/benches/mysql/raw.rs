use std::{fmt::Write, str::FromStr};

use sqlx::{
    AssertSqlSafe, ConnectOptions, Executor, MySqlConnection, Row,
    mysql::{MySqlConnectOptions, MySqlRow},
};
use syncguard_core::LockId;

/// The driver alone, on one connection with the settings of the backend.
pub(crate) struct Raw(MySqlConnection);

impl Raw {
    pub(crate) async fn connect(url: &str) -> Self {
        let options = MySqlConnectOptions::from_str(url).unwrap().disable_statement_logging();
        let mut raw = Self(options.connect().await.unwrap());
        raw.send(include_str!("../../src/sql/settings.sql"), &["4".to_owned(), "5".to_owned()])
            .await;
        raw
    }

    /// Acquires and releases with the statements of the backend: two round trips.
    pub(crate) async fn acquire_and_release(&mut self, key: &str) {
        let id = LockId::mint().unwrap();
        assert!(self.attempt(key, id).await);
        let values = [hex(id.as_str()), "1000".to_owned()];
        self.send(include_str!("../../src/sql/release.sql"), &values).await;
    }

    /// Tries to acquire a key, and returns whether it was granted.
    pub(crate) async fn attempt(&mut self, key: &str, id: LockId) -> bool {
        let numbers = ["30000", "NULL", "1000", "900000000000000"].map(str::to_owned);
        let values: Vec<_> = [hex(key), hex(id.as_str())].into_iter().chain(numbers).collect();
        let rows = self.send(include_str!("../../src/sql/acquire.sql"), &values).await;
        rows[0].get::<Option<&[u8]>, _>("lock_id") == Some(id.as_str().as_bytes())
    }

    /// Acquires and releases with a transaction of several prepared statements: five round trips,
    /// and one for the release.
    pub(crate) async fn transaction_and_release(&mut self, key: &str) {
        let id = LockId::mint().unwrap();
        let id = id.as_str();
        self.0.execute("BEGIN").await.unwrap();
        let row = sqlx::query(include_str!("sql/lock.sql")).bind(key.as_bytes());
        let row = row.fetch_optional(&mut self.0).await.unwrap();
        let now: i64 = match &row {
            Some(row) => row.get("now_ms"),
            None => sqlx::query(include_str!("sql/now.sql"))
                .fetch_one(&mut self.0)
                .await
                .unwrap()
                .get(0),
        };
        let fence = row.map_or(0, |row| {
            assert!(row.get::<i64, _>("expires_at_ms") <= now - 1_000);
            row.get::<u64, _>("fence")
        });
        let write = sqlx::query(include_str!("sql/write.sql")).bind(key.as_bytes());
        let write = write.bind(fence + 1).bind(id.as_bytes()).bind(now).bind(now + 30_000);
        write.execute(&mut self.0).await.unwrap();
        self.0.execute("COMMIT").await.unwrap();
        let release = sqlx::query(include_str!("sql/release.sql")).bind(id.as_bytes());
        assert_eq!(release.execute(&mut self.0).await.unwrap().rows_affected(), 1);
    }

    /// Reads a row by its key, with a prepared statement.
    pub(crate) async fn read_row(&mut self, key: &str) {
        let look = sqlx::query(include_str!("sql/look.sql")).bind(key.as_bytes());
        look.fetch_all(&mut self.0).await.unwrap();
    }

    /// Sends statements as the backend does.
    async fn send(&mut self, text: &str, values: &[String]) -> Vec<MySqlRow> {
        let now = without_comments(include_str!("../../src/sql/now.sql"));
        let text = without_comments(text).replace("{locks}", "`syncguard_locks`");
        let mode = without_comments(include_str!("../../src/sql/shared_mode.sql"));
        let mut text = text.replace("{now}", &now).replace("{shared_mode}", &mode);
        text = text.replace("{granted_fence}", "fence + 1");
        for (index, value) in values.iter().enumerate() {
            text = text.replace(&format!("${}", index + 1), value);
        }
        sqlx::raw_sql(AssertSqlSafe(text)).fetch_all(&mut self.0).await.unwrap()
    }
}

fn without_comments(text: &str) -> String {
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with("--"));
    lines.collect::<Vec<_>>().join("\n")
}

fn hex(text: &str) -> String {
    let mut hex = String::new();
    for byte in text.bytes() {
        write!(hex, "{byte:02X}").unwrap();
    }
    format!("X'{hex}'")
}
