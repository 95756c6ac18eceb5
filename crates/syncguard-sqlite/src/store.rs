//! What the operations work with.

use std::{path::PathBuf, sync::Arc};

use syncguard_core::{backend::Counters, pool::Pruning};

use crate::{
    config::Target,
    connection::{Role, SharedConnection},
    error::Failure,
    identity::DatabaseEpochs,
    turn::Turns,
    waiters::Waiters,
};

/// The connections to one file.
pub(crate) struct Store {
    pub(crate) path: PathBuf,
    pub(crate) counters: Counters,
    pub(crate) writer: SharedConnection,
    pub(crate) releaser: SharedConnection,
    pub(crate) reader: Arc<SharedConnection>,
    pub(crate) epochs: Arc<DatabaseEpochs>,
    pub(crate) pruning: Pruning,
    pub(crate) waiters: Waiters,
}

impl Store {
    pub(crate) async fn open(target: Target) -> Result<Self, Failure> {
        let target = Arc::new(target);
        let writes = Arc::new(Turns::default());
        let epochs = Arc::new(DatabaseEpochs::default());
        Ok(Self {
            path: target.path.clone(),
            counters: target.counters,
            writer: SharedConnection::open(&target, Role::Durable, writes.clone(), &epochs).await?,
            releaser: SharedConnection::open(&target, Role::Relaxed, writes, &epochs).await?,
            reader: Arc::new(
                SharedConnection::open(&target, Role::Read, Arc::default(), &epochs).await?,
            ),
            epochs,
            pruning: Pruning::default(),
            waiters: Waiters::default(),
        })
    }
}
