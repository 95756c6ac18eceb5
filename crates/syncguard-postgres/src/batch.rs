//! What the queues of requests that are sent together have in common.

use std::{collections::HashSet, sync::Arc};

use syncguard_core::{LockId, backend::Effect, pool::Interrupted};

use crate::error::Failure;

/// The maximum number of requests in one statement. Such a statement takes a connection for a few
/// milliseconds; requests that arrive meanwhile wait.
pub(crate) const BATCH_SIZE: usize = 64;

/// The first request under each id. A later one under the same id has an outcome of its own, and is
/// sent alone.
pub(crate) struct Firsts<'a, T> {
    pub(crate) requests: Vec<&'a T>,
    is_first: Vec<bool>,
}

impl<'a, T> Firsts<'a, T> {
    pub(crate) fn of(requests: &'a [T], id: impl Fn(&T) -> LockId) -> Self {
        let mut ids = HashSet::new();
        let is_first: Vec<_> = requests.iter().map(|request| ids.insert(id(request))).collect();
        let firsts = requests.iter().zip(&is_first).filter(|(_, is_first)| **is_first);
        Self { requests: firsts.map(|(request, _)| request).collect(), is_first }
    }

    /// Returns the answers in the order of all requests.
    pub(crate) fn spread<A>(&self, answers: Vec<Option<A>>) -> Vec<Option<A>> {
        let mut answers = answers.into_iter();
        let answer = |is_first: &bool| if *is_first { answers.next().flatten() } else { None };
        self.is_first.iter().map(answer).collect()
    }
}

/// Reads the answer of a queue to a request that may have changed something.
pub(crate) fn answered<T>(
    answer: Result<Result<T, Arc<Failure>>, Interrupted>,
) -> Result<T, Failure> {
    match answer {
        Ok(answer) => answer.map_err(|e| Arc::try_unwrap(e).unwrap_or_else(Failure::Shared)),
        Err(interrupted) => Err(Failure::interrupted(interrupted, Effect::MayHaveApplied)),
    }
}
