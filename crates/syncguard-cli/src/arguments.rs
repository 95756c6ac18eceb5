//! The command-line arguments.

use std::{ffi::OsString, num::NonZeroU32, time::Duration};

use clap::{Args, Parser, Subcommand};
use syncguard::{
    LockKey, Owner, Ttl,
    backend::{Counters, Mode, RetireRequest},
};

const EXAMPLES: &str = "\
Examples:
  syncguard run --key nightly-report -- ./report.sh
  syncguard run --key deploy --no-wait --owner ci-7 -- make deploy
  syncguard run --key gpu --permits 4 -- ./train.sh
  syncguard status --key deploy
  syncguard prune --counters-unused-for 30d";

const EXIT_CODES: &str = "\
Exit codes:
  that of the command; if a signal ended it, the same signal ends syncguard
  128 + n, as a shell shows it: the signal n ended the command, or came before it started
  64   the arguments are invalid; nothing was done
  69   the store cannot be used
  75   another holder has the lock; the command was not run
  76   the lock was lost while the command ran; the command was ended
  126  the command cannot be executed
  127  the command was not found";

/// Runs commands under a lock that all processes with the same store agree on.
#[derive(Debug, Parser)]
#[command(name = "syncguard", version, after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    Run(Run),
    Status(Status),
    Prune(Prune),
    Schema(Schema),
    #[command(hide = true)]
    Launch(Launch),
}

/// Run a command while holding a lock
///
/// Waits for the lock, starts the command, renews the lock for as long as the command runs, and
/// releases it. The command finds the key in SYNCGUARD_KEY, the fence (15 digits) in
/// SYNCGUARD_FENCE and the lock id in SYNCGUARD_LOCK_ID. It inherits SYNCGUARD_STORE too, password
/// included, unless --hide-store is set.
///
/// Signals are passed on to the command and all that it started: INT, TERM, HUP, QUIT, USR1, USR2,
/// ALRM, VTALRM, PROF, IO, XCPU, PWR, WINCH, CONT and TSTP. If the lock is lost, they are sent TERM,
/// and KILL soon after: 2.5 % of the ttl later, or 25 ms if that is longer. If syncguard itself is
/// killed, the kernel kills the command too (on Linux, and only the command, not what it started).
///
/// syncguard ends within a second of the command. If the store does not answer by then, syncguard
/// prints a warning, and the lock expires with its ttl.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct Run {
    /// What to lock: any text of up to 512 bytes. Repeat it to hold several locks
    ///
    /// Several locks are taken in one order by all who use this, so that they do not deadlock; all
    /// of them or none. The variables of the command then end in _1, _2 and so on, in that order,
    /// and SYNCGUARD_KEYS is their number.
    #[arg(long = "key", value_name = "KEY", required = true)]
    pub(crate) keys: Vec<LockKey>,

    /// Share the lock with all who use this option too, as the readers of a read-write lock do
    ///
    /// This needs a single key.
    #[arg(long, conflicts_with = "permits")]
    shared: bool,

    /// Take one of N permits: at most N commands with this key run at the same time
    ///
    /// All who use the key must name the same number. This needs a single key.
    #[arg(long, value_name = "N")]
    permits: Option<NonZeroU32>,

    /// How long the lock outlives syncguard, should it die
    #[arg(long, value_name = "DURATION", default_value_t)]
    pub(crate) ttl: Ttl,

    /// How long to wait for the lock, and before that for the store
    #[arg(long, value_name = "DURATION", default_value = "5s", conflicts_with = "no_wait")]
    #[arg(value_parser = humantime::parse_duration)]
    wait: Duration,

    /// Fail immediately if another holder has the lock
    #[arg(long)]
    no_wait: bool,

    /// Who you are, for others who want the lock [default: host:pid]
    #[arg(long, value_name = "LABEL")]
    pub(crate) owner: Option<Owner>,

    /// End the command if it has held the lock for this long [default: no limit]
    #[arg(long, value_name = "DURATION", value_parser = positive_duration)]
    pub(crate) max_hold: Option<Duration>,

    /// Remove SYNCGUARD_STORE from the environment of the command
    ///
    /// The URL of the store may have a password, which a command may log with the rest of its
    /// environment. This does not protect against a command that looks for it: it runs as the same
    /// user, who can read the environment of syncguard.
    #[arg(long)]
    pub(crate) hide_store: bool,

    /// Make the fence at least the time of the store, so that `prune` can delete its counter later
    ///
    /// All who use the store must do so. Services set `seed_new_counters`.
    #[arg(long)]
    seed_new_counters: bool,

    #[command(flatten)]
    pub(crate) store: Store,

    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
}

impl Run {
    /// Returns whether others may hold the lock at the same time.
    pub(crate) fn mode(&self) -> Mode {
        match (self.shared, self.permits) {
            (false, None) => Mode::Exclusive,
            (_, permits) => Mode::Shared { permits },
        }
    }

    /// Returns where fence counters begin.
    pub(crate) fn counters(&self) -> Counters {
        if self.seed_new_counters { Counters::Seeded } else { Counters::FromOne }
    }

    /// Returns how long to wait for the store and the lock.
    pub(crate) fn wait(&self) -> Duration {
        if self.no_wait { Duration::ZERO } else { self.wait }
    }
}

/// Show who holds a lock
///
/// The answer is old when it arrives: to do something only if the lock is free, use
/// `run --no-wait`. A lock counts as held for one second after its remaining time has elapsed. The
/// exit code is 0 whether or not the lock is held.
#[derive(Debug, Args)]
pub(crate) struct Status {
    /// What may be locked
    #[arg(long, value_name = "KEY")]
    pub(crate) key: LockKey,

    #[command(flatten)]
    pub(crate) store: Store,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Delete the fence counters of keys that are no longer used
///
/// A counter stays for every key that was ever locked. Only counters that follow the time of the store
/// are deleted: those that began at 1 stay.
///
/// Use it only if all that lock in the store set `seed_new_counters` (`run --seed-new-counters`), and
/// none of them is a TypeScript client: it would begin a counter that was deleted at 1 again, and
/// repeat fences. The clock of the store must never be set back by the given time or more.
#[derive(Debug, Args)]
pub(crate) struct Prune {
    /// How long a key must not have been locked, such as 30d; at least a day
    #[arg(long, value_name = "DURATION", value_parser = retirement_age)]
    pub(crate) counters_unused_for: Duration,

    #[command(flatten)]
    pub(crate) store: Store,
}

/// Show or create the tables of a database
///
/// Prints the statements that create the tables, for use in migrations. They can be run repeatedly.
/// Stores create their own tables if they are allowed to.
///
/// On PostgreSQL it also adds the columns that the tables of a TypeScript client lack. Each connection
/// of such a client that is open at that time then fails one acquire and one release.
#[derive(Debug, Args)]
pub(crate) struct Schema {
    #[command(flatten)]
    pub(crate) store: Store,

    /// Create what is missing instead of printing
    #[arg(long)]
    apply: bool,
}

/// What to do with a schema.
#[derive(Clone, Copy, Debug)]
pub(crate) enum SchemaAction {
    Print,
    Apply,
}

impl Schema {
    pub(crate) fn action(&self) -> SchemaAction {
        if self.apply { SchemaAction::Apply } else { SchemaAction::Print }
    }
}

/// The output format of an answer.
#[derive(Clone, Copy, Debug)]
pub(crate) enum OutputFormat {
    Text,
    Json,
}

impl Status {
    pub(crate) fn format(&self) -> OutputFormat {
        if self.json { OutputFormat::Json } else { OutputFormat::Text }
    }
}

#[derive(Debug, Args)]
pub(crate) struct Store {
    /// Where locks are kept [env: SYNCGUARD_STORE] [default: sqlite:STATE/syncguard/locks.db, where
    /// STATE is $XDG_STATE_HOME or ~/.local/state]
    ///
    /// `postgres://HOST/DATABASE` is a PostgreSQL database, `mysql://HOST/DATABASE` one of MySQL or
    /// MariaDB, `redis://HOST` or `rediss://HOST` a Redis or Valkey server, `firestore://PROJECT` a
    /// Firestore database, for all hosts that reach it.
    /// `sqlite:PATH` is a file for all processes of this host. `memory:` is this process alone, so it
    /// excludes no other process: use it to try a command line.
    #[arg(long = "store", value_name = "URL")]
    pub(crate) url: Option<String>,
}

/// Become the command, as the child that `run` starts
#[derive(Debug, Args)]
pub(crate) struct Launch {
    /// The process that must still be the parent
    #[arg(long)]
    pub(crate) parent: i32,

    /// Take the terminal's foreground
    #[arg(long)]
    foreground: bool,

    #[arg(last = true, required = true)]
    pub(crate) command: Vec<OsString>,
}

/// Whether a process group is in the foreground of the terminal, where it may read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Placement {
    Foreground,
    Background,
}

impl Launch {
    pub(crate) fn placement(&self) -> Placement {
        if self.foreground { Placement::Foreground } else { Placement::Background }
    }
}

fn retirement_age(text: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if duration < RetireRequest::MIN_UNUSED_FOR {
        return Err("it must be at least 24h".to_owned());
    }
    Ok(duration)
}

fn positive_duration(text: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if duration.is_zero() {
        return Err("it must be greater than zero".to_owned());
    }
    Ok(duration)
}
