//! What the operations work with.

use std::sync::Arc;

use syncguard_core::{
    backend::{Counters, Finding},
    pool::Pruning,
};

use crate::{connection::Connections, names::Table, readers::Readers, sql::Sql};

/// What the operations work with.
pub(crate) struct Store {
    /// Where the locks are, for error messages.
    pub(crate) server: String,
    pub(crate) connections: Arc<Connections>,
    pub(crate) sql: Sql,
    pub(crate) table: Table,
    pub(crate) counters: Counters,
    pub(crate) readers: Readers,
    pub(crate) pruning: Pruning,
    /// What is unsafe about the connection to the server.
    pub(crate) transport: Option<Finding>,
}
