use std::time::Duration;

use humantime::format_duration;

/// Reports that a value breaks its rule.
///
/// `Display` names the value and the rule in one lower-case line. A key is described by its length,
/// never by its text. The error converts into an [`Error`](crate::Error) of the kind
/// [`InvalidArgument`](crate::ErrorKind::InvalidArgument).
///
/// # Examples
///
/// ```
/// use syncguard_core::{Error, ErrorKind, LockKey};
///
/// let invalid = LockKey::new("").unwrap_err();
/// assert!(invalid.to_string().contains("1 to 512 bytes"));
/// assert_eq!(Error::from(invalid).kind(), ErrorKind::InvalidArgument);
/// ```
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct InvalidValue(#[from] Invalid);

/// Which rule a value breaks.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Invalid {
    #[error("lock key is empty; it must have 1 to 512 bytes of UTF-8 after NFC normalisation")]
    EmptyKey,
    #[error("lock key has {0} bytes after NFC normalisation; the limit is 512")]
    LongKey(usize),
    #[error("the set of keys is empty; it must have 1 to {limit} keys")]
    NoKeys { limit: usize },
    #[error("the set has more than {limit} different keys; it must have 1 to {limit} keys")]
    ManyKeys { limit: usize },
    #[error("the key is none of the {0} keys of the set; it must be one that was locked with it")]
    ForeignKey(usize),
    #[error("lock id has {0} characters; it must have 22 of base64url")]
    LockIdLength(usize),
    #[error("lock id has the character {0:?}; it must have 22 of base64url (A-Z a-z 0-9 - _)")]
    LockIdCharacter(char),
    #[error("fence {0} is above the format's limit of 999999999999999")]
    LargeFence(u64),
    #[error("fence {0:?} is not 15 decimal digits")]
    FenceText(String),
    #[error("ttl {} is not a positive whole number of milliseconds", format_duration(*.0))]
    FractionalTtl(Duration),
    #[error("ttl {0:?} is longer than 3650 days")]
    LongTtl(Duration),
    #[error("ttl {text:?} is not a duration such as 30s, 10m or 1h30m: {reason}")]
    TtlText { text: String, reason: humantime::DurationError },
    #[error(
        "min_hold {min_hold:?} is longer than the {limit} of {value:?}, which ends the lock first"
    )]
    LongMinHold { min_hold: Duration, limit: &'static str, value: Duration },
    #[error("permits is 0; a semaphore must have at least one")]
    NoPermits,
    #[error("owner label is empty; it must have 1 to 255 bytes of UTF-8")]
    EmptyOwner,
    #[error("owner label has {0} bytes; the limit is 255")]
    LongOwner(usize),
    #[error("owner label has the control character {0:?}; it must be printable text")]
    OwnerCharacter(char),
    #[error(
        "key prefix of {prefix} bytes leaves no room for a key of at most {limit} bytes with {reserve} reserved"
    )]
    LongPrefix { prefix: usize, limit: usize, reserve: usize },
    #[error("the key of display hashes is already set to another value; a process has only one")]
    HashKey,
}
