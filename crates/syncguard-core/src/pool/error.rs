use std::{fmt, sync::Arc, time::Duration};

/// Why a lease failed. In each case nothing was sent.
#[derive(Debug)]
pub enum LeaseError<E> {
    /// An acquire would have waited for longer than this.
    Busy(Duration),
    /// The wait for a connection timed out.
    TimedOut {
        /// How long the lease waited.
        limit: Duration,
        /// Why the last attempt to open a connection failed, if it did.
        cause: Option<Arc<E>>,
    },
    /// A connection could not be opened, and retrying would not help.
    Failed(Arc<E>),
}

impl<E> LeaseError<E> {
    /// Returns why the last attempt to open a connection failed, if that caused this error.
    pub fn cause(&self) -> Option<&Arc<E>> {
        match self {
            Self::Busy(_) => None,
            Self::TimedOut { cause, .. } => cause.as_ref(),
            Self::Failed(cause) => Some(cause),
        }
    }
}

impl<E: fmt::Display> fmt::Display for LeaseError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Busy(limit) => {
                write!(
                    f,
                    "all connections are in use, and one would be free after more than {limit:?}"
                )
            }
            Self::TimedOut { limit, cause: None } => write!(f, "no connection within {limit:?}"),
            Self::TimedOut { limit, cause: Some(cause) } => {
                write!(f, "no connection within {limit:?}: {cause}")
            }
            Self::Failed(cause) => write!(f, "{cause}"),
        }
    }
}

impl<E: std::error::Error + 'static> std::error::Error for LeaseError<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.cause().map(|cause| &**cause as _)
    }
}
