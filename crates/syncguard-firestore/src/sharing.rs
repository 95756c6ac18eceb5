//! A key in shared mode: the head in the common format, and the grants that it stands for.

use std::{collections::BTreeSet, num::NonZeroU32};

use syncguard_core::{
    Fence, LockId, LockKey, Timestamp,
    backend::{AcquireRequest, Announcement, Grant, LockRecord, Mode, SharedHolder, SharedHolders},
};

use crate::{
    client::{
        Document, Expect, Fields, Value, Write, array, integer, integer_of, map, map_of, text,
        text_of,
    },
    error::Failure,
    names::DocumentName,
};

/// The expiry of a head without holders, whose document keeps an announcement: in the past by every
/// client's clock.
const NEVER_HELD: Timestamp = Timestamp::from_unix_millis(0);

/// A key in shared mode, as its document contains it.
///
/// # What the document shows
///
/// The fields of the common format are the head. Its id was generated for the document, so that
/// no client extends or releases the head as a lock of its own; its expiry is that of the last
/// holder, so that a client that knows only exclusive locks is refused exactly as long as one of
/// them is live. [`fields`](Self::fields) computes it from the holders in every write.
///
/// **Invariant:** the holders in a document are those of its head. Every client replaces the whole
/// document when it grants the key exclusively, and deletes it when it releases the key, so no
/// holder outlives the head in it. What is written here is the whole document too.
///
/// **Invariant:** a live holder is in the document. Each change of the holders rests on the version
/// in which they were read: of two clients that change them at the same time, one is refused and
/// reads again.
#[derive(Clone, Debug)]
pub(crate) struct Sharing {
    /// The id of the head, which holds nothing.
    head: LockId,
    key: LockKey,
    /// The fence of the last grant, whether or not it is still held.
    fence: Fence,
    pub(crate) holders: SharedHolders,
}

impl Sharing {
    /// Begins to share a key, under a new head.
    pub(crate) fn new(key: LockKey) -> Result<Self, Failure> {
        let head = LockId::mint().map_err(Failure::NoRandomBytes)?;
        Ok(Self { head, key, fence: Fence::ZERO, holders: SharedHolders::default() })
    }

    /// Reads the holders of a document with this head, if it is that of a key in shared mode.
    ///
    /// A document that has only some of the fields, or in which they contradict each other, is not
    /// taken for one of either mode: a holder could be missing.
    pub(crate) fn parse(
        document: &Document,
        (head, key, fence): (LockId, &LockKey, Fence),
    ) -> Result<Option<Self>, Failure> {
        if !document.has("readers") && !document.has("readerIds") {
            return Ok(None);
        }
        let unreadable = |field| move || Failure::Unreadable(field);
        let readers = document.map("readers").and_then(|readers| {
            readers.iter().map(|(id, reader)| parse_reader(id, reader)).collect::<Option<Vec<_>>>()
        });
        let readers = readers.ok_or_else(unreadable("readers"))?;
        let ids: Option<BTreeSet<_>> =
            document.array("readerIds").and_then(|ids| ids.iter().map(text_of).collect());
        let expected: BTreeSet<_> = readers.iter().map(|reader| reader.lock_id.as_str()).collect();
        if ids.is_none_or(|ids| ids != expected) {
            return Err(Failure::Unreadable("readerIds"));
        }
        let permits = optional(document, "permits", || {
            NonZeroU32::new(u32::try_from(document.integer("permits")?).ok()?)
        })?;
        let announcement = optional(document, "announcement", || {
            parse_announcement(document.map("announcement")?)
        })?;
        let holders = SharedHolders::restore(Mode::Shared { permits }, readers, announcement);
        Ok(Some(Self { head, key: key.clone(), fence, holders }))
    }

    /// Returns the holder with this id, live or not.
    pub(crate) fn holder(&self, id: LockId) -> Option<&SharedHolder> {
        self.holders.holders().iter().find(|holder| holder.lock_id == id)
    }

    pub(crate) fn record(&self, observed_at: Timestamp) -> Option<LockRecord> {
        self.holders.record(self.key.clone(), self.head, observed_at)
    }

    /// Adds the grant of a request that was admitted at `now`. The holders that are not live then
    /// are removed: none that a grant has passed over is ever extended.
    pub(crate) fn grant(&mut self, request: &AcquireRequest, grant: Grant, now: Timestamp) {
        let holder = SharedHolder {
            expires_at: grant.expires_at,
            ..SharedHolder::new(
                request.lock_id,
                grant.fence,
                request.owner.clone(),
                request.ttl,
                now,
            )
        };
        self.holders.prune(now);
        self.holders.insert(holder, request.mode);
        self.fence = grant.fence;
    }

    /// Sets the expiry of the holder with this id, and removes the others that are not live.
    pub(crate) fn with_expiry(mut self, id: LockId, expires_at: Timestamp, now: Timestamp) -> Self {
        if let Some(holder) = self.holder(id).cloned() {
            self.holders.insert(SharedHolder { expires_at, ..holder }, self.holders.mode());
        }
        self.holders.prune(now);
        self
    }

    /// Removes the holder and the announcement of this id, and the holders that are not live.
    pub(crate) fn without(mut self, id: LockId, now: Timestamp) -> Self {
        self.holders.remove(id, now);
        self.holders.withdraw(id);
        self.holders.prune(now);
        self
    }

    /// Returns whether this id is that of a holder or of the announcement.
    pub(crate) fn names(&self, id: LockId) -> bool {
        let announcement = self.holders.announcement(NEVER_HELD);
        self.holder(id).is_some() || announcement.is_some_and(|by| by.lock_id == id)
    }

    /// Returns the write that stores this, or deletes the document if there is neither a holder nor
    /// an announcement.
    pub(crate) fn write(&self, document: &DocumentName, expect: Expect) -> Write {
        if self.holders.is_empty() {
            return Write::delete(document, expect);
        }
        Write::replace(document, self.fields(), expect)
    }

    fn fields(&self) -> Fields {
        let holders = self.holders.holders();
        let acquired_at = holders.iter().map(|holder| holder.acquired_at).min();
        let expires_at = self.holders.expires_at().unwrap_or(NEVER_HELD);
        let readers = holders.iter().map(|it| (it.lock_id.as_str().to_owned(), reader(it)));
        let mut fields: Fields = [
            ("lockId", text(self.head.as_str())),
            ("expiresAtMs", integer(expires_at.unix_millis())),
            ("acquiredAtMs", integer(acquired_at.unwrap_or(NEVER_HELD).unix_millis())),
            ("key", text(self.key.as_str())),
            ("fence", text(&self.fence.to_string())),
            ("readers", map(readers)),
            ("readerIds", array(holders.iter().map(|holder| text(holder.lock_id.as_str())))),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        if let Some(permits) = self.holders.mode().permits() {
            fields.insert("permits".to_owned(), integer(i64::from(permits.get())));
        }
        // One that is over was pruned, or keeps no one out.
        if let Some(announcement) = self.holders.announcement(NEVER_HELD) {
            fields.extend(announcement_fields(announcement));
        }
        fields
    }
}

/// Returns the field of an announcement.
pub(crate) fn announcement_fields(announcement: &Announcement) -> Fields {
    let fields = [
        ("lockId".to_owned(), text(announcement.lock_id.as_str())),
        ("untilMs".to_owned(), integer(announcement.until.unix_millis())),
    ];
    [("announcement".to_owned(), map(fields))].into()
}

fn reader(holder: &SharedHolder) -> Value {
    let owner = holder.owner.as_ref().map(|owner| ("owner", text(owner.as_str())));
    let fields = [
        ("fence", text(&holder.fence.to_string())),
        ("expiresAtMs", integer(holder.expires_at.unix_millis())),
        ("acquiredAtMs", integer(holder.acquired_at.unix_millis())),
    ];
    map(fields.into_iter().chain(owner).map(|(name, value)| (name.to_owned(), value)))
}

fn parse_reader(id: &str, reader: &Value) -> Option<SharedHolder> {
    let fields = map_of(reader)?;
    let time = |name| integer_of(fields.get(name)?).map(Timestamp::from_unix_millis);
    Some(SharedHolder {
        lock_id: id.parse().ok()?,
        fence: text_of(fields.get("fence")?)?.parse().ok()?,
        // No guarantee depends on it.
        owner: fields.get("owner").and_then(text_of).and_then(|owner| owner.parse().ok()),
        acquired_at: time("acquiredAtMs")?,
        expires_at: time("expiresAtMs")?,
    })
}

fn parse_announcement(fields: &Fields) -> Option<Announcement> {
    Some(Announcement {
        lock_id: text_of(fields.get("lockId")?)?.parse().ok()?,
        until: Timestamp::from_unix_millis(integer_of(fields.get("untilMs")?)?),
    })
}

/// Reads a field that may be absent.
fn optional<T>(
    document: &Document,
    field: &'static str,
    parse: impl FnOnce() -> Option<T>,
) -> Result<Option<T>, Failure> {
    if !document.has(field) {
        return Ok(None);
    }
    parse().map(Some).ok_or(Failure::Unreadable(field))
}
