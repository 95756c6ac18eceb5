//! Random numbers for tests that do not repeat themselves.

use std::{io, time::Duration};

/// Returns a random number below `limit`, or zero if that is zero.
///
/// # Errors
///
/// If the operating system has no random numbers.
pub fn below(limit: usize) -> io::Result<usize> {
    let random = getrandom::u64().map_err(io::Error::other)?;
    Ok(usize::try_from(random % limit.max(1) as u64).unwrap_or_default())
}

/// Returns a random duration below `limit`, in whole milliseconds.
///
/// # Errors
///
/// As [`below`].
pub fn millis_below(limit: Duration) -> io::Result<Duration> {
    let millis = below(usize::try_from(limit.as_millis()).unwrap_or(usize::MAX))?;
    Ok(Duration::from_millis(millis as u64))
}

/// Returns a random one of `choices`.
///
/// # Errors
///
/// As [`below`], and if there are none.
pub fn one_of<T>(choices: &[T]) -> io::Result<&T> {
    choices.get(below(choices.len())?).ok_or_else(|| io::Error::other("there is no choice"))
}
