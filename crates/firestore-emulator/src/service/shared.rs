use std::sync::Arc;

use crate::{calls::Counter, database::Database, faults::Faults};

/// The state that all connections share, and that outlasts a restart.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) database: Arc<Database>,
    pub(crate) faults: Faults,
    pub(crate) calls: Counter,
}
