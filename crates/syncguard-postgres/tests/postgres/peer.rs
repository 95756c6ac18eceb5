//! A TypeScript client on the tables of a test.

use std::time::Duration;

use syncguard_testkit::typescript::PostgresPeer;

use crate::{Foreign, Names};

/// The ttl of its grants.
const TTL: Duration = Duration::from_millis(20);

fn peer(names: &Names) -> PostgresPeer<'_> {
    PostgresPeer { locks: &names.locks, counters: &names.counters, ttl: TTL }
}

/// Acquires a key. Returns the fence and the end of the grant.
pub(crate) async fn typescript_acquire(
    foreign: &mut Foreign,
    names: &Names,
    text: &str,
    id: &str,
) -> Option<(u64, i64)> {
    let (fence, expires) = peer(names).acquire(foreign, text, id).await?;
    Some((u64::try_from(fence).unwrap(), expires))
}

/// Extends a grant. Returns its end, or `None` if it is not live.
pub(crate) async fn typescript_extend(
    foreign: &mut Foreign,
    names: &Names,
    id: &str,
) -> Option<i64> {
    peer(names).extend(foreign, id).await
}

/// Releases a grant. Returns whether it was live.
pub(crate) async fn typescript_release(foreign: &mut Foreign, names: &Names, id: &str) -> bool {
    peer(names).release(foreign, id).await
}
