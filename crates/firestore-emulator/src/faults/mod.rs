//! Fault injection.

mod armed;
mod injection;
mod strike;

use std::time::Duration;

use tonic::Code;

pub(crate) use injection::Faults;
pub use injection::Injection;
pub(crate) use strike::Strike;

use crate::Rpc;

/// Describes a fault, and which calls it hits.
///
/// By default it hits the next commit, once.
///
/// ```
/// use firestore_emulator::{Fault, Rpc};
///
/// let lost = Fault::drop_reply().document("payment:42").times(500);
/// let slow = Fault::hold().on(Rpc::BatchGetDocuments);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a fault happens when it is injected"]
pub struct Fault {
    rpc: Rpc,
    document: Option<String>,
    times: usize,
    pub(crate) action: Action,
}

/// What a fault does to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Delay(Duration),
    Hold,
    Refuse(Code),
    /// The call reads the state of that long ago.
    Stale(Duration),
    /// The call is done, and then answered with this error.
    Answer(Code),
    /// The call is done, and the connection is cut.
    Cut,
    /// The call is done and never answered.
    Silence,
}

impl Action {
    /// Returns whether it happens after the call is done.
    fn happens_after(self) -> bool {
        matches!(self, Self::Answer(_) | Self::Cut | Self::Silence)
    }
}

impl Fault {
    /// Delays calls before they are processed.
    pub fn delay(duration: Duration) -> Self {
        Self::new(Action::Delay(duration))
    }

    /// Holds calls before they are processed, until [`Injection::release`] or the end of the
    /// server.
    pub fn hold() -> Self {
        Self::new(Action::Hold)
    }

    /// Answers with an error without doing anything.
    pub fn refuse(code: Code) -> Self {
        Self::new(Action::Refuse(code))
    }

    /// Answers the next [`BatchGetDocuments`](Rpc::BatchGetDocuments) with the state of that long
    /// ago, and with that time, as a replica does that lags behind. With [`on`](Self::on) another
    /// method that reads, it does the same there.
    ///
    /// A read in a transaction, or as of a time of its own, is unaffected. A time before the
    /// [retention](crate::Builder::retention) is refused.
    pub fn stale(by: Duration) -> Self {
        Self::new(Action::Stale(by)).on(Rpc::BatchGetDocuments)
    }

    /// Processes the request, whatever its outcome, and then answers with an error.
    pub fn answer(code: Code) -> Self {
        Self::new(Action::Answer(code))
    }

    /// Processes the request, and then cuts the connection with all calls that use it.
    pub fn drop_reply() -> Self {
        Self::new(Action::Cut)
    }

    /// Processes the request, and never answers.
    pub fn silence() -> Self {
        Self::new(Action::Silence)
    }

    /// Hits calls of this method, instead of commits.
    ///
    /// A [listening](Rpc::Listen) stream can only be [refused](Self::refuse), delayed or held,
    /// before it begins.
    pub fn on(self, rpc: Rpc) -> Self {
        Self { rpc, ..self }
    }

    /// Hits only calls that name a document with this id, in any collection.
    pub fn document(self, id: impl Into<String>) -> Self {
        Self { document: Some(id.into()), ..self }
    }

    /// Hits this many calls, instead of one.
    pub fn times(self, times: usize) -> Self {
        Self { times, ..self }
    }

    fn new(action: Action) -> Self {
        Self { rpc: Rpc::Commit, document: None, times: 1, action }
    }

    fn matches_call(&self, rpc: Rpc, documents: &[String]) -> bool {
        let named = |id: &String| documents.iter().any(|name| name.rsplit('/').next() == Some(id));
        self.rpc == rpc && self.document.as_ref().is_none_or(named)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_matches_only_its_method_and_its_document() {
        let fault = Fault::hold().document("a");
        let documents = ["x/documents/c/b".to_owned(), "x/documents/c/a".to_owned()];
        assert!(fault.matches_call(Rpc::Commit, &documents));
        assert!(!fault.matches_call(Rpc::Commit, &documents[..1]));
        assert!(!fault.matches_call(Rpc::Rollback, &documents));
        assert!(Fault::hold().matches_call(Rpc::Commit, &[]));
    }
}
