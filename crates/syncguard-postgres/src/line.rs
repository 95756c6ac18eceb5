//! The line of the waiters of all clients, whose first is notified first of a release.

use std::sync::Arc;

use sqlx::SqlStr;
use syncguard_core::{
    LockId,
    backend::{Entry, Turn},
};

use crate::{
    connection::Connections, row::value, sql::Sql, statement::Statement,
    subscriptions::Subscriptions,
};

/// The line at the store, as one client uses it.
///
/// A release would otherwise notify every waiter, and all but one of them would send an attempt in
/// vain. The line is a table at the server. An entry is not a grant: whoever sends an attempt while
/// the key is free is granted the key, in line or not. So the line may be wrong, and everything here
/// happens in the background and may fail.
///
/// What this client knows of its own waiters, and why none of them is forgotten, is in
/// [`Standings`](syncguard_core::backend::Standings).
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

    /// Enters the line of a key, in the background, at the place from before or at the end. Of such
    /// waiters, `room` can hold the key together.
    pub(crate) fn enter(
        &self,
        subscriptions: &Arc<Subscriptions>,
        key: &str,
        entry: Entry,
        room: i64,
    ) {
        let time_in_line = Turn::TIME_IN_LINE.as_millis();
        let statement = Statement::write(&self.enter)
            .text(key)
            .text(self.client())
            .integer_or_null(entry.place)
            .integer(room)
            .integer(i64::try_from(time_in_line).unwrap_or(i64::MAX));
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
