//! Every entry of the vectors that the TypeScript SyncGuard computed.

use std::time::Duration;

use serde::Deserialize;

use super::{Fence, KeyLayout, LockId, LockKey, Timestamp};
use crate::{Error, InvalidValue};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Vectors {
    storage_keys: Vec<StorageKey>,
    hashes: Vec<Hash>,
    fences: Vec<Parsed<String>>,
    keys: Vec<Parsed<String>>,
    lock_ids: Vec<Parsed<bool>>,
    live: Vec<Live>,
}

#[derive(Deserialize)]
struct StorageKey {
    prefix: String,
    key: String,
    limit: usize,
    reserve: usize,
    lock: Answer<String>,
    fence: Answer<String>,
}

#[derive(Deserialize)]
struct Hash {
    input: String,
    hash: String,
}

#[derive(Deserialize)]
struct Parsed<T> {
    input: String,
    #[serde(flatten)]
    answer: Answer<T>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Live {
    expires_at_ms: i64,
    now_ms: i64,
    tolerance_ms: u64,
    live: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Answer<T> {
    Ok(T),
    Error(String),
}

impl<T: PartialEq + std::fmt::Debug> Answer<T> {
    fn check(&self, ours: Result<T, InvalidValue>, of: &str) {
        match (self, ours) {
            (Self::Ok(theirs), Ok(ours)) => assert_eq!(*theirs, ours, "{of:?}"),
            (Self::Error(kind), Err(error)) => {
                assert_eq!(*kind, Error::from(error).kind().as_str());
            }
            (Self::Ok(theirs), Err(error)) => panic!("{of:?}: {theirs:?} there, {error} here"),
            (Self::Error(kind), Ok(ours)) => panic!("{of:?}: {kind} there, {ours:?} here"),
        }
    }
}

fn vectors() -> Vectors {
    serde_json::from_str(include_str!("../../testdata/core-vectors.json")).unwrap()
}

#[test]
fn storage_keys() {
    let entries = vectors().storage_keys;
    assert_eq!(entries.len(), 534);
    for entry in entries {
        let layout = KeyLayout::new(&entry.prefix, entry.limit, entry.reserve);
        let key = LockKey::new(&entry.key).unwrap();
        entry.lock.check(layout.lock_name(&key), &entry.key);
        entry.fence.check(layout.fence_name(&key), &entry.key);
    }
}

#[test]
fn display_hashes() {
    let entries = vectors().hashes;
    assert_eq!(entries.len(), 28);
    for entry in entries {
        let key = LockKey::new(&entry.input).unwrap();
        assert_eq!(key.display_hash().to_string(), entry.hash, "{:?}", entry.input);
    }
}

#[test]
fn fences() {
    let entries = vectors().fences;
    assert_eq!(entries.len(), 7);
    for entry in entries {
        // The vectors hold numbers. A number below zero cannot be represented here, and its text is
        // refused.
        let fence = match entry.input.parse() {
            Ok(number) => Fence::new(number),
            Err(_) => entry.input.parse(),
        };
        entry.answer.check(fence.map(|fence| fence.to_string()), &entry.input);
    }
}

#[test]
fn keys() {
    let entries = vectors().keys;
    assert_eq!(entries.len(), 32);
    for entry in entries {
        let key = LockKey::new(&entry.input).map(|key| key.as_str().to_owned());
        entry.answer.check(key, &entry.input);
    }
}

#[test]
fn lock_ids() {
    let entries = vectors().lock_ids;
    assert_eq!(entries.len(), 7);
    for entry in entries {
        let id = entry.input.parse::<LockId>();
        entry.answer.check(id.map(|id| id.as_str() == entry.input), &entry.input);
    }
}

#[test]
fn liveness() {
    let entries = vectors().live;
    assert_eq!(entries.len(), 6);
    for entry in entries {
        let [expires_at, now] =
            [entry.expires_at_ms, entry.now_ms].map(Timestamp::from_unix_millis);
        assert_eq!(expires_at.is_live(now, Duration::from_millis(entry.tolerance_ms)), entry.live);
    }
}
