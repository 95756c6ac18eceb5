//! Tests against all test vectors of the TypeScript SyncGuard.

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
    lock: Expected<String>,
    fence: Expected<String>,
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
    expected: Expected<T>,
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
enum Expected<T> {
    Ok(T),
    Error(String),
}

impl<T: PartialEq + std::fmt::Debug> Expected<T> {
    fn check(&self, actual: Result<T, InvalidValue>, input: &str) {
        match (self, actual) {
            (Self::Ok(expected), Ok(actual)) => assert_eq!(*expected, actual, "{input:?}"),
            (Self::Error(kind), Err(error)) => {
                assert_eq!(*kind, Error::from(error).kind().as_str());
            }
            (Self::Ok(expected), Err(error)) => {
                panic!("{input:?}: expected {expected:?}, got the error {error}")
            }
            (Self::Error(kind), Ok(actual)) => {
                panic!("{input:?}: expected the error {kind}, got {actual:?}")
            }
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
        // The vectors contain numbers. A negative number cannot be represented here, and its text
        // is rejected.
        let fence = match entry.input.parse() {
            Ok(number) => Fence::new(number),
            Err(_) => entry.input.parse(),
        };
        entry.expected.check(fence.map(|fence| fence.to_string()), &entry.input);
    }
}

#[test]
fn keys() {
    let entries = vectors().keys;
    assert_eq!(entries.len(), 32);
    for entry in entries {
        let key = LockKey::new(&entry.input).map(|key| key.as_str().to_owned());
        entry.expected.check(key, &entry.input);
    }
}

#[test]
fn lock_ids() {
    let entries = vectors().lock_ids;
    assert_eq!(entries.len(), 7);
    for entry in entries {
        let id = entry.input.parse::<LockId>();
        entry.expected.check(id.map(|id| id.as_str() == entry.input), &entry.input);
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
