//! The backend's failures, and their conversion into the core error.

use std::time::Duration;

use syncguard_core::{Error, ErrorKind, backend::Effect};

pub(crate) use fred::error::Error as DriverError;
use fred::error::ErrorKind as DriverKind;

/// Every failure that can end an operation without an outcome.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Core(#[from] Error),
    #[error("{0}")]
    Config(String),
    #[error("the id was abandoned")]
    Abandoned,
    #[error("the fence counter is at its limit, or is not a counter")]
    FenceLimit,
    #[error("{0} cannot be read")]
    Unreadable(&'static str),
    #[error("the answer to {0} cannot be read")]
    Garbled(&'static str),
    #[error("{acknowledged} of {wanted} replicas acknowledged the {what} in time")]
    Replicas { what: &'static str, acknowledged: i64, wanted: u32, effect: Effect },
    #[error("it is unknown how many replicas have the {what}: {cause}")]
    Uncounted { what: &'static str, cause: Box<Self>, effect: Effect },
    #[error("a backend can only be opened on a tokio runtime")]
    NoRuntime,
    #[error("the runtime on which the backend was opened has ended")]
    Ended(Effect),
    #[error("the runtime on which the backend was opened was not driven for {0:?}")]
    Unattended(Duration),
    #[error("no connection within {0:?}")]
    Unconnected(Duration),
    #[error("not sent within {0:?}: too many calls wait for an answer of the server")]
    Unsent(Duration),
    #[error("could not connect: {}", reason(.0))]
    Connecting(#[source] DriverError),
    #[error("the command was not sent: {}", reason(.0))]
    NotSent(#[source] DriverError),
    #[error("the server did not answer in time: {}", reason(.0))]
    TimedOut(#[source] DriverError),
    #[error("the connection was lost: {}", reason(.0))]
    Broken(#[source] DriverError),
    /// The server's own message.
    #[error("{}", explain(.0.details()))]
    Refused(DriverError),
}

/// What the driver reports about a command that it did not send, or that the server redirected. The
/// third is how it reports `MOVED` and `ASK` when it may not follow them.
const NOT_SENT: [&str; 7] = [
    "Failed to route command",
    "Too many failed write attempts",
    "Too many redirections",
    "Failed to send command to router",
    "Client is not initialized",
    "Missing server for hash slot",
    "Missing cluster routing state",
];

/// The error codes of a script that the server refused, or that failed before it wrote anything.
const SCRIPT_ERRORS: [&str; 4] =
    ["is not an integer", "would overflow", "unknown command", "unning script"];

impl Failure {
    /// What the scripts report as [`reply::UNREADABLE`](crate::script::reply::UNREADABLE).
    pub(crate) const UNREADABLE_RECORD: Self = Self::Unreadable("the record of the lock");

    /// What the scripts report as
    /// [`reply::UNREADABLE_HOLDERS`](crate::script::reply::UNREADABLE_HOLDERS).
    pub(crate) const UNREADABLE_HOLDERS: Self = Self::Unreadable("the shared holders of the lock");

    /// Classifies what the driver reports about a command.
    pub(crate) fn driver(error: DriverError) -> Self {
        let details = error.details();
        if code(details).is_some() {
            return Self::Refused(error);
        }
        if NOT_SENT.iter().any(|text| details.starts_with(text)) {
            return Self::NotSent(error);
        }
        match error.kind() {
            DriverKind::Timeout => Self::TimedOut(error),
            DriverKind::Config | DriverKind::Url => Self::Config(details.to_owned()),
            _ => Self::Broken(error),
        }
    }

    /// Classifies what the driver reports about a connection that it could not open.
    pub(crate) fn connecting(error: DriverError) -> Self {
        match Self::driver(error) {
            Self::NotSent(error) | Self::TimedOut(error) | Self::Broken(error) => {
                Self::Connecting(error)
            }
            other => other,
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
        let (kind, effect) = self.classify();
        let source = match self {
            Self::Core(error) => return error,
            Self::Connecting(source)
            | Self::NotSent(source)
            | Self::TimedOut(source)
            | Self::Broken(source)
            | Self::Refused(source) => Some(source),
            _ => None,
        };
        let mut error = Error::new(kind).with_detail(detail);
        if let Some(source) = source {
            error = error.with_source(source);
        }
        error.with_effect(effect)
    }

    /// Returns whether a server refused a script because its slot is being moved, and some of its
    /// keys exist where others do not.
    pub(crate) fn is_for_missing_keys(&self) -> bool {
        matches!(self, Self::Refused(error) if code(error.details()) == Some("TRYAGAIN"))
    }

    /// Returns whether the request may have changed something.
    pub(crate) fn effect(&self) -> Effect {
        self.classify().1
    }

    fn classify(&self) -> (ErrorKind, Effect) {
        match self {
            Self::Core(error) => (error.kind(), Effect::NotApplied),
            Self::Config(_) => (ErrorKind::InvalidArgument, Effect::NotApplied),
            Self::Abandoned => (ErrorKind::Aborted, Effect::NotApplied),
            Self::FenceLimit | Self::Unreadable(_) => (ErrorKind::Internal, Effect::NotApplied),
            Self::Garbled(_) => (ErrorKind::Internal, Effect::MayHaveApplied),
            Self::Replicas { effect, .. } | Self::Uncounted { effect, .. } => {
                (ErrorKind::ServiceUnavailable, *effect)
            }
            Self::NoRuntime => (ErrorKind::Internal, Effect::NotApplied),
            Self::Ended(effect) => (ErrorKind::Internal, *effect),
            Self::Unattended(_) => (ErrorKind::NetworkTimeout, Effect::MayHaveApplied),
            Self::Unconnected(_) | Self::Unsent(_) | Self::Connecting(_) | Self::NotSent(_) => {
                (ErrorKind::ServiceUnavailable, Effect::NotApplied)
            }
            Self::TimedOut(_) => (ErrorKind::NetworkTimeout, Effect::MayHaveApplied),
            Self::Broken(_) => (ErrorKind::ServiceUnavailable, Effect::MayHaveApplied),
            Self::Refused(error) => classify_reply(error.details()),
        }
    }
}

/// Classifies the error replies of a server by their first word.
///
/// A script that fails has written nothing: the server refuses it at the first write, and every
/// script reads before it writes.
///
/// Four replies leave the outcome open nevertheless. They make the driver reconnect, and it answers
/// *every* command that was in flight on the connection with the reply to the first: a command
/// behind it may have been carried out, for example by a server that had just finished loading.
fn classify_reply(details: &str) -> (ErrorKind, Effect) {
    match code(details).unwrap_or_default() {
        "NOAUTH" | "WRONGPASS" | "NOPERM" => (ErrorKind::AuthFailed, Effect::NotApplied),
        "READONLY" | "LOADING" | "MASTERDOWN" | "CLUSTERDOWN" => {
            (ErrorKind::ServiceUnavailable, Effect::MayHaveApplied)
        }
        "OOM" | "TRYAGAIN" | "BUSY" | "MISCONF" | "NOREPLICAS" | "MOVED" | "ASK" => {
            (ErrorKind::ServiceUnavailable, Effect::NotApplied)
        }
        "ERR" if details.contains("can't run this command") || details.contains("ACL failure") => {
            (ErrorKind::AuthFailed, Effect::NotApplied)
        }
        "ERR" if details.contains("max number of clients") => {
            (ErrorKind::ServiceUnavailable, Effect::NotApplied)
        }
        "WRONGTYPE" | "CROSSSLOT" | "NOSCRIPT" => (ErrorKind::Internal, Effect::NotApplied),
        "ERR" if SCRIPT_ERRORS.iter().any(|text| details.contains(text)) => {
            (ErrorKind::Internal, Effect::NotApplied)
        }
        // A proxy may have forwarded the request before it failed.
        _ => (ErrorKind::Internal, Effect::MayHaveApplied),
    }
}

/// Returns the code that begins a server's error reply. The driver's own messages begin with a word
/// in lower case.
fn code(details: &str) -> Option<&str> {
    let word = details.split_whitespace().next()?;
    let shouts = word.len() > 2 && word.bytes().all(|byte| byte.is_ascii_uppercase());
    shouts.then_some(word)
}

/// Returns what the driver reports, without the form for programmers that it gives to errors of the
/// operating system: `Os { code: 111, kind: ConnectionRefused, message: "Connection refused" }`.
fn reason(error: &DriverError) -> &str {
    let details = error.details();
    let quoted = ["message: \"", "error: \""].iter().find_map(|name| details.split_once(name));
    let quoted = quoted.and_then(|(_, rest)| rest.split_once('"'));
    quoted.map_or(details, |(text, _)| text).trim_end_matches('.')
}

/// Explains a reply in our own words if they are clearer, and quotes it otherwise. No reply of a
/// server quotes the name of a key.
fn explain(details: &str) -> String {
    let explanation = match code(details).unwrap_or_default() {
        "OOM" => "the server has used up its memory",
        "READONLY" => "the server is a replica",
        "LOADING" => "the server is loading its data",
        "MASTERDOWN" => "the replica has lost its primary",
        "CLUSTERDOWN" => "the cluster is down",
        "TRYAGAIN" | "MOVED" | "ASK" => "the slot of the lock is being moved",
        "BUSY" => "the server is busy with a script",
        "MISCONF" => "the server cannot write its snapshot",
        "NOREPLICAS" => "the server has too few replicas",
        "CROSSSLOT" => "the server is part of a cluster; use a redis-cluster:// address",
        "WRONGTYPE" => "something else is stored under a name of the lock",
        _ => return details.to_owned(),
    };
    explanation.to_owned()
}

#[cfg(test)]
mod tests {
    use fred::error::{Error as DriverError, ErrorKind as DriverKind};
    use syncguard_core::ErrorKind;

    use super::Failure;

    fn classified(kind: DriverKind, details: &'static str) -> (ErrorKind, bool) {
        let failure = Failure::driver(DriverError::new(kind, details));
        let error = failure.into_error();
        (error.kind(), error.may_have_applied())
    }

    #[test]
    fn what_the_server_refused_changed_nothing() {
        for (details, kind) in [
            ("NOAUTH Authentication required.", ErrorKind::AuthFailed),
            ("WRONGPASS invalid username-password pair", ErrorKind::AuthFailed),
            ("NOPERM this user has no permissions", ErrorKind::AuthFailed),
            ("ERR The user executing the script can't run this command", ErrorKind::AuthFailed),
            (
                "OOM command not allowed when used memory > 'maxmemory'.",
                ErrorKind::ServiceUnavailable,
            ),
            ("BUSY Redis is busy running a script.", ErrorKind::ServiceUnavailable),
            ("TRYAGAIN Multiple keys request", ErrorKind::ServiceUnavailable),
            ("MISCONF Redis is configured to save", ErrorKind::ServiceUnavailable),
            ("WRONGTYPE Operation against a key", ErrorKind::Internal),
            ("ERR value is not an integer or out of range", ErrorKind::Internal),
        ] {
            assert_eq!(classified(DriverKind::Unknown, details), (kind, false), "{details}");
        }
    }

    #[test]
    fn errors_of_the_operating_system_are_readable() {
        use std::io;

        let refused = io::Error::from_raw_os_error(111);
        let unknown = io::Error::other("failed to lookup address information");
        for (error, text) in [
            (refused, "could not connect: Connection refused"),
            (unknown, "could not connect: failed to lookup address information"),
        ] {
            let error = Failure::connecting(DriverError::from(error)).into_error();
            assert_eq!(error.to_string(), format!("the store is unavailable: {text}"));
        }
        let timeout = DriverError::new(DriverKind::Timeout, "Request timed out.");
        assert!(Failure::driver(timeout).to_string().ends_with(": Request timed out"));
    }

    #[test]
    fn replies_that_the_driver_gives_to_all_commands_on_their_way_leave_the_outcome_open() {
        for details in ["READONLY You can't", "LOADING Redis is", "CLUSTERDOWN Hash slot"] {
            let classified = classified(DriverKind::Unknown, details);
            assert_eq!(classified, (ErrorKind::ServiceUnavailable, true), "{details}");
        }
    }

    #[test]
    fn what_was_not_sent_changed_nothing_and_what_was_lost_may_have() {
        for (kind, details, expected) in [
            (
                DriverKind::Unknown,
                "Failed to route command.",
                (ErrorKind::ServiceUnavailable, false),
            ),
            (
                DriverKind::Unknown,
                "Too many failed write attempts.",
                (ErrorKind::ServiceUnavailable, false),
            ),
            (DriverKind::Timeout, "Request timed out.", (ErrorKind::NetworkTimeout, true)),
            (DriverKind::IO, "Connection closed.", (ErrorKind::ServiceUnavailable, true)),
            (DriverKind::Canceled, "Canceled.", (ErrorKind::ServiceUnavailable, true)),
        ] {
            assert_eq!(classified(kind, details), expected, "{details}");
        }
    }
}
