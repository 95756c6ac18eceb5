use std::time::Duration;

use crate::Outcome;

/// Returns a random one of `choices`.
pub(crate) fn one_of<T>(choices: &[T]) -> Outcome<&T> {
    Ok(choices.get(random_below(choices.len())?).ok_or("there is no choice")?)
}

/// Returns a random duration below `limit`, in whole milliseconds.
pub(crate) fn millis_below(limit: Duration) -> Outcome<Duration> {
    let millis = random_below(usize::try_from(limit.as_millis())?)?;
    Ok(Duration::from_millis(u64::try_from(millis)?))
}

/// Returns a random number below `limit`.
pub(crate) fn random_below(limit: usize) -> Outcome<usize> {
    Ok(usize::try_from(getrandom::u64()? % u64::try_from(limit.max(1))?)?)
}
