//! Keys in shared mode: their documents, and what a TypeScript client makes of them.

use std::{num::NonZeroU32, time::Duration};

use firestore_emulator::ClockOffset;
use gcloud_sdk::google::firestore::v1::value::ValueType;
use syncguard_core::{
    ErrorKind, LockId, Owner, ReleaseOutcome,
    backend::{AcquireOutcome, AcquireRequest, ExtendOutcome, LockBackend, LockRef, Mode},
};
use syncguard_testkit::operations::{
    LONG, ask, error_of, extended, granted, is_contended, is_locked, key, lock_of, released, ttl,
};

use crate::{
    connect,
    raw::{Raw, array, integer, map, now_ms, record, text},
    start,
};

const PEER: &str = "abcdefghijklmnopqrstuv";

/// Creates a request of a reader.
pub(crate) fn reader(text: &str, duration: Duration) -> AcquireRequest {
    ask(text, duration).with_mode(Mode::SHARED)
}

/// Creates a request of a writer that goes on waiting.
pub(crate) fn waiting_writer(text: &str) -> AcquireRequest {
    ask(text, LONG).with_announcement(Some(LONG))
}

async fn is_reader_refused(backend: &impl LockBackend, text: &str) -> bool {
    let outcome = backend.acquire(&reader(text, LONG)).await.unwrap();
    !matches!(outcome, AcquireOutcome::Granted(_))
}

#[tokio::test]
async fn shared_documents_have_the_documented_format() {
    let emulator = start().await;
    let (backend, raw) = (connect(&emulator), Raw::connect(&emulator));
    let mode = Mode::Shared { permits: NonZeroU32::new(2) };
    let owner = Some(Owner::new("web-3").unwrap());
    let one = ask("job", LONG * 2).with_mode(mode).with_owner(owner);
    let other = ask("job", LONG).with_mode(mode);
    let (first, second) = (granted(&backend, &one).await, granted(&backend, &other).await);
    assert!(is_contended(&backend, "job").await);
    let stored = raw.read("locks/job").await.unwrap();
    let (first_end, second_end) = (first.expires_at.unix_millis(), second.expires_at.unix_millis());
    let head = stored["lockId"].clone();
    let ids = [one.lock_id, other.lock_id].map(|id| text(id.as_str()));
    assert!(!ids.contains(&head), "the id of the head is that of no holder");
    let readers = map([
        (
            one.lock_id.as_str(),
            map([
                ("fence", text("000000000000001")),
                ("expiresAtMs", integer(first_end)),
                ("acquiredAtMs", integer(first_end - 120_000)),
                ("owner", text("web-3")),
            ]),
        ),
        (
            other.lock_id.as_str(),
            map([
                ("fence", text("000000000000002")),
                ("expiresAtMs", integer(second_end)),
                ("acquiredAtMs", integer(second_end - 60_000)),
            ]),
        ),
    ]);
    let expected = record([
        ("lockId", head),
        ("expiresAtMs", integer(first_end)),
        ("acquiredAtMs", integer(first_end - 120_000)),
        ("key", text("job")),
        ("fence", text("000000000000002")),
        ("readers", readers),
        ("readerIds", array(ids)),
        ("permits", integer(2)),
    ]);
    assert_eq!(stored, expected);
}

#[tokio::test]
async fn an_announcement_is_one_more_field_and_stays_without_holders() {
    let emulator = start().await;
    let (backend, raw) = (connect(&emulator), Raw::connect(&emulator));
    let (held, writer) = (reader("job", LONG), waiting_writer("job"));
    granted(&backend, &held).await;
    let mut expected = raw.read("locks/job").await.unwrap();
    let outcome = backend.acquire(&writer).await.unwrap();
    assert!(matches!(outcome, AcquireOutcome::Contended { .. }), "{outcome:?}");
    let announced = raw.read("locks/job").await.unwrap();
    let Some(ValueType::MapValue(announcement)) = announced.get("announcement") else {
        panic!("{announced:?}")
    };
    let until = announcement.fields["untilMs"].value_type.clone().unwrap();
    let announcement = map([("lockId", text(writer.lock_id.as_str())), ("untilMs", until)]);
    expected.insert("announcement".to_owned(), announcement);
    assert_eq!(announced, expected, "nothing else was written");
    assert!(released(&backend, &held).await);
    expected.extend(record([
        ("expiresAtMs", integer(0)),
        ("acquiredAtMs", integer(0)),
        ("readers", map([])),
        ("readerIds", array([])),
    ]));
    assert_eq!(raw.read("locks/job").await.unwrap(), expected);
    backend.abandon(writer.lock_id, &writer.key).await.unwrap();
    assert!(raw.read("locks/job").await.is_none(), "nothing is left to keep");
}

#[tokio::test]
async fn the_expiry_of_the_head_is_that_of_the_last_holder_after_every_change() {
    let emulator = start().await;
    let (backend, raw) = (connect(&emulator), Raw::connect(&emulator));
    let expiry = async || raw.read("locks/job").await.unwrap()["expiresAtMs"].clone();
    let requests = [LONG, LONG * 3, LONG * 2].map(|duration| reader("job", duration));
    let mut latest = 0;
    for request in &requests {
        latest = granted(&backend, request).await.expires_at.unix_millis().max(latest);
        assert_eq!(expiry().await, integer(latest));
    }
    let extend = async |n: usize, duration| {
        let outcome = backend.extend(&lock_of(&requests[n]), ttl(duration)).await.unwrap();
        let ExtendOutcome::Extended { expires_at } = outcome else { panic!("{outcome:?}") };
        integer(expires_at.unix_millis())
    };
    assert_eq!(extend(0, LONG * 9).await, expiry().await, "the first lasts the longest now");
    let last = extend(1, LONG * 5).await;
    assert!(released(&backend, &requests[0]).await);
    assert_eq!(expiry().await, last, "of those that are left");
    backend.abandon(requests[1].lock_id, &requests[1].key).await.unwrap();
    let third = backend.lookup(&key("job").into()).await.unwrap().unwrap().holders;
    assert_eq!(expiry().await, integer(third[0].expires_at.unix_millis()));
}

#[tokio::test]
async fn an_exclusive_grant_over_a_shared_document_leaves_nothing_of_it() {
    let emulator = start().await;
    let (backend, raw) = (connect(&emulator), Raw::connect(&emulator));
    for is_released in [true, false] {
        let (held, writer) = (reader("job", Duration::from_secs(5)), waiting_writer("job"));
        granted(&backend, &held).await;
        assert!(is_contended(&backend, "job").await && backend.acquire(&writer).await.is_ok());
        if is_released {
            assert!(released(&backend, &held).await);
        } else {
            emulator.set_clock_offset(ClockOffset::Ahead(LONG / 2));
        }
        granted(&backend, &writer).await;
        let stored = raw.read("locks/job").await.unwrap();
        let common = ["acquiredAtMs", "expiresAtMs", "fence", "key", "lockId"];
        assert_eq!(stored.keys().collect::<Vec<_>>(), common);
        assert!(is_contended(&backend, "job").await && is_reader_refused(&backend, "job").await);
        assert!(released(&backend, &writer).await);
    }
}

/// One that stayed could be extended by a commit that is in flight.
#[tokio::test]
async fn a_grant_removes_the_holders_that_have_expired() {
    let emulator = start().await;
    let (backend, raw) = (connect(&emulator), Raw::connect(&emulator));
    let requests = [Duration::from_secs(5), LONG, LONG].map(|duration| reader("job", duration));
    granted(&backend, &requests[0]).await;
    granted(&backend, &requests[1]).await;
    emulator.set_clock_offset(ClockOffset::Ahead(LONG / 2));
    granted(&backend, &requests[2]).await;
    let ids = [&requests[1], &requests[2]].map(|request| text(request.lock_id.as_str()));
    assert_eq!(raw.read("locks/job").await.unwrap()["readerIds"], array(ids));
}

#[tokio::test]
async fn a_typescript_client_is_refused_until_the_last_reader_has_left_and_then_keeps_readers_out()
{
    let emulator = start().await;
    let (backend, raw) = (connect(&emulator), Raw::connect(&emulator));
    let readers = [reader("job", LONG), reader("job", LONG)];
    for reader in &readers {
        granted(&backend, reader).await;
    }
    for reader in &readers {
        assert!(!raw.acquire_as_typescript("job", PEER).await);
        assert!(released(&backend, reader).await);
    }
    assert!(raw.acquire_as_typescript("job", PEER).await);
    let fence = raw.read("locks/job").await.unwrap()["fence"].clone();
    assert_eq!(fence, text("000000000000003"), "after those of the readers");
    assert!(is_reader_refused(&backend, "job").await);
    let peer: LockId = PEER.parse().unwrap();
    assert_eq!(backend.release(&peer.into()).await.unwrap(), ReleaseOutcome::Released);
    assert_eq!(granted(&backend, &reader("job", LONG)).await.fence.number(), 4);
}

#[tokio::test]
async fn a_typescript_client_takes_a_key_that_is_only_announced_and_ends_the_announcement() {
    let emulator = start().await;
    let (backend, raw) = (connect(&emulator), Raw::connect(&emulator));
    let (held, writer) = (reader("job", LONG), waiting_writer("job"));
    granted(&backend, &held).await;
    assert!(backend.acquire(&writer).await.is_ok() && is_reader_refused(&backend, "job").await);
    assert!(released(&backend, &held).await);
    assert!(is_reader_refused(&backend, "job").await && !is_locked(&backend, "job").await);
    assert!(raw.acquire_as_typescript("job", PEER).await);
    raw.delete("locks/job").await;
    granted(&backend, &reader("job", LONG)).await;
}

/// A client whose clock is ahead takes the key from its readers, or an operator does.
#[tokio::test]
async fn readers_whose_head_was_overwritten_hold_nothing() {
    let emulator = start().await;
    let (backend, raw) = (connect(&emulator), Raw::connect(&emulator));
    let readers = [reader("job", LONG), reader("job", LONG)];
    for reader in &readers {
        granted(&backend, reader).await;
    }
    let mut overwritten = record([
        ("lockId", text(PEER)),
        ("expiresAtMs", integer(now_ms() + 30_000)),
        ("acquiredAtMs", integer(now_ms())),
        ("key", text("job")),
        ("fence", text("000000000000003")),
    ]);
    raw.set("locks/job", overwritten.clone()).await.unwrap();
    raw.set("fence_counters/fence:job", record([("fence", text("000000000000003"))]))
        .await
        .unwrap();
    assert!(!extended(&backend, &readers[0]).await && !released(&backend, &readers[1]).await);
    assert!(backend.lookup(&readers[0].lock_id.into()).await.unwrap().is_none());
    backend.abandon(readers[1].lock_id, &readers[1].key).await.unwrap();
    assert_eq!(raw.read("locks/job").await.unwrap(), overwritten, "the peer's lock is unchanged");
    let record = backend.lookup(&key("job").into()).await.unwrap().unwrap();
    assert_eq!((record.mode, record.holders.len()), (Mode::Exclusive, 0));
    overwritten.insert("expiresAtMs".to_owned(), integer(1));
    raw.set("locks/job", overwritten).await.unwrap();
    granted(&backend, &ask("job", LONG)).await;
}

#[tokio::test]
async fn shared_fields_that_cannot_be_read_are_an_error_until_a_forced_release() {
    let emulator = start().await;
    let (backend, raw) = (connect(&emulator), Raw::connect(&emulator));
    let request = reader("job", LONG);
    for (field, damage) in [
        ("readers", None),
        ("readers", Some(text("none"))),
        ("readers", Some(map([("none of ours", map([]))]))),
        ("readers", Some(map([(PEER, map([("fence", text("000000000000001"))]))]))),
        ("readerIds", None),
        ("readerIds", Some(array([]))),
        ("readerIds", Some(array([text(PEER)]))),
        ("readerIds", Some(array([integer(1)]))),
        ("permits", Some(integer(0))),
        ("permits", Some(integer(i64::MAX))),
        ("permits", Some(text("4"))),
        ("announcement", Some(map([("lockId", text(PEER))]))),
        ("announcement", Some(ValueType::BooleanValue(true))),
    ] {
        granted(&backend, &request).await;
        let mut stored = raw.read("locks/job").await.unwrap();
        stored.remove(field);
        stored.extend(damage.map(|damage| (field.to_owned(), damage)));
        // A live head or an expired one: what cannot be read may be live.
        stored.insert("expiresAtMs".to_owned(), integer(1));
        raw.set("locks/job", stored.clone()).await.unwrap();
        for request in [ask("job", LONG), reader("job", LONG)] {
            let error = error_of(backend.acquire(&request).await, ErrorKind::Internal);
            assert!(error.to_string().contains(field) && !error.may_have_applied(), "{error}");
        }
        error_of(backend.lookup(&key("job").into()).await, ErrorKind::Internal);
        assert_eq!(raw.read("locks/job").await.unwrap(), stored);
        let error = error_of(backend.force_release(&key("job")).await, ErrorKind::Internal);
        assert!(error.has_applied(), "{error}");
        assert!(raw.read("locks/job").await.is_none());
    }
}

#[tokio::test]
async fn a_nested_reader_is_found_extended_and_released_by_its_id_alone() {
    let emulator = start().await;
    let (mine, theirs) = (connect(&emulator), connect(&emulator));
    for text in ["job", "tenant/42/invoice"] {
        let (one, other) = (reader(text, LONG), reader(text, LONG));
        granted(&mine, &one).await;
        granted(&mine, &other).await;
        let record = theirs.lookup(&one.lock_id.into()).await.unwrap().unwrap();
        assert_eq!((record.key, record.holders.len()), (key(text), 2));
        for request in [&one, &other] {
            let lock = LockRef::from(request.lock_id);
            let outcome = theirs.extend(&lock, ttl(LONG)).await.unwrap();
            assert!(matches!(outcome, ExtendOutcome::Extended { .. }), "{outcome:?}");
            assert_eq!(theirs.release(&lock).await.unwrap(), ReleaseOutcome::Released);
        }
        assert!(!is_locked(&mine, text).await);
    }
}
