//! What the operations work with.

use std::sync::Arc;

use syncguard_core::{LockId, pool::Pruning};

use crate::{
    columns::Columns,
    connection::Connections,
    extends::{self, Extends},
    holder_cache::HolderCache,
    lanes::Lanes,
    line::Line,
    names::Tables,
    sql::{SchemaTexts, Sql, StatementOptions},
    waiters::Waiters,
};

/// What the operations work with.
pub(crate) struct Store {
    /// Where the locks are, for error messages.
    pub(crate) server: String,
    /// Names this client in the line of waiters.
    pub(crate) client: LockId,
    pub(crate) connections: Arc<Connections>,
    pub(crate) extends: Extends,
    pub(crate) lanes: Lanes,
    pub(crate) sql: Sql,
    pub(crate) tables: Tables,
    pub(crate) channel: String,
    pub(crate) statement_options: StatementOptions,
    pub(crate) schema: SchemaTexts,
    pub(crate) waiters: Waiters,
    pub(crate) holder_cache: HolderCache,
    pub(crate) pruning: Pruning,
}

impl Store {
    /// Adapts the statements to the columns that the lock table has. No operation has used them yet.
    pub(crate) fn adapt(&mut self, columns: Columns) {
        self.sql = Sql::new(&self.tables, &self.statement_options, columns);
        let size = self.connections.limits.max_replacements;
        self.extends = extends::queue(&self.connections, &self.sql, size);
        self.waiters.set_line(Line::new(&self.connections, &self.sql, &self.channel, self.client));
    }
}
