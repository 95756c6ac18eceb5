//! The state that the operations share.

use crate::{
    client::{Answer, Client},
    error::Failure,
    names::Layout,
    options::{Options, Replicas},
    script::{Script, reply},
    waiters::Waiters,
};

/// The state that the operations share.
pub(crate) struct Store {
    /// Where the locks are, for error messages.
    pub(crate) server: String,
    pub(crate) client: Client,
    pub(crate) layout: Layout,
    pub(crate) options: Options,
    pub(crate) waiters: Waiters,
}

impl Store {
    /// Runs a script that changes the grant of an id. Its first two keys are the lock and the id.
    ///
    /// While the slot of a lock is being moved, a server refuses a script if some of its keys exist
    /// and others do not. An exclusive lock has no shared holders, and may have no line of waiters,
    /// so it would be refused until the slot has moved. It is not, because the script then runs
    /// without those keys, and does nothing if the lock turns out to be shared.
    pub(crate) async fn change(
        &self,
        script: &'static Script,
        keys: &[&str],
        arguments: &[&str],
        replicas: Option<Replicas>,
    ) -> Result<Answer, Failure> {
        match self.client.replicated(script, keys, arguments, replicas).await {
            Err(failure) if failure.is_for_missing_keys() => {
                let exclusive = self.client.replicated(script, &keys[..2], arguments, replicas);
                let answer = Box::pin(exclusive).await?;
                match answer.reply.integer() {
                    Some(reply::NEEDS_HOLDERS) => Err(failure),
                    _ => Ok(answer),
                }
            }
            answer => answer,
        }
    }
}
