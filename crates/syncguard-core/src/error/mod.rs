//! The single error type of the library.

mod display;
mod kind;
mod operation;

use std::{borrow::Cow, convert::Infallible, time::Duration};

pub use self::{
    kind::ErrorKind,
    operation::{Effect, Operation},
};
use crate::{DisplayHash, Holder, InvalidValue, LockId, LockKey};

type Source = Box<dyn std::error::Error + Send + Sync>;

/// Reports what went wrong, in which operation, on which lock, and why.
///
/// Contention is an outcome, not an error, and so is lost ownership where it is a result of the
/// call. `Display` writes one lower-case line. The key appears in it only as its [`DisplayHash`],
/// and no label and no text from a server changes how the line is [shown](crate::text). The cause
/// is in [`source`](std::error::Error::source).
///
/// # Examples
///
/// ```
/// use syncguard_core::{Error, ErrorKind, LockKey, Operation};
///
/// let error = Error::new(ErrorKind::ServiceUnavailable).with_operation(Operation::Extend)
///     .with_key(&LockKey::new("payment:123")?)
///     .with_detail("connection refused");
/// assert_eq!(
///     error.to_string(),
///     "extend of lock a422dabee27fcc7ad506f372: the store is unavailable: connection refused"
/// );
/// # Ok::<(), syncguard_core::Error>(())
/// ```
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    operation: Option<Operation>,
    key: Option<DisplayHash>,
    lock_id: Option<LockId>,
    detail: Option<Cow<'static, str>>,
    source: Option<Source>,
    applied: Applied,
    holder: Option<Holder>,
    free_within: Option<Duration>,
}

/// Whether the store has carried out the request despite the error.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Applied {
    No,
    Maybe,
    Yes,
}

impl Error {
    /// Creates an error.
    ///
    /// [`may_have_applied`](Self::may_have_applied) follows from the kind: it is false for the
    /// kinds that mean that nothing was done. If the backend knows more, it calls
    /// [`with_effect`](Self::with_effect) or [`not_applied`](Self::not_applied).
    ///
    /// A backend adds no operation, no key and no lock id. [`DynBackend`] adds them to the errors
    /// of every backend.
    ///
    /// [`DynBackend`]: crate::DynBackend
    ///
    /// # Examples
    ///
    /// ```
    /// use syncguard_core::{Error, ErrorKind};
    ///
    /// assert!(Error::new(ErrorKind::NetworkTimeout).may_have_applied());
    /// assert!(!Error::new(ErrorKind::RateLimited).may_have_applied());
    /// ```
    pub fn new(kind: ErrorKind) -> Self {
        Self(Box::new(Inner {
            kind,
            operation: None,
            key: None,
            lock_id: None,
            detail: None,
            source: None,
            applied: if kind.may_have_applied() { Applied::Maybe } else { Applied::No },
            holder: None,
            free_within: None,
        }))
    }

    /// Creates the error of a forced release that cleared a record because a part of it, such as
    /// its fence, could not be read. For backends.
    ///
    /// It is [`Internal`](ErrorKind::Internal), and [`has_applied`](Self::has_applied) is true.
    ///
    /// # Examples
    ///
    /// ```
    /// use syncguard_core::{Error, ErrorKind};
    ///
    /// let error = Error::cleared("fence");
    /// assert_eq!(error.kind(), ErrorKind::Internal);
    /// assert!(error.has_applied()); // the key is free
    /// ```
    pub fn cleared(part: &'static str) -> Self {
        let error = Self::new(ErrorKind::Internal);
        let mut error =
            error.with_detail(format!("the record could not be read ({part}); it was cleared"));
        error.0.applied = Applied::Yes;
        error
    }

    /// Adds the operation, unless the error names one already: the first to name it is the closest
    /// to what failed.
    #[must_use]
    pub fn with_operation(mut self, operation: Operation) -> Self {
        self.0.operation.get_or_insert(operation);
        self
    }

    /// Adds details that the kind does not express: a lower-case fragment without a full stop and
    /// without the text of a key.
    #[must_use]
    pub fn with_detail(mut self, detail: impl Into<Cow<'static, str>>) -> Self {
        self.0.detail = Some(detail.into());
        self
    }

    /// Adds the cause.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::{error::Error as _, io};
    /// use syncguard_core::{Error, ErrorKind, Operation};
    ///
    /// let cause = io::Error::from(io::ErrorKind::ConnectionRefused);
    /// let error = Error::new(ErrorKind::ServiceUnavailable).with_operation(Operation::Acquire);
    /// let error = error.with_source(cause);
    /// assert!(error.source().unwrap().is::<io::Error>());
    /// ```
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Source>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Adds the key, of which only the hash is kept.
    #[must_use]
    pub fn with_key(mut self, key: &LockKey) -> Self {
        self.0.key = Some(key.display_hash());
        self
    }

    /// Adds the lock id.
    #[must_use]
    pub fn with_lock_id(mut self, lock_id: LockId) -> Self {
        self.0.lock_id = Some(lock_id);
        self
    }

    /// Records that the request certainly changed nothing: it was never sent, or the store reported
    /// that it rejected or undid it. The same as [`with_effect`](Self::with_effect) with
    /// [`Effect::NotApplied`].
    ///
    /// A backend that can determine this saves its callers a request. A backend that is uncertain
    /// must not call this method: a lock that was granted nevertheless would be held by no guard.
    ///
    /// # Examples
    ///
    /// ```
    /// use syncguard_core::{Error, ErrorKind, Operation};
    ///
    /// let error = Error::new(ErrorKind::ServiceUnavailable).with_operation(Operation::Acquire);
    /// assert!(error.may_have_applied());
    /// assert!(!error.not_applied().may_have_applied());
    /// ```
    #[must_use]
    pub fn not_applied(self) -> Self {
        self.with_effect(Effect::NotApplied)
    }

    /// Records whether the request may have changed the store. It replaces what
    /// [`new`](Self::new) derived from the kind.
    #[must_use]
    pub fn with_effect(mut self, effect: Effect) -> Self {
        self.0.applied = match effect {
            Effect::NotApplied => Applied::No,
            Effect::MayHaveApplied => Applied::Maybe,
        };
        self
    }

    /// Adds the operation, the key and the lock id, each unless the error already has one. An
    /// operation that only reads has certainly not changed the store.
    pub(crate) fn with_context(
        mut self,
        operation: Operation,
        key: Option<&LockKey>,
        lock_id: Option<LockId>,
    ) -> Self {
        self = self.with_operation(operation);
        if self.0.key.is_none() {
            self.0.key = key.map(LockKey::display_hash);
        }
        self.0.lock_id = self.0.lock_id.or(lock_id);
        if operation.is_read_only() { self.not_applied() } else { self }
    }

    pub(crate) fn with_holder(mut self, holder: Option<Holder>) -> Self {
        self.0.holder = holder;
        self
    }

    pub(crate) fn with_free_within(mut self, free_within: Duration) -> Self {
        self.0.free_within = Some(free_within);
        self
    }

    /// Returns the kind of the error.
    ///
    /// # Examples
    ///
    /// ```
    /// # use syncguard_core::{Error, LockManager, NullBackend};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// # let locks = LockManager::new(NullBackend::default());
    /// use syncguard_core::ErrorKind;
    ///
    /// let error = locks.lock("").acquire().await.unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    /// # Ok(()) }
    /// ```
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Returns the operation in which the error occurred. Every error of a
    /// [`LockManager`](crate::LockManager) has one.
    ///
    /// # Examples
    ///
    /// ```
    /// # use syncguard_core::{Error, LockManager, NullBackend};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// # let locks = LockManager::new(NullBackend::default());
    /// use syncguard_core::{Operation, backend::ListRequest};
    ///
    /// let error = locks.list(&ListRequest::new("")).await.unwrap_err(); // unsupported
    /// assert_eq!(error.operation(), Some(Operation::List));
    /// # Ok(()) }
    /// ```
    pub fn operation(&self) -> Option<Operation> {
        self.0.operation
    }

    /// Returns the hash of the key.
    ///
    /// # Examples
    ///
    /// ```
    /// use syncguard_core::{Error, ErrorKind, LockKey, Operation};
    ///
    /// let key = LockKey::new("payment:42")?;
    /// let error = Error::new(ErrorKind::Lost).with_operation(Operation::Hold).with_key(&key);
    /// assert_eq!(error.key(), Some(key.display_hash()));
    /// # Ok::<(), syncguard_core::Error>(())
    /// ```
    pub fn key(&self) -> Option<DisplayHash> {
        self.0.key
    }

    /// Returns the lock id.
    pub fn lock_id(&self) -> Option<LockId> {
        self.0.lock_id
    }

    /// Returns who held the lock when the wait was over, if the store reported it.
    ///
    /// # Examples
    ///
    /// ```
    /// # use syncguard_core::{Error, LockManager};
    /// # async fn example(locks: LockManager) -> Result<(), Error> {
    /// if let Err(error) = locks.lock("report").acquire().await {
    ///     match error.holder() {
    ///         Some(holder) => println!("the report is being written: {holder}"),
    ///         None => println!("the report was not written: {error}"),
    ///     }
    /// }
    /// # Ok(()) }
    /// ```
    pub fn holder(&self) -> Option<&Holder> {
        self.0.holder.as_ref()
    }

    /// Returns, for an [`Ambiguous`](ErrorKind::Ambiguous) error, how long from now an unknown
    /// grant can keep the key at most. The grant usually ends sooner, because a background task
    /// asks the store to abandon it.
    pub fn free_within(&self) -> Option<Duration> {
        self.0.free_within
    }

    /// Returns whether the request may have changed something in the store despite the error.
    pub fn may_have_applied(&self) -> bool {
        self.0.applied != Applied::No
    }

    /// Returns whether the store certainly carried out the request despite the error: a forced
    /// release [cleared](Self::cleared) a record that cannot be read. The call need not be
    /// repeated.
    pub fn has_applied(&self) -> bool {
        self.0.applied == Applied::Yes
    }

    /// Returns whether the same call, repeated unchanged, may succeed.
    ///
    /// It is false for [`Lost`](ErrorKind::Lost), because whether the interrupted work may be
    /// repeated depends on the work, not on the lock.
    ///
    /// # Examples
    ///
    /// ```
    /// use syncguard_core::{Error, ErrorKind, Operation};
    ///
    /// assert!(Error::new(ErrorKind::NetworkTimeout).with_operation(Operation::Lookup).is_retryable());
    /// assert!(!Error::new(ErrorKind::AuthFailed).with_operation(Operation::Lookup).is_retryable());
    /// ```
    pub fn is_retryable(&self) -> bool {
        matches!(
            self.0.kind,
            ErrorKind::AcquisitionTimeout
                | ErrorKind::ServiceUnavailable
                | ErrorKind::RateLimited
                | ErrorKind::NetworkTimeout
                | ErrorKind::Ambiguous
        )
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

impl From<InvalidValue> for Error {
    fn from(invalid: InvalidValue) -> Self {
        let error = Self::new(ErrorKind::InvalidArgument).with_operation(Operation::Validate);
        error.with_detail(invalid.to_string())
    }
}

impl From<Infallible> for Error {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

#[cfg(test)]
mod tests {
    use super::Effect;
    use crate::{Error, ErrorKind, Operation};

    #[test]
    fn whether_a_request_may_have_applied_follows_from_the_kind_unless_it_is_set() {
        let timeout = Error::new(ErrorKind::NetworkTimeout).with_operation(Operation::Acquire);
        assert!(timeout.may_have_applied());
        assert!(!timeout.not_applied().may_have_applied());
        assert!(
            !Error::new(ErrorKind::RateLimited)
                .with_operation(Operation::Acquire)
                .may_have_applied()
        );
    }

    #[test]
    fn an_effect_that_a_backend_reports_replaces_what_the_kind_implies() {
        let refused = Error::new(ErrorKind::AuthFailed);
        assert!(!refused.may_have_applied());
        // The connection may have been ended after it had carried the request.
        assert!(refused.with_effect(Effect::MayHaveApplied).may_have_applied());
    }

    #[test]
    fn only_the_error_of_a_cleared_record_has_certainly_applied() {
        let cleared = Error::cleared("fence");
        assert!(cleared.has_applied() && cleared.may_have_applied() && !cleared.is_retryable());
        let text = "internal error: the record could not be read (fence); it was cleared";
        assert_eq!(cleared.to_string(), text);
        assert!(
            !Error::new(ErrorKind::Internal).with_operation(Operation::ForceRelease).has_applied()
        );
    }
}
