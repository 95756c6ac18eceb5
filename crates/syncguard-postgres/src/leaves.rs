//! How releases of shared grants are sent together.

use sqlx::SqlStr;
use syncguard_core::{
    LockId,
    pool::{Priority, SendBatch},
};

use crate::{
    batch::Firsts,
    error::Failure,
    names::WAITER_CLASS,
    row::{GRACE_MS, value},
    serial::{Serial, SerialLease},
    sql::Sql,
    statement::Statement,
};

/// How the releases of shared grants of one key are sent.
pub(crate) struct Sender {
    serial: Serial,
    release: SqlStr,
    leave: SqlStr,
    channel: String,
    key: String,
}

impl Sender {
    pub(crate) fn new(serial: Serial, sql: &Sql, channel: &str, key: &str) -> Self {
        let (release, leave) = (sql.release.clone(), sql.leave.clone());
        Self { serial, release, leave, channel: channel.to_owned(), key: key.to_owned() }
    }
}

/// Returns the statement that ends a grant of which only the id is known.
pub(crate) fn release_statement(sql: &SqlStr, lock_id: LockId, channel: &str) -> Statement {
    Statement::write(sql).text(lock_id.as_str()).integer(GRACE_MS).text(channel).short(WAITER_CLASS)
}

impl SendBatch for Sender {
    type Request = LockId;
    /// Whether the grant was live.
    type Answer = bool;
    type Error = Failure;
    type Leased = SerialLease;

    async fn lease(&self) -> Result<SerialLease, Failure> {
        self.serial.lease(Priority::Release).await
    }

    async fn send_one(&self, leased: SerialLease, lock_id: &LockId) -> Result<bool, Failure> {
        let statement = release_statement(&self.release, *lock_id, &self.channel);
        value(&self.serial.row(leased, statement).await?, "released")
    }

    /// An id whose grant is exclusive, or of another key, is left alone by this statement. It is
    /// sent alone, by its id.
    async fn send_many(
        &self,
        leased: SerialLease,
        lock_ids: &[LockId],
    ) -> Result<Vec<Option<bool>>, Failure> {
        let firsts = Firsts::of(lock_ids, |lock_id| *lock_id);
        let statement = Statement::write(&self.leave)
            .texts(firsts.requests.iter().map(|lock_id| lock_id.as_str().to_owned()).collect())
            .text(&self.key)
            .integer(GRACE_MS)
            .text(&self.channel)
            .short(WAITER_CLASS);
        let row = self.serial.row(leased, statement).await?;
        Ok(firsts.spread(value(&row, "released")?))
    }
}
