//! Connections, and the turns that they take.

use std::{mem, sync::Arc, time::Duration};

use sqlx::{
    ConnectOptions, Row,
    sqlite::{SqliteConnection, SqliteRow, SqliteSynchronous},
};
use tokio::{
    sync::Mutex,
    time::{Instant, sleep, timeout_at},
};

use syncguard_core::backend::Effect;

use crate::{
    config::{Missing, Target},
    error::Failure,
    identity::{DatabaseEpochs, Identity, Journal},
    permission::create_private,
    schema,
    statement::Statement,
    transaction::{Decided, Transaction},
    turn::{Turn, Turns},
    work::Work,
    worker::Ticket,
};

/// How long to wait before retrying while another process writes: about as long as it takes to
/// write a lock.
const BUSY_RETRY_DELAY: Duration = Duration::from_millis(1);

/// How long to wait before retrying while another process sets up the database.
const SETUP_RETRY_DELAY: Duration = Duration::from_millis(10);

/// The maximum age of the last check of the files when a statement begins, and when its result is
/// accepted.
///
/// Files that are deleted within this time after a check go unnoticed until the next request, as do
/// files that are deleted right after any check. Anything that takes longer, such as waiting for
/// other writers or for a slow disk, ends with another check.
const MAX_CHECK_AGE: Duration = Duration::from_millis(2);

/// What a connection is for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Role {
    /// Writes that survive a power failure once they are acknowledged.
    Durable,
    /// Writes that a power failure may undo. They do not wait for the disk; the next durable write
    /// also syncs them.
    Relaxed,
    /// Reads.
    Read,
}

impl Role {
    fn synchronous(self) -> SqliteSynchronous {
        match self {
            Self::Durable => SqliteSynchronous::Full,
            Self::Relaxed | Self::Read => SqliteSynchronous::Normal,
        }
    }

    fn writes(self) -> bool {
        match self {
            Self::Durable | Self::Relaxed => true,
            Self::Read => false,
        }
    }

    /// Returns what a statement may have done if its failure leaves that open.
    fn effect(self) -> Effect {
        if self.writes() { Effect::MayHaveApplied } else { Effect::NotApplied }
    }
}

/// One connection of a backend.
///
/// SQLite lets one connection write at a time. Writers of one backend take turns: they queue by
/// rank, without polling. Backends compete by polling, in one process as in several, because each
/// may be opened with another busy timeout.
///
/// A connection is replaced if it failed, or if another database, or none, is now at the path.
pub(crate) struct SharedConnection {
    target: Arc<Target>,
    role: Role,
    turns: Arc<Turns>,
    epochs: Arc<DatabaseEpochs>,
    /// Used only by the request that has the turn, so no one ever waits for the mutex.
    slot: Mutex<Slot>,
}

#[derive(Default)]
struct Slot {
    open: Option<Open>,
    /// How many connections there have been, which distinguishes them.
    generation: u64,
}

struct Open {
    /// `None` once it was dropped.
    connection: Option<SqliteConnection>,
    identity: Arc<Identity>,
    /// When the last check of the files began.
    checked_at: Instant,
    target: Arc<Target>,
}

impl SharedConnection {
    /// Opens the connection.
    pub(crate) async fn open(
        target: &Arc<Target>,
        role: Role,
        turns: Arc<Turns>,
        epochs: &Arc<DatabaseEpochs>,
    ) -> Result<Self, Failure> {
        let mut slot = Slot::default();
        slot.ready(target, role, epochs).await?;
        let (target, epochs) = (target.clone(), epochs.clone());
        Ok(Self { target, role, turns, epochs, slot: Mutex::new(slot) })
    }

    /// Runs a statement and returns its last row, if there is one.
    pub(crate) async fn row(
        &self,
        statement: Statement,
        ticket: &Ticket,
    ) -> Result<Option<SqliteRow>, Failure> {
        Ok(self.rows(statement, ticket).await?.pop())
    }

    /// Runs a statement and returns its rows.
    pub(crate) async fn rows(
        &self,
        statement: Statement,
        ticket: &Ticket,
    ) -> Result<Vec<SqliteRow>, Failure> {
        Ok(self.run(&statement, ticket).await?.0)
    }

    /// Runs a [transaction](Transaction) and returns its outcome.
    pub(crate) async fn transact<T: Send>(
        &self,
        read: Statement,
        decide: impl Fn(&[SqliteRow]) -> Decided<T> + Sync,
        ticket: &Ticket,
    ) -> Result<T, Failure> {
        self.run(&Transaction { read, decide }, ticket).await?.0
    }

    /// Runs a statement or a transaction, and retries it while another process writes. Returns its
    /// output and the number of the connection that it ran on.
    ///
    /// SQLite could do the waiting, but the longer it has waited, the longer it sleeps. Under load,
    /// the last to come then goes first: with 16 processes writing, one of them waited for two
    /// seconds. Pauses of equal length keep that below a tenth of a second. After each pause,
    /// operations that keep a lock go before those that want one.
    pub(crate) async fn run<W: Work>(
        &self,
        work: &W,
        ticket: &Ticket,
    ) -> Result<(W::Output, u64), Failure> {
        let mut turn = self.turn(ticket).await?;
        let deadline = Instant::now() + self.target.busy_timeout;
        loop {
            match self.attempt(work).await {
                Err(busy) if busy.is_busy() && Instant::now() < deadline => {}
                outcome => return outcome,
            }
            sleep(BUSY_RETRY_DELAY).await;
            turn.yield_to_lower_ranks().await;
        }
    }

    /// Waits for the turn. If the caller goes away meanwhile, the request leaves the queue; from
    /// its first write on, a request is completed.
    async fn turn(&self, ticket: &Ticket) -> Result<Turn, Failure> {
        let deadline = Instant::now() + self.target.busy_timeout;
        let turn = tokio::select! {
            biased;
            () = ticket.caller_left() => return Err(Failure::CallerLeft),
            turn = timeout_at(deadline, self.turns.take(ticket.rank())) => turn,
        };
        let turn = turn.map_err(|_| Failure::NoTurn)?;
        if self.role.writes() {
            ticket.begin();
        }
        Ok(turn)
    }

    async fn attempt<W: Work>(&self, work: &W) -> Result<(W::Output, u64), Failure> {
        let mut slot = self.slot.lock().await;
        let open = slot.ready(&self.target, self.role, &self.epochs).await?;
        let output = open.run(work, self.role).await;
        if output.as_ref().is_err_and(|failure| !failure.spares_connection()) {
            slot.open = None;
        }
        Ok((output?, slot.generation))
    }
}

impl Slot {
    /// Returns a connection to the database that is at the path now.
    async fn ready(
        &mut self,
        target: &Arc<Target>,
        role: Role,
        epochs: &DatabaseEpochs,
    ) -> Result<&mut Open, Failure> {
        // Without this check, a process whose file was deleted would continue with a file that no
        // other process can see, and exclude no one.
        if let Some(open) = &mut self.open {
            match open.verify() {
                Err(Failure::Replaced) => self.open = None,
                verified => verified?,
            }
        }
        let open = match self.open.take() {
            Some(open) => open,
            None => {
                let (connection, identity) = open(target, role.synchronous()).await?;
                self.generation += 1;
                epochs.switch_to(identity.database());
                let (connection, checked_at) = (Some(connection), Instant::now());
                Open { connection, identity, checked_at, target: target.clone() }
            }
        };
        Ok(self.open.insert(open))
    }
}

impl Open {
    async fn run<W: Work>(&mut self, work: &W, role: Role) -> Result<W::Output, Failure> {
        // It is present until the drop.
        let connection = self.connection.as_mut().ok_or(Failure::CutOff)?;
        let output = work.run(connection).await;
        let output = output.map_err(|source| Failure::Driver(source, role.effect()))?;
        if role.writes() {
            // A write to files that no one else can see does not count.
            self.verify().map_err(|failure| failure.after(role.effect()))?;
        }
        Ok(output)
    }

    /// Checks whether the files are in their places, unless that was done a moment ago.
    fn verify(&mut self) -> Result<(), Failure> {
        let now = Instant::now();
        if now.duration_since(self.checked_at) > MAX_CHECK_AGE {
            self.identity.verify(&self.target.path)?;
            self.checked_at = now;
        }
        Ok(())
    }
}

impl Drop for Open {
    /// Closes the connection, unless the log was deleted or replaced under it.
    ///
    /// The last connection to close copies the log into the database. If others have meanwhile
    /// continued with another log, that would destroy what they wrote. Therefore the connection and
    /// its thread are leaked until the process ends, and with them the identity: the process must
    /// not open that database again.
    fn drop(&mut self) {
        let _ = self.identity.verify(&self.target.path);
        if self.identity.is_torn() {
            mem::forget(self.connection.take());
            mem::forget(self.identity.clone());
        }
    }
}

/// Opens a connection to a database that has the tables.
///
/// While another process creates the file, switches it to a write-ahead log or recovers its log,
/// SQLite reports that it is busy. Opening then starts again on a new connection, until the busy
/// timeout is over. The same applies if the file is replaced meanwhile.
async fn open(
    target: &Target,
    synchronous: SqliteSynchronous,
) -> Result<(SqliteConnection, Arc<Identity>), Failure> {
    let deadline = Instant::now() + target.busy_timeout;
    loop {
        match open_once(target, synchronous).await {
            Err(failure) if failure.passes() && Instant::now() < deadline => {
                sleep(SETUP_RETRY_DELAY).await
            }
            outcome => return outcome,
        }
    }
}

async fn open_once(
    target: &Target,
    synchronous: SqliteSynchronous,
) -> Result<(SqliteConnection, Arc<Identity>), Failure> {
    Identity::before_opening(&target.path)?;
    if target.missing == Missing::Create {
        create_private(&target.path);
    }
    let options = target.options.clone().synchronous(synchronous);
    let mut connection = options.connect().await.map_err(Failure::in_opening)?;
    // If the file system has no shared memory, the mode stays as it was. Locks are still safe, and
    // `check` reports it.
    let journal = Statement::new(include_str!("sql/journal_mode.sql"));
    let journal = journal.run(&mut connection).await.map_err(Failure::in_opening)?;
    schema::set_up(&mut connection).await?;
    let mode = journal.last().and_then(|row| row.try_get::<String, _>("journal_mode").ok());
    let is_ahead = mode.is_some_and(|mode| mode == "wal");
    let journal = if is_ahead { Journal::WriteAhead } else { Journal::Rollback };
    Ok((connection, Identity::of_open(&target.path, journal)?))
}
