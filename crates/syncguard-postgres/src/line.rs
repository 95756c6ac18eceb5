//! The line of the waiters of all clients, whose first is notified first of a release.

use std::sync::Arc;

use sqlx::SqlStr;
use syncguard_core::LockId;

use crate::{
    connection::Connections, row::value, sql::Sql, statement::Statement,
    subscriptions::Subscriptions,
};

/// How long a waiter stays in line. It enters again before that (see
/// [`MAX_AGE`](crate::subscriptions::MAX_AGE)). One that died costs a single delay of a substitute.
const TIME_IN_LINE_MS: i64 = 60_000;

/// The line at the store, as one client uses it.
///
/// A release would otherwise notify every waiter, and all but one of them would send an attempt in
/// vain. The line is a table at the server. An entry is not a grant: whoever sends an attempt while
/// the key is free is granted the key, in line or not. So the line may be wrong, and everything here
/// happens in the background and may fail.
///
/// **Invariant:** a waiter that is not notified of a release is in line, as far as this client knows.
/// Every release names the first in line and some substitutes behind it (see
/// [`SUBSTITUTE_DELAY`](crate::waiters::SUBSTITUTE_DELAY)). If all of them have died, which takes at
/// least four deaths since the last release, the waiters' schedules take over. Each release takes a
/// dead waiter out of the line.
///
/// A process is in line once for each key, because only the head of its own queue makes attempts.
/// It leaves with a grant, and enters again, behind the others, when its next waiter is refused. It
/// does not enter while it holds the key itself: its next waiter is notified locally.
pub(crate) struct Line {
    connections: Arc<Connections>,
    enter: SqlStr,
    quit: SqlStr,
    pass: SqlStr,
    channel: String,
    /// The name of this client in the line.
    client: LockId,
}

impl Line {
    /// Creates the line, unless the tables have none.
    pub(crate) fn new(
        connections: &Arc<Connections>,
        sql: &Sql,
        channel: &str,
        client: LockId,
    ) -> Option<Arc<Self>> {
        let (enter, quit, pass) = (sql.enter.clone(), sql.quit.clone(), sql.pass.clone());
        let (connections, channel) = (connections.clone(), channel.to_owned());
        let line = Self { connections, enter, quit, pass, channel, client };
        sql.columns.has_line().then(|| Arc::new(line))
    }

    /// Returns the name of this client in the line.
    pub(crate) fn client(&self) -> &str {
        self.client.as_str()
    }

    /// Enters the line of a key, in the background, at a place from before or at the end. Of such
    /// waiters, `room` can hold the key together.
    pub(crate) fn enter(
        &self,
        subscriptions: &Arc<Subscriptions>,
        key: &str,
        place: Option<i64>,
        room: i64,
    ) {
        let statement = Statement::write(&self.enter)
            .text(key)
            .text(self.client())
            .integer_or_null(place)
            .integer(room)
            .integer(TIME_IN_LINE_MS);
        let (connections, subscriptions) = (self.connections.clone(), subscriptions.clone());
        let key = key.to_owned();
        self.connections.runtime.spawn(async move {
            let row = connections.row(statement).await;
            match row.and_then(|row| value(&row, "place")) {
                Ok(place) => subscriptions.set_place(&key, place),
                Err(failure) => {
                    tracing::debug!(%failure, "a waiter is not in line");
                    subscriptions.set_not_in_line(&key);
                }
            }
        });
    }

    /// Leaves the line of a key, in the background.
    pub(crate) fn quit(&self, key: &str) {
        self.send(Statement::write(&self.quit).text(key).text(self.client()));
    }

    /// Leaves a turn that no one here wants any more to the next waiter, in the background.
    pub(crate) fn pass(&self, key: &str) {
        self.send(Statement::write(&self.pass).text(key).text(&self.channel));
    }

    fn send(&self, statement: Statement) {
        let connections = self.connections.clone();
        self.connections.runtime.spawn(async move {
            if let Err(failure) = connections.row(statement).await {
                tracing::debug!(%failure, "the line was not changed");
            }
        });
    }
}
