//! Looking up.

use syncguard_core::{Capabilities, LockId, LockQuery, LockRecord, Timestamp};

use crate::{
    client::Reply, error::Failure, layout::LockName, record::Stored, script::LOOKUP, store::Store,
};

/// Reads a live lock.
pub(crate) async fn lookup(
    store: &Store,
    query: &LockQuery,
) -> Result<Option<LockRecord>, Failure> {
    match query {
        LockQuery::ByKey(key) => read(store, &store.layout.lock(key)?).await,
        LockQuery::ById(id) => {
            let Some(lock) = find(store, *id).await? else {
                return Ok(None);
            };
            let record = read(store, &lock).await?;
            Ok(record.filter(|record| record.lock_id == *id))
        }
    }
}

/// Asks the index for the lock of an id. It is a hint: who follows it makes sure of the owner.
pub(crate) async fn find(store: &Store, id: LockId) -> Result<Option<LockName>, Failure> {
    let reply = store.client.command("GET", &[&store.layout.index(id)]).await?;
    // Empty: the id was abandoned.
    let name = reply.text().filter(|name| !name.is_empty());
    Ok(name.map(|name| LockName::new(name.to_owned())))
}

async fn read(store: &Store, lock: &LockName) -> Result<Option<LockRecord>, Failure> {
    match store.client.run(&LOOKUP, &[lock.as_str()], &[]).await?.list() {
        [now, records] => live(now, records.list().first().unwrap_or(&Reply::Nil)),
        _ => Err(Failure::Garbled("a lookup")),
    }
}

/// Makes a record of the server's time and what is stored, if it is live.
pub(crate) fn live(now: &Reply, stored: &Reply) -> Result<Option<LockRecord>, Failure> {
    let now = now.integer().ok_or(Failure::Unreadable("the server's time"))?;
    let now = Timestamp::from_unix_millis(now);
    let stored = match stored {
        Reply::Nil => return Ok(None),
        stored => Stored::parse(stored.text().unwrap_or_default())?,
    };
    if !stored.expires_at().is_live(now, Capabilities::GRACE) {
        return Ok(None);
    }
    stored.into_record(now).map(Some)
}
