use tokio::{sync::oneshot, time::Instant};

use super::{reply::Answer, words::Words};
use crate::{error::Failure, options::Replicas, script::Script};

/// One call of a script.
pub(super) struct Call {
    pub(super) script: &'static Script,
    pub(super) words: Words,
    pub(super) replicas: Option<Replicas>,
    pub(super) answer: oneshot::Sender<Result<Answer, Failure>>,
    /// The latest time until which it may wait to be sent.
    pub(super) deadline: Instant,
    pub(super) resends: usize,
    /// Must not go into a batch: a batch that contained it was refused.
    pub(super) unbatched: bool,
}

impl Call {
    pub(super) fn complete(self, answer: Result<Answer, Failure>) {
        // The caller may have gone.
        drop(self.answer.send(answer));
    }
}
