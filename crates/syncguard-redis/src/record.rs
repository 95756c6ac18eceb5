//! The stored record of a lock.

use std::{num::NonZeroU32, time::Duration};

use serde::Deserialize;
use serde_json::Value;
use syncguard_core::{
    Fence, Holder, LockId, LockKey, Owner, Timestamp,
    backend::{Grant, LockRecord, Mode},
};

use crate::error::Failure;

/// The maximum difference between two readings of the server's clock in one script.
const MAX_CLOCK_SKEW: Duration = Duration::from_millis(20);

/// The value under a lock's name, whichever client wrote it. Unknown members are skipped.
///
/// The numbers are read as floating point because Lua's `cjson` may write them as `1.7e+12`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Stored {
    lock_id: String,
    expires_at_ms: f64,
    acquired_at_ms: f64,
    key: String,
    fence: String,
    /// Written by this crate only, so whatever else a peer stores under this name does not make the
    /// record unreadable.
    #[serde(default)]
    owner: Option<Value>,
    /// The number of permits, or zero, if the record stands for shared holders. The scripts
    /// recognise such a record by this member, which comes first, and return it in a form of its
    /// own.
    #[serde(default)]
    shared: Option<Value>,
}

/// Writes the head of every record of an id, up to the number of its expiry. A script that finds a
/// record with this head knows its owner without reading on.
pub(crate) fn head(id: LockId) -> String {
    [r#"{"lockId":""#, id.as_str(), r#"","expiresAtMs":"#].concat()
}

/// Writes the end of a record, after the members that the script writes: the key, the owner, and
/// the closing brace. Because it is escaped here, the script only needs to concatenate.
pub(crate) fn tail(key: &LockKey, owner: Option<&Owner>) -> String {
    let key = quoted(key.as_str());
    match owner {
        Some(owner) => [r#""key":"#, &key, r#","owner":"#, &quoted(owner.as_str()), "}"].concat(),
        None => [r#""key":"#, &key, "}"].concat(),
    }
}

/// Writes text as a JSON string.
pub(crate) fn quoted(text: &str) -> String {
    // Only types with non-string keys or failing members cannot be written.
    serde_json::to_string(text).unwrap_or_default()
}

impl Stored {
    pub(crate) fn parse(json: &str) -> Result<Self, Failure> {
        let stored: Option<Self> = serde_json::from_str(json).ok();
        stored.filter(Self::has_whole_times).ok_or(Failure::UNREADABLE_RECORD)
    }

    fn has_whole_times(&self) -> bool {
        [self.expires_at_ms, self.acquired_at_ms].iter().all(|time| time.fract() == 0.0)
    }

    pub(crate) fn expires_at(&self) -> Timestamp {
        timestamp(self.expires_at_ms)
    }

    pub(crate) fn grant(&self) -> Result<Grant, Failure> {
        Ok(Grant { fence: self.fence()?, expires_at: self.expires_at() })
    }

    /// Reports to a contender what can be read. Contention is contention even with a malformed
    /// record.
    ///
    /// `kept_for` is how many milliseconds the server still keeps the record, which is when the key
    /// becomes free. A peer may use another grace than `grace`. Otherwise the two agree except for
    /// the milliseconds between two readings of the clock, and the record's own numbers are shown.
    ///
    /// A record without an owner was not written by the lock layer, which always names one.
    /// TypeScript writes such records and publishes no release, so the holder counts as silent.
    pub(crate) fn holder(&self, now: Timestamp, kept_for: i64, grace: Duration) -> Holder {
        let fence = self.fence().ok();
        let grant = Grant { fence: fence.unwrap_or(Fence::ZERO), expires_at: self.expires_at() };
        let mut holder = Holder::new(grant, self.owner(), now, grace);
        holder.fence = fence;
        if self.owner.is_none() {
            holder = holder.silent();
        }
        let kept_for = u64::try_from(kept_for).ok().map(Duration::from_millis);
        if let (Some(kept_for), Some(free_in)) = (kept_for, holder.free_in)
            && kept_for.abs_diff(free_in) > MAX_CLOCK_SKEW
        {
            holder.free_in = Some(kept_for);
        }
        holder
    }

    pub(crate) fn into_record(self, observed_at: Timestamp) -> Result<LockRecord, Failure> {
        Ok(LockRecord {
            mode: Mode::Exclusive,
            holders: Vec::new(),
            key: self.key()?,
            lock_id: self.id()?,
            fence: self.fence()?,
            owner: self.owner(),
            acquired_at: timestamp(self.acquired_at_ms),
            expires_at: self.expires_at(),
            observed_at,
        })
    }

    pub(crate) fn lock_id(&self) -> &str {
        &self.lock_id
    }

    pub(crate) fn key(&self) -> Result<LockKey, Failure> {
        LockKey::new(&self.key).map_err(|_| Failure::Unreadable("the key of the lock"))
    }

    pub(crate) fn id(&self) -> Result<LockId, Failure> {
        self.lock_id.parse().map_err(|_| Failure::Unreadable("the id of the lock"))
    }

    pub(crate) fn fence(&self) -> Result<Fence, Failure> {
        self.fence.parse().map_err(|_| Failure::Unreadable("the fence of the lock"))
    }

    /// Returns the mode of a record that stands for shared holders.
    pub(crate) fn mode(&self) -> Option<Mode> {
        let permits = u32::try_from(self.shared.as_ref()?.as_u64()?).ok()?;
        Some(Mode::Shared { permits: NonZeroU32::new(permits) })
    }

    fn owner(&self) -> Option<Owner> {
        owner_of(self.owner.as_ref())
    }
}

/// Reads a label. Whatever else a peer stores in its place is no label.
pub(crate) fn owner_of(stored: Option<&Value>) -> Option<Owner> {
    Owner::new(stored?.as_str()?).ok()
}

#[expect(clippy::cast_possible_truncation, reason = "milliseconds are whole and fit by far")]
fn timestamp(millis: f64) -> Timestamp {
    Timestamp::from_unix_millis(millis as i64)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use syncguard_core::{LockKey, Owner, Timestamp};

    use super::{Stored, tail};

    #[test]
    fn the_text_of_a_key_or_an_owner_cannot_escape_its_json_string() {
        let key = LockKey::new("a\",\"fence\":\"9\\\u{0}\n").unwrap();
        let owner = Owner::new("\",\"lockId\":\"x").unwrap();
        let head = r#"{"lockId":"i","expiresAtMs":2,"acquiredAtMs":1,"fence":"000000000000007","#;
        let stored = Stored::parse(&format!("{head}{}", tail(&key, Some(&owner)))).unwrap();
        assert_eq!((stored.lock_id.as_str(), stored.key.as_str()), ("i", key.as_str()));
        assert_eq!(stored.grant().unwrap().fence.number(), 7);
        assert_eq!(stored.owner(), Some(owner));
    }

    #[test]
    fn a_holder_with_another_grace_is_reported_with_the_time_at_which_its_key_is_free() {
        let head =
            r#"{"lockId":"i","expiresAtMs":5000,"acquiredAtMs":1,"fence":"000000000000007","#;
        let key = LockKey::new("k").unwrap();
        let stored = Stored::parse(&format!("{head}{}", tail(&key, None))).unwrap();
        let (now, ms) = (Timestamp::from_unix_millis(3_000), Duration::from_millis);
        for (kept_for, free_in) in [(3_000, 3_000), (2_999, 3_000), (2_000, 2_000), (-1, 3_000)] {
            let holder = stored.holder(now, kept_for, ms(1_000));
            assert_eq!((holder.remaining, holder.free_in), (Some(ms(2_000)), Some(ms(free_in))));
        }
    }

    #[test]
    fn a_holder_whose_record_names_no_owner_is_silent() {
        let (key, now) = (LockKey::new("k").unwrap(), Timestamp::from_unix_millis(3_000));
        let owner = Owner::new("web-3").unwrap();
        let head =
            r#"{"lockId":"i","expiresAtMs":5000,"acquiredAtMs":1,"fence":"000000000000007","#;
        for (owner, silent) in [(Some(&owner), false), (None, true)] {
            let stored = Stored::parse(&format!("{head}{}", tail(&key, owner))).unwrap();
            assert_eq!(stored.holder(now, 2_000, Duration::ZERO).silent, silent);
        }
    }

    #[test]
    fn a_record_with_any_order_number_format_and_unknown_members_is_read() {
        let json = r#"{"x":{"lockId":"no"},"fence":"000000000000001","key":"k","acquiredAtMs":1.7e+12,
                       "lockId":"i","expiresAtMs":1700000000500,"y":[1]}"#;
        let stored = Stored::parse(json).unwrap();
        assert_eq!(stored.expires_at(), Timestamp::from_unix_millis(1_700_000_000_500));
        assert_eq!(super::timestamp(stored.acquired_at_ms).unix_millis(), 1_700_000_000_000);
    }

    #[test]
    fn an_invalid_owner_leaves_the_record_readable() {
        for owner in ["7", "null", "[1]", "{}", r#""""#, r#""a\u0000""#] {
            let json = format!(
                r#"{{"lockId":"i","expiresAtMs":2,"acquiredAtMs":1,"fence":"000000000000007","key":"k","owner":{owner}}}"#
            );
            let stored = Stored::parse(&json).unwrap();
            assert_eq!(stored.owner(), None, "{owner}");
            assert_eq!(stored.grant().unwrap().fence.number(), 7);
        }
    }
}
