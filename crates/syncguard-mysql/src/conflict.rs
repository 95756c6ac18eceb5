//! Rerunning statements that the server undid.

use std::time::Duration;

use syncguard_core::{Jitter, Retry, backend::Effect};
use tokio::time::sleep;

use crate::error::Failure;

/// How many times a statement that the server undid, to resolve a conflict, is run again.
const MAX_RERUNS: u32 = 8;

/// The longest pause before the first rerun. It doubles with each rerun.
const FIRST_PAUSE: Duration = Duration::from_millis(4);

const MAX_PAUSE: Duration = Duration::from_millis(128);

/// The conflicts of one request.
#[derive(Default)]
pub(crate) struct Conflicts {
    pauses: Option<Box<dyn Iterator<Item = Duration> + Send>>,
    may_have_applied: bool,
}

impl Conflicts {
    /// Waits before a statement that failed on a conflict is run again. Returns its failure if the
    /// reruns are used up.
    ///
    /// The pauses have full jitter: statements that conflicted would conflict again if all were
    /// rerun at once, or after the same pause.
    pub(crate) async fn pause(&mut self, failure: Failure) -> Result<(), Failure> {
        let Some(pause) = self.pauses.get_or_insert_with(|| Box::new(pauses())).next() else {
            return Err(failure);
        };
        // Of statements that are sent together, an earlier one may have been carried out.
        self.may_have_applied |= failure.effect() == Effect::MayHaveApplied;
        sleep(pause).await;
        Ok(())
    }

    /// Makes a failure report what the attempts before it may have changed.
    pub(crate) fn settle(&self, failure: Failure) -> Failure {
        if self.may_have_applied { failure.with_unknown_effect() } else { failure }
    }
}

fn pauses() -> impl Iterator<Item = Duration> + Send {
    let retry = Retry::exponential(FIRST_PAUSE).max_delay(MAX_PAUSE);
    retry.jitter(Jitter::Full).limit(MAX_RERUNS).delays()
}
