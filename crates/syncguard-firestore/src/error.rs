//! The backend's failures, and their conversion into the core error.

use std::fmt;

use gcloud_sdk::{
    error::{Error as DriverError, ErrorKind as DriverKind},
    tonic::{Code, ConnectError, Status},
};
use syncguard_core::{Error, ErrorKind, InvalidValue, backend::Effect};

/// Every failure that can end an operation without an outcome.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Core(#[from] Error),
    #[error("{0}")]
    Config(String),
    #[error("the id was abandoned")]
    Abandoned,
    #[error("the fence counter is at its limit")]
    FenceLimit,
    #[error("{0}, so the next fence could be one that was granted before")]
    FenceLost(&'static str),
    #[error("the lock of this id was written without its fence counter")]
    HalfGranted,
    /// Nothing was granted over the document, and it is unchanged.
    #[error("the stored {0} cannot be read")]
    Unreadable(&'static str),
    #[error("the {0} in the server's answer cannot be read")]
    UnreadableAnswer(&'static str),
    #[error("the settings are unsafe: {0}")]
    Unsafe(String),
    #[error("other clients changed the lock during every attempt")]
    Contention,
    #[error("no valid credentials: {0}")]
    NoCredentials(String),
    #[error("the credentials are not available at present: {0}")]
    NoCredentialsYet(String),
    #[error("an operation needs a tokio runtime")]
    NoRuntime,
    #[error("the operating system returned no random bytes: {0}")]
    NoRandomBytes(std::io::Error),
    #[error("{0}")]
    Refused(Refusal, Fate),
    /// Something was written, and the next step failed.
    #[error("{0}")]
    HalfDone(Box<Self>),
}

/// What became of a request that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It only read, or was never sent.
    Unsent,
    /// The service answered with a refusal.
    Refused,
    Unknown,
}

impl Fate {
    fn effect(self) -> Effect {
        match self {
            Self::Unsent | Self::Refused => Effect::NotApplied,
            Self::Unknown => Effect::MayHaveApplied,
        }
    }
}

/// The parts that are kept of the status that ended a call.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) code: Code,
    /// The message of the service, or of the driver with its cause.
    words: String,
}

impl Refusal {
    fn of(status: &Status) -> Self {
        let mut words = status.message().to_owned();
        let mut cause = std::error::Error::source(status);
        while let Some(error) = cause {
            let text = error.to_string();
            if !words.contains(&text) {
                words = format!("{words}: {text}");
            }
            cause = error.source();
        }
        // The service names documents, whose ids are keys.
        if words.is_empty() || words.contains("/documents") {
            words = status.code().description().to_lowercase();
        }
        Self { code: status.code(), words }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.code, self.words)
    }
}

impl From<InvalidValue> for Failure {
    fn from(invalid: InvalidValue) -> Self {
        Self::Core(invalid.into())
    }
}

impl Failure {
    /// The deadline passed before anything was sent.
    pub(crate) fn late() -> Self {
        Self::reading(&late())
    }

    /// Classifies the status that ended a call which only reads.
    pub(crate) fn reading(status: &Status) -> Self {
        Self::credentials(status)
            .unwrap_or_else(|| Self::Refused(Refusal::of(status), Fate::Unsent))
    }

    /// Classifies the status that ended a commit.
    ///
    /// A commit that found no connection was never sent. A commit that the service itself refused
    /// changed nothing. A refusal requires a code for refusals and an answer. The driver makes up
    /// the same codes for a connection that broke, such as `RESOURCE_EXHAUSTED` for one that the
    /// server closed because of too many requests, and then the status has a cause. The driver also
    /// makes up `UNIMPLEMENTED` and `OUT_OF_RANGE` for answers that it cannot decode. Every other
    /// status leaves open whether the commit was or will be applied.
    pub(crate) fn committing(status: &Status) -> Self {
        let answered = std::error::Error::source(status).is_none();
        let fate = match status.code() {
            _ if causes(status).any(|cause| cause.is::<ConnectError>()) => Fate::Unsent,
            Code::PermissionDenied
            | Code::Unauthenticated
            | Code::ResourceExhausted
            | Code::InvalidArgument
            | Code::Aborted
            | Code::AlreadyExists
            | Code::FailedPrecondition
            | Code::NotFound
                if answered =>
            {
                Fate::Refused
            }
            _ => Fate::Unknown,
        };
        Self::credentials(status).unwrap_or_else(|| Self::Refused(Refusal::of(status), fate))
    }

    /// Returns whether a commit that failed so was sent and may have been applied, as far as the
    /// client knows.
    pub(crate) fn was_sent(&self) -> bool {
        match self {
            Self::Refused(_, fate) => *fate != Fate::Unsent,
            Self::HalfDone(_) => true,
            _ => false,
        }
    }

    /// Returns whether the service answered that it refuses the commit.
    pub(crate) fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused(_, Fate::Refused))
    }

    /// Returns whether a call was not sent because it had no credentials.
    fn credentials(status: &Status) -> Option<Self> {
        causes(status).find_map(|cause| {
            let boxed = cause.downcast_ref::<Box<DriverError>>().map(Box::as_ref);
            boxed.or_else(|| cause.downcast_ref::<DriverError>()).map(Self::unauthenticated)
        })
    }

    /// Classifies what the driver reports about credentials.
    pub(crate) fn unauthenticated(error: &DriverError) -> Self {
        match error.kind() {
            DriverKind::Credentials(cause) if cause.is_transient() => {
                Self::NoCredentialsYet(error.to_string())
            }
            _ => Self::NoCredentials(error.to_string()),
        }
    }

    /// Converts into the core error.
    pub(crate) fn into_error(self) -> Error {
        let detail = self.to_string();
        self.described(detail)
    }

    /// Converts a failure to use `server` into the core's error, which names it where that helps.
    pub(crate) fn into_error_at(self, server: &str) -> Error {
        let detail = match self.classify().0 {
            ErrorKind::ServiceUnavailable | ErrorKind::NetworkTimeout | ErrorKind::AuthFailed => {
                format!("{server}: {self}")
            }
            _ => self.to_string(),
        };
        self.described(detail)
    }

    fn described(self, detail: String) -> Error {
        let (kind, fate) = self.classify();
        if let Self::Core(error) = self {
            return error;
        }
        let error = Error::new(kind);
        let error = match fate.effect() {
            // A kind that means that the store did nothing would claim more than is known.
            Effect::MayHaveApplied if !error.may_have_applied() => {
                Error::new(ErrorKind::ServiceUnavailable)
            }
            effect => error.with_effect(effect),
        };
        error.with_detail(detail)
    }

    fn classify(&self) -> (ErrorKind, Fate) {
        match self {
            Self::Core(error) => (error.kind(), Fate::Unsent),
            Self::Config(_) => (ErrorKind::InvalidArgument, Fate::Unsent),
            Self::Unsafe(_) => (ErrorKind::Unsupported, Fate::Unsent),
            Self::Abandoned => (ErrorKind::Aborted, Fate::Unsent),
            Self::FenceLimit
            | Self::FenceLost(_)
            | Self::Unreadable(_)
            | Self::UnreadableAnswer(_) => (ErrorKind::Internal, Fate::Unsent),
            Self::HalfGranted => (ErrorKind::Internal, Fate::Unknown),
            Self::Contention => (ErrorKind::ServiceUnavailable, Fate::Unsent),
            Self::NoRuntime | Self::NoRandomBytes(_) => (ErrorKind::Internal, Fate::Unsent),
            Self::NoCredentials(_) => (ErrorKind::AuthFailed, Fate::Unsent),
            Self::NoCredentialsYet(_) => (ErrorKind::ServiceUnavailable, Fate::Unsent),
            Self::Refused(refusal, fate) => (classify_code(refusal.code), *fate),
            Self::HalfDone(failure) => (failure.classify().0, Fate::Unknown),
        }
    }
}

/// Returns the status of a request that was not answered by its deadline.
pub(crate) fn late() -> Status {
    Status::deadline_exceeded("the service did not answer in time")
}

/// Classifies the codes of gRPC. Those that Google's own clients retry are retryable here.
fn classify_code(code: Code) -> ErrorKind {
    match code {
        Code::Unauthenticated | Code::PermissionDenied => ErrorKind::AuthFailed,
        Code::ResourceExhausted => ErrorKind::RateLimited,
        Code::DeadlineExceeded => ErrorKind::NetworkTimeout,
        Code::Unavailable | Code::Aborted | Code::Cancelled | Code::Unknown | Code::Internal => {
            ErrorKind::ServiceUnavailable
        }
        // The project or the database does not exist.
        Code::NotFound => ErrorKind::InvalidArgument,
        // The database is in Datastore mode, or lacks the index that a query needs.
        Code::FailedPrecondition | Code::Unimplemented => ErrorKind::Unsupported,
        _ => ErrorKind::Internal,
    }
}

fn causes<'a>(
    status: &'a Status,
) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> + 'a {
    std::iter::successors(std::error::Error::source(status), |cause| cause.source())
}

#[cfg(test)]
mod tests {
    use gcloud_sdk::tonic::{Code, Status};
    use syncguard_core::ErrorKind;

    use super::Failure;

    fn classified(failure: Failure) -> (ErrorKind, bool) {
        let error = failure.into_error();
        (error.kind(), error.may_have_applied())
    }

    #[test]
    fn a_commit_without_a_clear_answer_may_have_been_applied() {
        for (code, kind) in [
            (Code::DeadlineExceeded, ErrorKind::NetworkTimeout),
            (Code::Unavailable, ErrorKind::ServiceUnavailable),
            (Code::Cancelled, ErrorKind::ServiceUnavailable),
            (Code::Unknown, ErrorKind::ServiceUnavailable),
            (Code::Internal, ErrorKind::ServiceUnavailable),
        ] {
            let status = Status::new(code, "");
            assert_eq!(classified(Failure::committing(&status)), (kind, true), "{code:?}");
            assert_eq!(classified(Failure::reading(&status)), (kind, false), "{code:?}");
        }
    }

    #[test]
    fn what_the_service_refused_changed_nothing() {
        for (code, kind) in [
            (Code::Unauthenticated, ErrorKind::AuthFailed),
            (Code::PermissionDenied, ErrorKind::AuthFailed),
            (Code::ResourceExhausted, ErrorKind::RateLimited),
            (Code::InvalidArgument, ErrorKind::Internal),
            (Code::NotFound, ErrorKind::InvalidArgument),
            (Code::FailedPrecondition, ErrorKind::Unsupported),
        ] {
            let status = Status::new(code, "");
            assert_eq!(classified(Failure::committing(&status)), (kind, false), "{code:?}");
        }
    }

    #[test]
    fn what_the_driver_made_of_a_broken_connection_says_nothing_of_the_commit() {
        for code in [Code::ResourceExhausted, Code::PermissionDenied, Code::Unavailable] {
            let mut status = Status::new(code, "");
            status.set_source(std::sync::Arc::new(std::io::Error::other("the connection broke")));
            let failure = Failure::committing(&status);
            assert!(!failure.is_refusal());
            assert_eq!(classified(failure), (ErrorKind::ServiceUnavailable, true), "{code:?}");
        }
    }

    #[test]
    fn the_name_of_a_document_is_in_no_error() {
        let words = "No document to update: projects/p/databases/d/documents/locks/jane-doe";
        for status in [Status::not_found(words), Status::internal(words)] {
            let error = Failure::committing(&status).into_error();
            assert!(!format!("{error} {error:?}").contains("jane"), "{error}");
        }
        let error = Failure::reading(&Status::permission_denied("no rights"));
        assert!(error.to_string().contains("no rights"), "{error}");
    }
}
