//! What the operations work with.

use std::{path::PathBuf, sync::Arc};

use syncguard_core::pool::Pruning;

use crate::{
    config::Target,
    connection::{Lane, Role},
    error::Failure,
    identity::Succession,
    turn::Turns,
    waiters::Waiters,
};

/// The connections to one file.
pub(crate) struct Store {
    pub(crate) path: PathBuf,
    pub(crate) writer: Lane,
    pub(crate) releaser: Lane,
    pub(crate) reader: Arc<Lane>,
    pub(crate) succession: Arc<Succession>,
    pub(crate) pruning: Pruning,
    pub(crate) waiters: Waiters,
}

impl Store {
    pub(crate) async fn open(target: Target) -> Result<Self, Failure> {
        let target = Arc::new(target);
        let writes = Arc::new(Turns::default());
        let succession = Arc::new(Succession::default());
        Ok(Self {
            path: target.path.clone(),
            writer: Lane::open(&target, Role::Durable, writes.clone(), &succession).await?,
            releaser: Lane::open(&target, Role::Prompt, writes, &succession).await?,
            reader: Arc::new(Lane::open(&target, Role::Read, Arc::default(), &succession).await?),
            succession,
            pruning: Pruning::default(),
            waiters: Waiters::default(),
        })
    }
}
