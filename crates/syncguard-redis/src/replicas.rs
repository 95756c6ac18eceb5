//! Whether enough replicas have a write for it to count.

use syncguard_core::backend::Effect;

use crate::{
    client::Client,
    error::Failure,
    options::{Options, Replicas},
};

/// How many replicas have a write, if that was requested.
pub(crate) type ReplicaCount = Option<Result<i64, Failure>>;

/// Returns an error if the number of replicas was requested and too few have the write.
///
/// The write was answered, so it was applied. Whatever failed since, the outcome is unknown.
pub(crate) fn too_few(
    options: &Options,
    what: &'static str,
    counted: ReplicaCount,
) -> Option<Failure> {
    let wanted = options.replicas?.count;
    let effect = Effect::MayHaveApplied;
    match counted {
        Some(Ok(acknowledged)) if acknowledged >= i64::from(wanted) => None,
        Some(Ok(acknowledged)) => Some(Failure::Replicas { what, acknowledged, wanted, effect }),
        Some(Err(cause)) => Some(Failure::Uncounted { what, cause: Box::new(cause), effect }),
        None => Some(Failure::Garbled(what)),
    }
}

/// Checks on connecting whether the user may wait for replicas. Otherwise each grant would be
/// stored, rejected and released.
///
/// # Errors
///
/// Returns the server's reply. That the server is a replica itself is not checked here.
pub(crate) async fn check_wait_permission(
    client: &Client,
    replicas: Option<Replicas>,
) -> Result<(), Failure> {
    if replicas.is_none() {
        return Ok(());
    }
    // No replica has to acknowledge, so this does not wait.
    match client.everywhere("WAIT", &["0", "1"]).await {
        Err(Failure::Refused(error)) if error.details().contains("replica instances") => Ok(()),
        other => other.map(drop),
    }
}
