//! A lock as the program shows it.

use std::{fmt::Write, num::NonZeroU32, time::Duration};

use serde::Serialize;
use syncguard::{
    Fence, Holder, LockKey, Owner, Timestamp,
    backend::{Grant, LockRecord},
};

use crate::display;

/// Describes the holders of a lock, each shared one on a line of its own.
pub(crate) fn text(record: &LockRecord, grace: Duration) -> String {
    let age = |acquired_at| display::duration(record.observed_at.since(acquired_at));
    let holder = record.holder(grace);
    let mut text = format!("{holder}, acquired {} ago", age(record.acquired_at));
    for shared in &record.holders {
        let grant = Grant { fence: shared.fence, expires_at: shared.expires_at };
        let holder = Holder::new(grant, shared.owner.clone(), record.observed_at, grace);
        let _ = write!(text, "\n  {holder}, acquired {} ago", age(shared.acquired_at));
    }
    text
}

/// Describes the lock on `key`, or that there is none, as one JSON object.
pub(crate) fn json(key: &LockKey, record: Option<&LockRecord>) -> String {
    // Text and numbers are serialised without an error.
    display::json(&serde_json::to_string(&Answer::new(key, record)).unwrap_or_default())
}

/// What `--json` prints. Times are Unix milliseconds on the store's clock.
#[derive(Serialize)]
struct Answer<'a> {
    locked: bool,
    key: &'a LockKey,
    #[serde(flatten)]
    holder: Option<HolderAnswer<'a>>,
}

#[derive(Serialize)]
struct HolderAnswer<'a> {
    mode: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    permits: Option<NonZeroU32>,
    #[serde(flatten)]
    grant: GrantAnswer<'a>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    holders: Vec<GrantAnswer<'a>>,
}

/// A grant, or the head of several.
#[derive(Serialize)]
struct GrantAnswer<'a> {
    owner: Option<&'a Owner>,
    fence: Fence,
    remaining_ms: u128,
    acquired_at_ms: Timestamp,
    expires_at_ms: Timestamp,
}

impl<'a> Answer<'a> {
    fn new(key: &'a LockKey, record: Option<&'a LockRecord>) -> Self {
        let holder = record.map(|record| HolderAnswer {
            mode: record.mode.as_str(),
            permits: record.mode.permits(),
            grant: GrantAnswer {
                owner: record.owner.as_ref(),
                fence: record.fence,
                remaining_ms: record.remaining().as_millis(),
                acquired_at_ms: record.acquired_at,
                expires_at_ms: record.expires_at,
            },
            holders: record
                .holders
                .iter()
                .map(|holder| GrantAnswer {
                    owner: holder.owner.as_ref(),
                    fence: holder.fence,
                    remaining_ms: holder.expires_at.since(record.observed_at).as_millis(),
                    acquired_at_ms: holder.acquired_at,
                    expires_at_ms: holder.expires_at,
                })
                .collect(),
        });
        Self { locked: record.is_some(), key, holder }
    }
}
