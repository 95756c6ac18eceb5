//! Durations as users write them.

use std::time::Duration;

use syncguard::backend::RetireRequest;

/// The word for a wait without a limit.
pub(super) const FOREVER: &str = "forever";

/// Parses how long to wait: a duration, or `forever`.
pub(super) fn wait(text: &str) -> Result<Duration, String> {
    if text == FOREVER { Ok(Duration::MAX) } else { any(text) }
}

pub(super) fn positive(text: &str) -> Result<Duration, String> {
    let duration = any(text)?;
    if duration.is_zero() {
        return Err("it must be greater than zero".to_owned());
    }
    Ok(duration)
}

/// Parses how long a fence counter must not have been used.
pub(super) fn retirement_age(text: &str) -> Result<Duration, String> {
    let duration = any(text)?;
    if duration < RetireRequest::MIN_UNUSED_FOR {
        return Err("it must be at least 24h".to_owned());
    }
    Ok(duration)
}

fn any(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| error.to_string())
}
