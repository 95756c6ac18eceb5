use clap::Args;

use super::Store;

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
