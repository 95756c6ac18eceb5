//! The single error type of the library.

use std::{borrow::Cow, convert::Infallible, fmt, time::Duration};

use crate::{DisplayHash, Holder, InvalidValue, LockId, LockKey, text::Line};

type Source = Box<dyn std::error::Error + Send + Sync>;

/// Reports what went wrong, in which operation, on which lock, and why.
///
/// Contention is an outcome, not an error, and so is lost ownership where the caller asked about
/// it. `Display` writes one lower-case line. The key appears in it only as its [`DisplayHash`], and
/// no label and no text from a server changes how the line is [shown](crate::text). The cause is in
/// [`source`](std::error::Error::source).
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    operation: Operation,
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
    Perhaps,
    Yes,
}

/// Classifies errors by what a caller can do about them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The wait or the retries were used up before the lock was granted: another holder had it, or
    /// other waiters of this process were ahead in the queue. [`Error::holder`] names the holder.
    AcquisitionTimeout,
    /// The store cannot be reached or cannot serve: down, starting, read-only, out of memory.
    ServiceUnavailable,
    /// The store refused the credentials or the permission.
    AuthFailed,
    /// A value is invalid. The text names the value and the rule.
    InvalidArgument,
    /// The store asked for fewer requests.
    RateLimited,
    /// No answer came in time.
    NetworkTimeout,
    /// The caller cancelled, or the operation's id was abandoned earlier.
    Aborted,
    /// An unexpected condition: a corrupt record, an exhausted fence counter, a bug.
    Internal,
    /// The lock was lost while it was in use. Work done since may have overlapped another holder.
    Lost,
    /// It is unknown whether the lock was granted; [`Error::free_within`] bounds how long the key
    /// may stay taken.
    Ambiguous,
    /// The backend does not support this; see its [`Capabilities`](crate::Capabilities).
    Unsupported,
}

impl ErrorKind {
    /// Returns whether the request may have reached the store, judged by the kind alone.
    fn may_have_applied(self) -> bool {
        match self {
            Self::ServiceUnavailable
            | Self::NetworkTimeout
            | Self::Aborted
            | Self::Internal
            | Self::Lost
            | Self::Ambiguous => true,
            Self::AcquisitionTimeout
            | Self::AuthFailed
            | Self::InvalidArgument
            | Self::RateLimited
            | Self::Unsupported => false,
        }
    }

    /// Returns the name of the variant. The name is stable. For logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AcquisitionTimeout => "AcquisitionTimeout",
            Self::ServiceUnavailable => "ServiceUnavailable",
            Self::AuthFailed => "AuthFailed",
            Self::InvalidArgument => "InvalidArgument",
            Self::RateLimited => "RateLimited",
            Self::NetworkTimeout => "NetworkTimeout",
            Self::Aborted => "Aborted",
            Self::Internal => "Internal",
            Self::Lost => "Lost",
            Self::Ambiguous => "Ambiguous",
            Self::Unsupported => "Unsupported",
        }
    }

    fn describe(self) -> &'static str {
        match self {
            Self::AcquisitionTimeout => "timed out waiting for the lock",
            Self::ServiceUnavailable => "the store is unavailable",
            Self::AuthFailed => "the store refuses access",
            Self::InvalidArgument => "invalid argument",
            Self::RateLimited => "the store asks for fewer requests",
            Self::NetworkTimeout => "no answer in time",
            Self::Aborted => "cancelled",
            Self::Internal => "internal error",
            Self::Lost => "the lock was lost",
            Self::Ambiguous => "it is unknown whether the lock was granted",
            Self::Unsupported => "not supported by this backend",
        }
    }
}

/// Names the operation in which an error occurred.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Operation {
    /// Parsing a value.
    Validate,
    /// Opening a backend.
    Connect,
    /// Acquiring a lock.
    Acquire,
    /// Extending a lock.
    Extend,
    /// Releasing a lock.
    Release,
    /// Abandoning a grant whose outcome is unknown.
    Abandon,
    /// Looking a lock up.
    Lookup,
    /// Asking whether a key is locked.
    IsLocked,
    /// Listing locks.
    List,
    /// Releasing a lock at an operator's request.
    ForceRelease,
    /// Checking the store's own settings.
    Check,
    /// Using a lock that was held.
    Hold,
}

impl Operation {
    /// Returns its name in errors, logs and metrics. The name is stable.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Validate => "validate",
            Self::Connect => "connect",
            Self::Acquire => "acquire",
            Self::Extend => "extend",
            Self::Release => "release",
            Self::Abandon => "abandon",
            Self::Lookup => "lookup",
            Self::IsLocked => "is locked",
            Self::List => "list",
            Self::ForceRelease => "force release",
            Self::Check => "check",
            Self::Hold => "hold",
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Error {
    /// Creates an error.
    ///
    /// [`may_have_applied`](Self::may_have_applied) follows from the kind: it is false for the
    /// kinds that mean that nothing was done.
    pub fn new(kind: ErrorKind, operation: Operation) -> Self {
        Self(Box::new(Inner {
            kind,
            operation,
            key: None,
            lock_id: None,
            detail: None,
            source: None,
            applied: if kind.may_have_applied() { Applied::Perhaps } else { Applied::No },
            holder: None,
            free_within: None,
        }))
    }

    /// Creates the error of a forced release that cleared a record with an unreadable part, `what`.
    /// For backends.
    ///
    /// It is [`Internal`](ErrorKind::Internal), and [`has_applied`](Self::has_applied) is true.
    pub fn cleared(what: &'static str) -> Self {
        let error = Self::new(ErrorKind::Internal, Operation::ForceRelease);
        let mut error =
            error.with_detail(format!("the record could not be read ({what}); it was cleared"));
        error.0.applied = Applied::Yes;
        error
    }

    /// Adds details that the kind does not express: a lower-case fragment without a full stop and
    /// without the text of a key.
    #[must_use]
    pub fn with_detail(mut self, detail: impl Into<Cow<'static, str>>) -> Self {
        self.0.detail = Some(detail.into());
        self
    }

    /// Adds the cause.
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
    /// so.
    ///
    /// A backend that can determine this saves its callers a request. If it is uncertain, do not
    /// call this method.
    #[must_use]
    pub fn not_applied(mut self) -> Self {
        self.0.applied = Applied::No;
        self
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
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Returns the operation in which the error occurred.
    pub fn operation(&self) -> Operation {
        self.0.operation
    }

    /// Returns the hash of the key.
    pub fn key(&self) -> Option<DisplayHash> {
        self.0.key
    }

    /// Returns the lock id.
    pub fn lock_id(&self) -> Option<LockId> {
        self.0.lock_id
    }

    /// Returns who held the lock when the wait was over, if the store reported it.
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

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.operation)?;
        if let Some(key) = self.0.key {
            write!(f, " of lock {key}")?;
        }
        write!(f, ": {}", self.0.kind.describe())?;
        if let Some(detail) = &self.0.detail {
            write!(f, ": {}", Line(detail))?;
        }
        match &self.0.holder {
            Some(holder) => write!(f, ": {holder}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.0.kind)
            .field("operation", &self.0.operation)
            .field("key", &self.0.key)
            .field("lock_id", &self.0.lock_id)
            .field("detail", &self.0.detail)
            .field("source", &self.0.source)
            .finish_non_exhaustive()
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

impl From<InvalidValue> for Error {
    fn from(invalid: InvalidValue) -> Self {
        let error = Self::new(ErrorKind::InvalidArgument, Operation::Validate);
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
    use std::error::Error as _;

    use super::{Error, ErrorKind, Operation};
    use crate::{Holder, LockKey, Owner};

    #[test]
    fn a_kind_is_named_as_it_is_written() {
        for kind in [
            ErrorKind::AcquisitionTimeout,
            ErrorKind::ServiceUnavailable,
            ErrorKind::AuthFailed,
            ErrorKind::InvalidArgument,
            ErrorKind::RateLimited,
            ErrorKind::NetworkTimeout,
            ErrorKind::Aborted,
            ErrorKind::Internal,
            ErrorKind::Lost,
            ErrorKind::Ambiguous,
            ErrorKind::Unsupported,
        ] {
            assert_eq!(kind.as_str(), format!("{kind:?}"));
        }
    }

    #[test]
    fn display_names_operation_hash_kind_and_detail_in_one_line() {
        let key = LockKey::new("payment:123").unwrap();
        let error = Error::new(ErrorKind::ServiceUnavailable, Operation::Extend)
            .with_key(&key)
            .with_detail("connection refused")
            .with_source("errno 111");
        assert_eq!(
            error.to_string(),
            "extend of lock a422dabee27fcc7ad506f372: the store is unavailable: connection refused"
        );
        assert_eq!(error.source().unwrap().to_string(), "errno 111");
    }

    #[test]
    fn display_quotes_the_label_of_the_holder() {
        let owner = Owner::new("ci\" under fence 9\u{202e}").unwrap();
        let holder = Holder { owner: Some(owner), ..Holder::default() };
        let error = Error::new(ErrorKind::AcquisitionTimeout, Operation::Acquire);
        let text = error.with_holder(Some(holder)).to_string();
        assert!(text.ends_with(r#": held by "ci\" under fence 9\u{202e}""#), "{text}");
    }

    #[test]
    fn display_is_one_line_whatever_the_server_said() {
        let error = Error::new(ErrorKind::Internal, Operation::Lookup);
        let error = error.with_detail("duplicate entry\n 'ci\u{1b}[2J\u{202e}'");
        assert!(error.to_string().ends_with(r"duplicate entry 'ci [2J\u{202e}'"), "{error}");
    }

    #[test]
    fn a_request_counts_as_applied_unless_the_store_or_the_backend_said_otherwise() {
        let timeout = Error::new(ErrorKind::NetworkTimeout, Operation::Acquire);
        assert!(timeout.may_have_applied());
        assert!(!timeout.not_applied().may_have_applied());
        assert!(!Error::new(ErrorKind::RateLimited, Operation::Acquire).may_have_applied());
    }

    #[test]
    fn only_a_record_that_was_cleared_is_certain_to_have_been() {
        let cleared = Error::cleared("fence");
        assert!(cleared.has_applied() && cleared.may_have_applied() && !cleared.is_retryable());
        let text =
            "force release: internal error: the record could not be read (fence); it was cleared";
        assert_eq!(cleared.to_string(), text);
        assert!(!Error::new(ErrorKind::Internal, Operation::ForceRelease).has_applied());
    }
}
