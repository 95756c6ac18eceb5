//! What the operations work with.

use std::sync::Arc;

use syncguard_core::pool::Pruning;

use crate::{
    connection::Connections,
    extends::Extends,
    names::Tables,
    sightings::Sightings,
    sql::{Columns, SchemaTexts, Sql, Surroundings},
    waiters::Waiters,
};

/// What the operations work with.
pub(crate) struct Store {
    /// Where the locks are, for error messages.
    pub(crate) server: String,
    pub(crate) connections: Arc<Connections>,
    pub(crate) extends: Extends,
    pub(crate) sql: Sql,
    pub(crate) tables: Tables,
    pub(crate) channel: String,
    pub(crate) surroundings: Surroundings,
    pub(crate) schema: SchemaTexts,
    pub(crate) waiters: Waiters,
    pub(crate) sightings: Sightings,
    pub(crate) pruning: Pruning,
}

impl Store {
    /// Uses the columns that the lock table has.
    pub(crate) fn adapt(&mut self, columns: Columns) {
        self.sql = Sql::new(&self.tables, &self.surroundings, columns);
    }
}
