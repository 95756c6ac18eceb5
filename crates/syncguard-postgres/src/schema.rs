//! Creating the tables, and extending those of other clients.

use crate::{
    columns::Columns, error::Failure, row::value, sql::SchemaTexts, statement::Statement,
    store::Store,
};

/// The revision of the tables that the schema step creates, and the latest that this program knows.
/// Those of a TypeScript client are of revision 1; revision 2 has the columns of the owner, and a
/// row that records the revision; revision 3 has the columns and the functions of shared
/// mode, and the line of waiters.
///
/// A change that is compatible with earlier clients raises only the revision, and gets a step in
/// [`State::upgrade_text`]. An incompatible change also raises the least revision that the row
/// demands of clients.
const REVISION: i64 = 3;

/// How many times to try to create the tables while other clients create them too.
const MAX_ATTEMPTS: usize = 5;

/// The errors of creating a table, a type or an index that another client creates concurrently.
const CREATED_CONCURRENTLY: [&str; 5] = ["23505", "42P07", "42710", "42701", "40P01"];

/// Which parts of the tables exist.
#[derive(Clone, Copy, Debug)]
pub(crate) struct State {
    locks: bool,
    counters: bool,
    /// Whether the backend can keep locks in them.
    pub(crate) usable: bool,
    /// Whether they have the columns that the TypeScript client does not create.
    pub(crate) has_owner_columns: bool,
    /// Whether they have the columns of shared mode, and its functions and the line exist.
    has_shared_mode: bool,
    /// The revision that is recorded, if one is.
    revision: Option<i64>,
}

impl State {
    /// Reads the state, and refuses tables that this program cannot use.
    pub(crate) async fn read(store: &Store) -> Result<Self, Failure> {
        let statement = Statement::read(&store.sql.schema_state)
            .text(&store.tables.quoted_locks())
            .text(&store.tables.quoted_counters())
            .text(&store.tables.quoted_schema());
        let row = store.connections.row(statement).await?;
        Ok(Self {
            locks: value(&row, "locks")?,
            counters: value(&row, "counters")?,
            usable: value(&row, "usable")?,
            has_owner_columns: value(&row, "has_owner_columns")?,
            has_shared_mode: value(&row, "has_shared_mode")?,
            revision: match value(&row, "versioned")? {
                true => Some(revision(store).await?),
                false => None,
            },
        })
    }

    /// Returns the text that creates and adds what is missing, and leaves the rest alone.
    fn upgrade_text(self, texts: &SchemaTexts) -> String {
        let SchemaTexts { begin, locks, counters, columns, functions, revision } = texts;
        let pick = |wanted: bool, text: &str| if wanted { text.to_owned() } else { String::new() };
        let locks = pick(!self.locks || !self.usable, locks);
        let columns = pick(self.locks && !self.has_all_columns(), columns);
        let functions = pick(!self.has_all_columns() || !self.is_current(), functions);
        let counters = pick(!self.counters || !self.usable, counters);
        let revision = pick(!self.is_current(), revision);
        format!("{begin}\n{columns}\n{locks}\n{counters}\n{functions}\n{revision}")
            .replace("{if_not_exists}", "IF NOT EXISTS")
    }

    /// Returns the text that creates the tables that do not exist. It fails if one exists by then,
    /// so that no statement ever touches a table that is in use: even `CREATE INDEX IF NOT EXISTS`
    /// waits for the writers of its table.
    fn create_text(self, texts: &SchemaTexts) -> String {
        let SchemaTexts { begin, locks, counters, functions, revision, .. } = texts;
        let [locks, functions, revision] =
            [locks, functions, revision].map(|text| if self.locks { "" } else { text });
        let counters = if self.counters { "" } else { counters };
        format!("{begin}\n{locks}\n{counters}\n{functions}\n{revision}")
            .replace("{if_not_exists}", "")
    }

    fn has_all_columns(self) -> bool {
        self.has_owner_columns && self.has_shared_mode
    }

    /// Returns whether the recorded revision of the tables is this program's, or a later one.
    fn is_current(self) -> bool {
        self.revision >= Some(REVISION)
    }

    /// Fails if the backend cannot keep locks in the tables.
    fn columns(self) -> Result<Columns, Failure> {
        match self {
            Self { usable: false, .. } => Err(Failure::NoTables),
            Self { has_owner_columns: false, .. } => Ok(Columns::TypeScript),
            Self { has_shared_mode: false, .. } => Ok(Columns::Owner),
            Self { .. } => Ok(Columns::All),
        }
    }
}

/// Reads the revision of the tables, and refuses those that this program cannot use.
async fn revision(store: &Store) -> Result<i64, Failure> {
    let row = store.connections.row(Statement::read(&store.sql.revision)).await?;
    let (least, revision): (Option<i64>, Option<i64>) =
        (value(&row, "version")?, value(&row, "revision")?);
    match (least, revision) {
        (Some(least), _) if least > REVISION => {
            Err(Failure::NewerSchema { least, known: REVISION })
        }
        (Some(least), Some(revision)) if least >= 1 && revision >= least => Ok(revision),
        _ => Err(Failure::Unreadable("version of the lock tables")),
    }
}

/// Creates the tables that do not exist. An existing table is left unchanged.
pub(crate) async fn create_missing(store: &Store) -> Result<Columns, Failure> {
    for _ in 0..MAX_ATTEMPTS {
        let state = State::read(store).await?;
        if state.locks && state.counters {
            return state.columns();
        }
        run(store, state.create_text(&store.schema)).await?;
    }
    verify(store).await
}

/// Creates what is missing of the tables, adds the columns that are missing, and records the
/// revision.
///
/// It checks first: even if there is nothing to add, the statement that adds columns waits for all
/// users of the table. Afterwards it checks again, through a connection of the pool: what was
/// created must be visible there.
pub(crate) async fn set_up(store: &Store) -> Result<(), Failure> {
    for _ in 0..MAX_ATTEMPTS {
        let state = State::read(store).await?;
        if state.usable && state.has_all_columns() && state.is_current() {
            return Ok(());
        }
        run(store, state.upgrade_text(&store.schema)).await?;
    }
    match verify(store).await? {
        Columns::All => Ok(()),
        Columns::Owner | Columns::TypeScript => Err(Failure::NoTables),
    }
}

async fn run(store: &Store, text: String) -> Result<(), Failure> {
    match store.connections.run_text(text).await {
        Err(failure) if failure.state().is_some_and(|s| CREATED_CONCURRENTLY.contains(&s)) => {
            Ok(())
        }
        done => done,
    }
}

/// Fails if the backend cannot keep locks in the tables.
pub(crate) async fn verify(store: &Store) -> Result<Columns, Failure> {
    State::read(store).await?.columns()
}
