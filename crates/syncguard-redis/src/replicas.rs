//! Whether a write counts, by how many replicas have it.

use crate::{
    client::Client,
    error::{Effect, Failure},
    options::{Options, Replicas},
};

/// How many replicas have a write, where that was asked for.
pub(crate) type Counted = Option<Result<i64, Failure>>;

/// Says why a write does not count, unless enough replicas have it or that was not asked for.
///
/// The write was answered, so it stands: whatever went wrong since, the outcome is unknown.
pub(crate) fn too_few(options: &Options, what: &'static str, counted: Counted) -> Option<Failure> {
    let wanted = options.replicas?.count;
    let effect = Effect::Unknown;
    match counted {
        Some(Ok(acknowledged)) if acknowledged >= i64::from(wanted) => None,
        Some(Ok(acknowledged)) => Some(Failure::Replicas { what, acknowledged, wanted, effect }),
        Some(Err(cause)) => Some(Failure::Uncounted { what, cause: Box::new(cause), effect }),
        None => Some(Failure::Garbled(what)),
    }
}

/// Finds out on connecting whether the user may wait for replicas. Otherwise each grant would be
/// stored, found wanting and given back.
///
/// # Errors
///
/// What the server replied. That it is a replica itself is not this function's business.
pub(crate) async fn may_wait(client: &Client, replicas: Option<Replicas>) -> Result<(), Failure> {
    if replicas.is_none() {
        return Ok(());
    }
    // No replica has to acknowledge, so it does not wait.
    match client.everywhere("WAIT", &["0", "1"]).await {
        Err(Failure::Refused(error)) if error.details().contains("replica instances") => Ok(()),
        other => other.map(drop),
    }
}
