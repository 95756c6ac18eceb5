//! A key names the same documents in both languages.

use std::{collections::HashMap, path::Path};

use firestore_emulator::Emulator;
use serde_json::Value;
use syncguard_core::{
    LockKey, ReleaseOutcome,
    backend::{LockBackend, LockRef},
};
use syncguard_firestore::FirestoreBackend;
use syncguard_testkit::{
    hostile::HOSTILE,
    node::{Node, stdout_of, unless_skipped},
    operations::{LONG, ask, extended, granted, is_contended, key, lock_of, released},
};

use crate::{
    config, connect,
    raw::{Raw, integer, record, text},
    start,
};

const PACKAGES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../firestore-emulator/tests/node");
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/node/keys.mjs");

/// What `keys.mjs` printed for all hostile keys.
const RECORDED: &str = include_str!("keys.json");

const ID: &str = "abcdefghijklmnopqrstuv";

/// The documents of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Documents {
    lock: String,
    fence: String,
}

/// Returns the hostile keys in normal form.
fn keys() -> Vec<String> {
    HOSTILE.iter().map(|text| LockKey::new(text).unwrap().as_str().to_owned()).collect()
}

/// Returns the documents that TypeScript uses for each key, or `None` if it fails.
fn recorded() -> HashMap<String, Option<Documents>> {
    let entries: Vec<Value> = serde_json::from_str(RECORDED).unwrap();
    let text = |entry: &Value, member: &str| entry[member].as_str().map(str::to_owned);
    let documents = |entry: &Value| {
        Some(Documents { lock: text(entry, "lock")?, fence: text(entry, "fence")? })
    };
    entries.iter().map(|entry| (text(entry, "key").unwrap(), documents(entry))).collect()
}

/// Returns the expected documents of each hostile key.
fn expectations() -> Vec<(String, Option<Documents>)> {
    let recorded = recorded();
    let expected = |key: String| {
        let documents = recorded.get(&key).unwrap_or_else(|| panic!("keys.json has no {key:?}"));
        (key, documents.clone())
    };
    keys().into_iter().map(expected).collect()
}

/// Returns the paths of all documents in the two collections, at any depth.
async fn documents(raw: &Raw) -> Vec<String> {
    let mut paths = raw.below("locks").await;
    paths.extend(raw.below("fence_counters").await);
    paths
}

#[test]
fn the_hostile_keys_include_many_accepted_and_many_refused_ones() {
    let (accepted, refused): (Vec<_>, Vec<_>) =
        expectations().into_iter().partition(|(_, documents)| documents.is_some());
    assert!(accepted.len() >= 60 && refused.len() >= 25, "{} {}", accepted.len(), refused.len());
}

#[tokio::test]
async fn a_grant_uses_the_documents_of_typescript_or_documents_that_it_never_uses() {
    let theirs: Vec<_> = recorded().into_values().flatten().map(|it| it.lock).collect();
    let emulator = start().await;
    let (backend, raw) = (connect(&emulator), Raw::connect(&emulator));
    for (key, expected) in expectations() {
        granted(&backend, &ask(&key, LONG)).await;
        let found = documents(&raw).await;
        if let Some(Documents { lock, fence }) = expected {
            assert_eq!(found, [lock, fence], "{key:?}");
        } else {
            let hash = found[0].strip_prefix("locks/").unwrap();
            assert_eq!(found, [format!("locks/{hash}"), format!("fence_counters/fence:{hash}")]);
            assert!(hash.len() == 22 && !hash.contains('/') && !theirs.contains(&found[0]));
        }
        clear(&raw).await;
    }
}

#[tokio::test]
async fn a_grant_of_typescript_is_honoured_under_every_key_that_it_accepts() {
    let emulator = start().await;
    let (backend, raw) = (connect(&emulator), Raw::connect(&emulator));
    for (key, expected) in expectations() {
        let Some(Documents { lock, fence }) = expected else { continue };
        set_typescript_lock(&raw, &lock, &fence, &key).await;
        assert!(is_contended(&backend, &key).await, "{key:?}");
        let id = ID.parse().unwrap();
        let found = backend.lookup(&syncguard_core::backend::LockQuery::ById(id)).await.unwrap();
        assert_eq!(found.unwrap().key.as_str(), key);
        assert_eq!(listed(&backend, 100).await, std::slice::from_ref(&key));
        let outcome = backend.release(&LockRef::from(id)).await.unwrap();
        assert_eq!(outcome, ReleaseOutcome::Released, "{key:?}");
        assert_eq!(granted(&backend, &ask(&key, LONG)).await.fence.number(), 6);
        clear(&raw).await;
    }
}

/// Deletes all documents.
async fn clear(raw: &Raw) {
    for path in documents(raw).await {
        raw.delete(&path).await;
    }
}

async fn set_typescript_lock(raw: &Raw, lock: &str, fence: &str, key: &str) {
    let lock_fields = record([
        ("lockId", text(ID)),
        ("expiresAtMs", integer(4_000_000_000_000)),
        ("acquiredAtMs", integer(1_000)),
        ("key", text(key)),
        ("fence", text("000000000000005")),
    ]);
    raw.set(lock, lock_fields).await.unwrap();
    let counter = record([("fence", text("000000000000005")), ("keyDebug", text(key))]);
    raw.set(fence, counter).await.unwrap();
}

/// Lists all locks page by page, by their keys.
async fn listed(backend: &impl LockBackend, limit: usize) -> Vec<String> {
    let mut keys = Vec::new();
    let mut request = syncguard_core::backend::ListRequest::new("").limit(limit);
    loop {
        let page = backend.list(&request).await.unwrap();
        assert!(page.locks.len() <= limit);
        keys.extend(page.locks.iter().map(|lock| lock.key.as_str().to_owned()));
        let Some(next) = page.next else { return keys };
        request = request.after(next);
    }
}

#[tokio::test]
async fn pages_contain_nested_and_other_locks_in_the_order_of_keys() {
    let emulator = start().await;
    let (backend, raw) = (connect(&emulator), Raw::connect(&emulator));
    // A document of another program below a lock. It is not a lock.
    raw.set("locks/b/notes/x", record([("key", text("b/notes/x"))])).await.unwrap();
    let mut keys: Vec<String> =
        ["a", "a/b/c", "b", "b/c/d", "b/c/e", "c", "c/d/e/f/g", "d"].map(str::to_owned).into();
    for key in &keys {
        granted(&backend, &ask(key, LONG)).await;
    }
    keys.sort();
    for limit in [1, 2, 3, 7, 8, 9, 1_000] {
        assert_eq!(listed(&backend, limit).await, keys, "pages of {limit}");
    }
    let below_b = backend.list(&syncguard_core::backend::ListRequest::new("b/")).await.unwrap();
    assert_eq!(below_b.locks.len(), 2);
}

#[tokio::test]
async fn a_nested_lock_is_found_among_more_documents_than_a_page_contains() {
    let emulator = start().await;
    let backend = FirestoreBackend::connect(config(&emulator).request_timeout(2 * LONG)).unwrap();
    let requests: Vec<_> = (0..310).map(|at| ask(&format!("e{at}/f/g"), LONG)).collect();
    let mut grants = tokio::task::JoinSet::new();
    for request in requests.clone() {
        let backend = backend.clone();
        grants.spawn(async move { granted(&backend, &request).await });
    }
    grants.join_all().await;
    let last = requests.iter().max_by_key(|request| request.key.as_str()).unwrap();
    let found = backend.lookup(&last.lock_id.into()).await.unwrap().unwrap();
    assert_eq!(found.key, last.key);
    assert_eq!(listed(&backend, 150).await.len(), 310);
}

#[tokio::test]
async fn two_keys_that_name_one_document_are_one_lock() {
    for (one, other) in [("a", "a/"), ("a/b/c", "a/b/c/")] {
        let emulator = start().await;
        let (mine, theirs) = (connect(&emulator), connect(&emulator));
        let request = ask(one, LONG);
        granted(&mine, &request).await;
        assert!(is_contended(&theirs, other).await);
        for text in [one, other] {
            let found = theirs.lookup(&key(text).into()).await.unwrap().unwrap();
            assert_eq!((found.key.as_str(), found.lock_id), (one, request.lock_id), "{text}");
        }
        assert_eq!(listed(&theirs, 10).await, [one]);
        let hinted = LockRef::new(request.lock_id, key(other));
        let moved = theirs.extend(&hinted, syncguard_testkit::operations::ttl(LONG)).await.unwrap();
        assert!(matches!(moved, syncguard_core::backend::ExtendOutcome::Extended { .. }));
        assert_eq!(theirs.release(&hinted).await.unwrap(), ReleaseOutcome::Released);
        let next = ask(other, LONG);
        assert_eq!(granted(&theirs, &next).await.fence.number(), 2, "one counter");
        assert!(mine.force_release(&key(one)).await.unwrap().is_some());
        let late = ask(one, LONG);
        mine.abandon(late.lock_id, &key(other)).await.unwrap();
        assert!(mine.acquire(&late).await.is_err(), "it was abandoned");
    }
}

#[tokio::test]
async fn nested_locks_are_waited_for_extended_and_ended_like_others() {
    let emulator = start().await;
    let (mine, theirs) = (connect(&emulator), connect(&emulator));
    let text = "tenant/42/invoice";
    crate::wakeups::subscribed(&theirs, text).await;
    for way in 0..4 {
        let request = ask(text, LONG);
        granted(&mine, &request).await;
        assert!(extended(&mine, &request).await && extended(&theirs, &request).await);
        let by_id = LockRef::from(request.lock_id);
        let job = key(text);
        let mut notified = std::pin::pin!(theirs.released(&job));
        assert!(crate::wakeups::is_pending(&mut notified).await);
        match way {
            0 => assert!(released(&mine, &request).await),
            1 => assert_eq!(theirs.release(&by_id).await.unwrap(), ReleaseOutcome::Released),
            2 => assert!(theirs.force_release(&job).await.unwrap().is_some()),
            _ => theirs.abandon(request.lock_id, &job).await.unwrap(),
        }
        tokio::time::timeout(LONG, notified).await.unwrap();
        let gone = theirs.release(&lock_of(&request)).await.unwrap();
        assert!(matches!(gone, ReleaseOutcome::NotHeld(_)), "{gone:?}");
    }
}

/// Runs the script for all hostile keys, and returns what it prints.
async fn node(emulator: &Emulator) -> String {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let node = Node::install(Path::new(PACKAGES), target).await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let keys_file = directory.path().join("keys.json");
    std::fs::write(&keys_file, serde_json::to_string(&keys()).unwrap()).unwrap();
    let mut command = node.command(Path::new(SCRIPT)).unwrap();
    command.arg(&keys_file).env("FIRESTORE_EMULATOR_HOST", emulator.address().to_string());
    stdout_of("keys.mjs", &command.output().await.unwrap()).unwrap()
}

#[tokio::test]
async fn the_recorded_documents_are_those_of_the_node_client_and_its_grants_are_honoured() {
    let test = async {
        let emulator = start().await;
        let printed = node(&emulator).await;
        let new = Path::new(env!("CARGO_TARGET_TMPDIR")).join("keys.json");
        std::fs::write(&new, format!("{printed}\n")).unwrap();
        assert_eq!(printed, RECORDED.trim(), "if this is right, keep {}", new.display());
        let backend = connect(&emulator);
        for (key, expected) in expectations() {
            assert_eq!(is_contended(&backend, &key).await, expected.is_some(), "{key:?}");
        }
    };
    unless_skipped("firestore", "node_names_the_same_documents", test).await.unwrap();
}
