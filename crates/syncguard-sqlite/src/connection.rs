//! Connections, and the queues before them.

use std::{path::Path, sync::Arc, time::Duration};

use sqlx::{
    Arguments, Encode, Sqlite, Type,
    sqlite::{SqliteArguments, SqliteConnection, SqliteRow, SqliteSynchronous},
};
use tokio::{
    sync::{Mutex, MutexGuard},
    time::{Instant, sleep, timeout_at},
};
use tokio_util::task::AbortOnDropHandle;

use crate::{
    config::Target,
    error::{Effect, Failure},
    schema,
};

/// How long to leave a database alone that another process writes to: about as long as it takes to
/// write a lock.
const PAUSE: Duration = Duration::from_millis(1);

/// A statement with its values.
pub(crate) struct Statement {
    sql: &'static str,
    values: SqliteArguments,
}

impl Statement {
    pub(crate) fn new(sql: &'static str) -> Self {
        Self { sql, values: SqliteArguments::default() }
    }

    /// Gives the next parameter a text.
    pub(crate) fn text(self, text: &str) -> Self {
        self.text_or_null(Some(text))
    }

    /// Gives the next parameter a text or NULL.
    pub(crate) fn text_or_null(self, text: Option<&str>) -> Self {
        self.value(text.map(str::to_owned))
    }

    /// Gives the next parameter an integer.
    pub(crate) fn integer(self, integer: i64) -> Self {
        self.value(integer)
    }

    fn value(mut self, value: impl Encode<'static, Sqlite> + Type<Sqlite>) -> Self {
        // Only types of one's own can refuse to be encoded, never texts and integers.
        let _ = self.values.add(value);
        self
    }

    /// Runs to the end.
    ///
    /// Never by `fetch_one` or `fetch_optional`: a statement commits after its last row, but these
    /// leave it after the first one. The driver then ignores whether the commit, which has become
    /// part of resetting the statement, went through.
    async fn run(&self, connection: &mut SqliteConnection) -> Result<Vec<SqliteRow>, sqlx::Error> {
        sqlx::query_with(self.sql, self.values.clone()).fetch_all(connection).await
    }
}

/// What a connection is for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Role {
    /// Writes that survive a power failure once they are answered.
    Durable,
    /// Writes that a power failure may take back. They do not wait for the disk; the next durable
    /// write takes them along.
    Prompt,
    /// Reads.
    Read,
}

impl Role {
    fn synchronous(self) -> SqliteSynchronous {
        match self {
            Self::Durable => SqliteSynchronous::Full,
            Self::Prompt | Self::Read => SqliteSynchronous::Normal,
        }
    }

    /// What a statement may have done whose failure leaves that open.
    fn effect(self) -> Effect {
        match self {
            Self::Durable | Self::Prompt => Effect::Unknown,
            Self::Read => Effect::None,
        }
    }
}

/// The turns that connections take.
pub(crate) type Turns = Arc<Mutex<()>>;

/// One connection and the queue before it, first come, first served.
///
/// SQLite lets one connection write at a time. Those of one process that write share their turns:
/// they queue fairly and without polling, and only processes poll against each other.
///
/// A connection that failed, or whose file is no longer the one at the path, is replaced.
pub(crate) struct Lane {
    target: Arc<Target>,
    role: Role,
    turns: Turns,
    slot: Mutex<Slot>,
}

#[derive(Default)]
struct Slot {
    open: Option<Open>,
    /// How many connections there have been, to tell them apart.
    generation: u64,
}

struct Open {
    connection: SqliteConnection,
    file: Option<FileId>,
}

impl Lane {
    /// Opens the connection.
    pub(crate) async fn open(
        target: &Arc<Target>,
        role: Role,
        turns: Turns,
    ) -> Result<Arc<Self>, Failure> {
        let mut slot = Slot::default();
        slot.ready(target, role).await?;
        Ok(Arc::new(Self { target: target.clone(), role, turns, slot: Mutex::new(slot) }))
    }

    /// Runs a statement that gives one row at the most.
    pub(crate) async fn row(
        self: &Arc<Self>,
        statement: Statement,
    ) -> Result<Option<SqliteRow>, Failure> {
        Ok(self.rows(statement).await?.pop())
    }

    /// Runs a statement and gives its rows.
    pub(crate) async fn rows(
        self: &Arc<Self>,
        statement: Statement,
    ) -> Result<Vec<SqliteRow>, Failure> {
        Ok(self.run(statement).await?.0)
    }

    /// Runs a statement, and gives its rows and which connection it ran on.
    ///
    /// It runs in a task of its own. In the caller's, a future that is left alone after its first
    /// poll would keep the connection from everybody else. Dropping the future gives up its place
    /// in the queue; a statement that already runs is carried to its end by the driver's thread.
    pub(crate) async fn run(
        self: &Arc<Self>,
        statement: Statement,
    ) -> Result<(Vec<SqliteRow>, u64), Failure> {
        let lane = self.clone();
        let task = tokio::spawn(async move { lane.run_in_turn(statement).await });
        AbortOnDropHandle::new(task).await.unwrap_or(Err(Failure::CutOff(self.role.effect())))
    }

    async fn run_in_turn(&self, statement: Statement) -> Result<(Vec<SqliteRow>, u64), Failure> {
        let _turn = self.turn().await?;
        let mut slot = self.slot.lock().await;
        let open = slot.ready(&self.target, self.role).await?;
        let rows = self.run_unless_busy(&statement, &mut open.connection).await;
        if rows.as_ref().is_err_and(|failure| !failure.spares_connection()) {
            slot.open = None;
        }
        Ok((rows?, slot.generation))
    }

    async fn turn(&self) -> Result<MutexGuard<'_, ()>, Failure> {
        let deadline = Instant::now() + self.target.busy_timeout;
        timeout_at(deadline, self.turns.lock()).await.map_err(|_| Failure::NoTurn)
    }

    /// Runs a statement, again and again while another process writes.
    ///
    /// SQLite could do the waiting, but the longer it has waited, the longer it sleeps. Under load,
    /// whoever comes last then goes first: with 16 processes writing, one of them waited for two
    /// seconds. Pauses of one length keep that below a tenth of a second.
    async fn run_unless_busy(
        &self,
        statement: &Statement,
        connection: &mut SqliteConnection,
    ) -> Result<Vec<SqliteRow>, Failure> {
        let deadline = Instant::now() + self.target.busy_timeout;
        loop {
            let rows = statement.run(connection).await;
            match rows.map_err(|source| Failure::Driver(source, self.role.effect())) {
                Err(busy) if busy.is_busy() && Instant::now() < deadline => sleep(PAUSE).await,
                outcome => return outcome,
            }
        }
    }
}

impl Slot {
    /// Gives a connection to the file that is at the path now.
    async fn ready(&mut self, target: &Target, role: Role) -> Result<&mut Open, Failure> {
        // Without this look, a process whose file was deleted would go on with a file that no other
        // process can see, and exclude nobody.
        let file = file_id(&target.path);
        let open = match self.open.take().filter(|open| open.file == file) {
            Some(open) => open,
            None => {
                let connection = schema::open(target, role.synchronous()).await?;
                self.generation += 1;
                // The look before the opening counts: should the file have been replaced in
                // between, the next statement finds out.
                Open { connection, file: file.or_else(|| file_id(&target.path)) }
            }
        };
        Ok(self.open.insert(open))
    }
}

/// Tells one file from another that took its name: the device and the inode.
type FileId = (u64, u64);

/// Looks at the file at `path`. That takes a microsecond on a local file system, so it is not worth a
/// thread.
#[cfg(unix)]
fn file_id(path: &Path) -> Option<FileId> {
    use std::os::unix::fs::MetadataExt;

    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

/// Elsewhere a file cannot be deleted while it is open.
#[cfg(not(unix))]
fn file_id(_: &Path) -> Option<FileId> {
    None
}
