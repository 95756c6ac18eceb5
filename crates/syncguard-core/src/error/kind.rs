/// Classifies errors by what a caller can do about them.
///
/// # Examples
///
/// ```
/// use syncguard_core::{Error, ErrorKind, LockKey};
///
/// fn exit_code(error: &Error) -> i32 {
///     match error.kind() {
///         ErrorKind::InvalidArgument => 64,
///         ErrorKind::AcquisitionTimeout => 75,
///         _ => 70,
///     }
/// }
///
/// let error = Error::from(LockKey::new("").unwrap_err());
/// assert_eq!(exit_code(&error), 64);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The wait or the retries were used up before the lock was granted: another holder had it, or
    /// other waiters of this process were ahead in the queue.
    /// [`Error::holder`](crate::Error::holder) names the holder.
    AcquisitionTimeout,
    /// The store cannot be reached or cannot serve: down, starting, read-only, out of memory.
    ServiceUnavailable,
    /// The store rejected the credentials, or they lack a permission.
    AuthFailed,
    /// A value is invalid. The text names the value and the rule.
    InvalidArgument,
    /// The store limits the rate of requests.
    RateLimited,
    /// The request timed out: no reply arrived in time.
    NetworkTimeout,
    /// The caller cancelled the operation, or its lock id had been abandoned.
    Aborted,
    /// An unexpected condition: a corrupt record, an exhausted fence counter, a bug.
    Internal,
    /// The lock was lost while it was in use. Work done since may have overlapped another holder.
    Lost,
    /// It is unknown whether the lock was granted.
    /// [`Error::free_within`](crate::Error::free_within) bounds how long the key may stay taken.
    Ambiguous,
    /// The backend does not support this; see its [`Capabilities`](crate::backend::Capabilities).
    Unsupported,
}

impl ErrorKind {
    /// Returns whether a request that failed with this kind may have changed the store, if nothing
    /// else is known.
    pub(super) fn may_have_applied(self) -> bool {
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

    /// Returns the text of the kind in the message of an error.
    pub(super) fn describe(self) -> &'static str {
        match self {
            Self::AcquisitionTimeout => "timed out waiting for the lock",
            Self::ServiceUnavailable => "the store is unavailable",
            Self::AuthFailed => "the store denied access",
            Self::InvalidArgument => "invalid argument",
            Self::RateLimited => "the store limits the rate of requests",
            Self::NetworkTimeout => "timed out waiting for a reply",
            Self::Aborted => "cancelled",
            Self::Internal => "internal error",
            Self::Lost => "the lock was lost",
            Self::Ambiguous => "it is unknown whether the lock was granted",
            Self::Unsupported => "not supported by this backend",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ErrorKind;

    #[test]
    fn as_str_returns_the_name_of_the_variant() {
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
}
