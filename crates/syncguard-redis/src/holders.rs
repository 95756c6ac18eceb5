//! The stored form of shared holders: a record that stands for all of them, and a hash with a field
//! for each.

use std::num::NonZeroU32;

use serde::Deserialize;
use serde_json::Value;
use syncguard_core::{
    Fence, Holder, LockId, LockKey, Owner, Timestamp,
    backend::{Capabilities, Grant, LockRecord, Mode, SharedHolder, SharedHolders},
};

use crate::{
    client::Reply,
    error::Failure,
    record::{Stored, owner_of, quoted, tail},
};

/// The field of the hash that names the record to which it belongs.
const HEAD: &str = "head";

/// The fields of the hash that are not holders.
const OTHER_FIELDS: [&str; 4] = [HEAD, "firstMs", "last", "writer"];

/// The label of the record of all holders. Clients that do not know shared mode show it, and rely
/// on a notification because the record has one.
const SHARED_OWNER: &str = "shared holders";

/// The value of a holder's field.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct StoredHolder {
    expires_at_ms: i64,
    free_at_ms: i64,
    acquired_at_ms: i64,
    fence: String,
    #[serde(default)]
    owner: Option<Value>,
}

/// Writes the end of the record of all holders, after the members that the script writes.
pub(crate) fn head_tail(key: &LockKey) -> String {
    tail(key, Owner::new(SHARED_OWNER).ok().as_ref())
}

/// Writes the end of the value of a holder, after the members that the script writes: the owner, and
/// the closing brace.
pub(crate) fn holder_tail(owner: Option<&Owner>) -> String {
    match owner {
        Some(owner) => format!(r#","owner":{}}}"#, quoted(owner.as_str())),
        None => "}".to_owned(),
    }
}

/// Writes the number of permits as the scripts expect it: zero for any number of holders.
pub(crate) fn permits(mode: Mode) -> String {
    mode.permits().map_or(0, NonZeroU32::get).to_string()
}

/// Reads the grant that an id has already.
pub(crate) fn grant(value: &str) -> Option<Grant> {
    let holder = StoredHolder::parse(value)?;
    Some(Grant { fence: holder.fence.parse().ok()?, expires_at: at(holder.expires_at_ms) })
}

/// Describes the shared holders to a request that they or an announcement refuse until `free`.
/// Returns `None` if their record cannot be read. Contention is contention even then.
pub(crate) fn refusal(head: &str, now: Timestamp, count: i64, free: Timestamp) -> Option<Holder> {
    let head = Stored::parse(head).ok()?;
    let mut holder = Holder::default();
    holder.mode = head.mode()?;
    holder.count = usize::try_from(count).ok();
    holder.fence = head.fence().ok();
    holder.remaining = Some(head.expires_at().since(now));
    holder.free_in = Some(free.since(now));
    Some(holder)
}

/// Describes an announcement to a request that it refuses until `free` although no one holds the
/// key.
pub(crate) fn announced(mode: Mode, now: Timestamp, free: Timestamp) -> Holder {
    let mut holder = Holder::default();
    (holder.mode, holder.count, holder.free_in) = (mode, Some(0), Some(free.since(now)));
    holder
}

/// Builds a record from the server's time and the reply of a script about a lock, if it is live.
pub(crate) fn live(now: &Reply, stored: &Reply) -> Result<Option<LockRecord>, Failure> {
    let now = now.integer().ok_or(Failure::Unreadable("the server's time"))?;
    let now = Timestamp::from_unix_millis(now);
    let (stored, shared) = match (stored, stored.list()) {
        (Reply::Nil, _) => return Ok(None),
        (_, [head, holders]) => (head, Some(holders)),
        (stored, _) => (stored, None),
    };
    let stored = Stored::parse(stored.text().unwrap_or_default())?;
    if !stored.expires_at().is_live(now, Capabilities::GRACE) {
        return Ok(None);
    }
    match shared {
        None => stored.into_record(now).map(Some),
        Some(fields) => record(stored, fields, now),
    }
}

/// Builds the record of a lock from the record of all holders and the fields of the hash, if any
/// holder is live.
fn record(head: Stored, fields: &Reply, now: Timestamp) -> Result<Option<LockRecord>, Failure> {
    let unreadable = || Failure::UNREADABLE_HOLDERS;
    let pairs = || fields.list().chunks_exact(2);
    let is_of_head =
        |pair: &[Reply]| pair[0].text() == Some(HEAD) && pair[1].text() == Some(head.lock_id());
    if !pairs().any(is_of_head) {
        return Err(unreadable());
    }
    let mode = head.mode().ok_or_else(unreadable)?;
    let mut holders = Vec::new();
    for pair in pairs() {
        let (id, value) = (pair[0].text().unwrap_or_default(), pair[1].text().unwrap_or_default());
        if OTHER_FIELDS.contains(&id) {
            continue;
        }
        let stored = StoredHolder::parse(value).ok_or_else(unreadable)?;
        if at(stored.free_at_ms) > now {
            holders.push(stored.into_holder(id).ok_or_else(unreadable)?);
        }
    }
    let (key, lock_id) = (head.key()?, head.id()?);
    Ok(SharedHolders::restore(mode, holders, None).record(key, lock_id, now))
}

impl StoredHolder {
    fn parse(json: &str) -> Option<Self> {
        serde_json::from_str(json).ok()
    }

    fn into_holder(self, id: &str) -> Option<SharedHolder> {
        Some(SharedHolder {
            lock_id: id.parse::<LockId>().ok()?,
            fence: self.fence.parse::<Fence>().ok()?,
            owner: owner_of(self.owner.as_ref()),
            acquired_at: at(self.acquired_at_ms),
            expires_at: at(self.expires_at_ms),
        })
    }
}

fn at(millis: i64) -> Timestamp {
    Timestamp::from_unix_millis(millis)
}
