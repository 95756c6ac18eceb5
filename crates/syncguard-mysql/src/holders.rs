//! Reading the holders of a shared key.

use std::num::NonZeroU32;

use serde_json::{Map, Value};
use sqlx::mysql::MySqlRow;
use syncguard_core::{
    Fence, Owner, Timestamp,
    backend::{Announcement, Mode, SharedHolder, SharedHolders},
};

use crate::{
    error::Failure,
    row::{lock_id, value},
};

/// What the names of the holders begin with. Without it, MariaDB cannot read a path to an id that
/// begins with a hyphen.
const NAME_PREFIX: &str = "id:";

/// Reads the holders from a row, live or not. Returns `None` if the row is not shared.
pub(crate) fn holders(row: &MySqlRow) -> Result<Option<SharedHolders>, Failure> {
    announced_holders(row, None)
}

/// Reads the holders from a row, live or not, beside what is announced. Returns `None` if the row is
/// not shared.
pub(crate) fn announced_holders(
    row: &MySqlRow,
    announcement: Option<Announcement>,
) -> Result<Option<SharedHolders>, Failure> {
    let Some(text) = value::<Option<&str>>(row, "holders")? else {
        return Ok(None);
    };
    let permits = value::<Option<u32>>(row, "permits")?;
    let permits =
        permits.map(|permits| NonZeroU32::new(permits).ok_or(Failure::Unreadable("permits")));
    let mode = Mode::Shared { permits: permits.transpose()? };
    let holders = parse(text).ok_or(Failure::Unreadable("holders"))?;
    Ok(Some(SharedHolders::restore(mode, holders, announcement)))
}

/// Reads the announcement that stands for a key from its row.
pub(crate) fn announcement(row: &MySqlRow) -> Result<Option<Announcement>, Failure> {
    let Some(until) = value::<Option<i64>>(row, "announced_until_ms")? else {
        return Ok(None);
    };
    let lock_id = lock_id(row, "announced_id").ok_or(Failure::Unreadable("announcement"))?;
    Ok(Some(Announcement { lock_id, until: Timestamp::from_unix_millis(until) }))
}

/// Reads holders as `share.sql` writes them: an object with an object for each id.
fn parse(text: &str) -> Option<Vec<SharedHolder>> {
    let holders: Map<String, Value> = serde_json::from_str(text).ok()?;
    // A head has holders.
    (!holders.is_empty()).then(|| holders.iter().map(holder).collect())?
}

fn holder((lock_id, holder): (&String, &Value)) -> Option<SharedHolder> {
    let time = |name: &str| holder.get(name)?.as_i64().map(Timestamp::from_unix_millis);
    Some(SharedHolder {
        lock_id: lock_id.strip_prefix(NAME_PREFIX)?.parse().ok()?,
        fence: Fence::new(holder.get("fence")?.as_u64()?).ok()?,
        // It is for people to see, so one that cannot be shown is left out.
        owner: holder.get("owner").and_then(Value::as_str).and_then(|label| Owner::new(label).ok()),
        acquired_at: time("acquired_at_ms")?,
        expires_at: time("expires_at_ms")?,
    })
}
