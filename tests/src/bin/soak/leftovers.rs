use std::{
    io::Write,
    thread::sleep,
    time::{Duration, Instant},
};

use crate::Outcome;

/// How long it may take until nothing is left over: not for as long as a client that has not left
/// the line stays there, nor for the ttl of a lock.
const MAX_TIME: Duration = Duration::from_secs(30);
const INTERVAL: Duration = Duration::from_millis(50);

/// Something that is left over.
pub(crate) struct Left {
    pub(crate) count: i64,
    pub(crate) what: String,
}

/// Returns a leftover, `None` if its number is zero.
pub(crate) fn left(count: impl TryInto<i64>, what: &str) -> Option<Left> {
    let count = count.try_into().unwrap_or(i64::MAX);
    (count > 0).then(|| Left { count, what: what.to_owned() })
}

/// Looks for leftovers until there are none, for a bounded time. Returns those that remain.
pub(crate) fn when_quiet(
    place: &str,
    mut look: impl FnMut() -> Outcome<Vec<Left>>,
) -> Outcome<Vec<Left>> {
    let begun = Instant::now();
    loop {
        let seen = look()?;
        let (is_quiet, time) = (seen.is_empty(), begun.elapsed());
        if is_quiet {
            writeln!(std::io::stdout(), "  {place} is quiet after {} ms", time.as_millis())?;
        }
        if is_quiet || time > MAX_TIME {
            return Ok(seen);
        }
        sleep(INTERVAL);
    }
}
