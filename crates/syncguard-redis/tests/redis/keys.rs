//! A key has the same name in both languages.

use std::collections::BTreeSet;

use syncguard_core::{ErrorKind, LockKey, backend::LockBackend};
use syncguard_redis::RedisBackend;
use syncguard_testkit::{
    hostile::HOSTILE,
    operations::{LONG, ask, granted, is_contended, is_locked, released},
    server::RedisServer,
    typescript::RedisPeer,
};

use crate::{config, safe};

const ID: &str = "ABCDEFGHIJKLMNOPQRSTUV";

/// How the names of a key in the two clients relate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Name {
    /// The same name in both.
    Common,
    /// This backend uses another name. The TypeScript name is that of another key's counter, which
    /// grants of that key increment.
    Counter,
    /// This backend uses another name. The TypeScript name is that of a lock id's index, which the
    /// lock would overwrite.
    Index,
    /// Both refuse the key: it is empty, or longer than 512 bytes.
    Refused,
}

/// The keys that do not have a common name, for each prefix. All others do.
const TABLE: &[(&str, &[(&str, Name)])] = &[
    (
        "syncguard",
        &[
            ("fence:syncguard:a", Name::Counter),
            ("fence:syncguard:fence:a", Name::Counter),
            ("fence:syncguard:fence:syncguard:k", Name::Counter),
            ("fence:syncguard:id:42", Name::Counter),
            ("fence:syncguard:job", Name::Counter),
            ("fence:syncguard:k", Name::Counter),
        ],
    ),
    ("tenant", &[("fence:tenant:k", Name::Counter)]),
    (
        "",
        &[
            ("fence:a/b/c", Name::Counter),
            ("fence:fence:a", Name::Counter),
            ("fence:fence:job", Name::Counter),
            ("fence:id:42", Name::Counter),
            ("fence:payments", Name::Counter),
            ("fence:syncguard", Name::Counter),
            ("fence:syncguard:", Name::Counter),
            ("fence:syncguard:a", Name::Counter),
            ("fence:syncguard:fence:a", Name::Counter),
            ("fence:syncguard:fence:syncguard:k", Name::Counter),
            ("fence:syncguard:id:42", Name::Counter),
            ("fence:syncguard:job", Name::Counter),
            ("fence:syncguard:k", Name::Counter),
            ("fence:syncguard2:k", Name::Counter),
            ("fence:tenant:k", Name::Counter),
            ("fence:other:k", Name::Counter),
            ("fence::k", Name::Counter),
            ("fence:fence:k", Name::Counter),
        ],
    ),
];

/// Names of indexes, with any prefix.
const INDEXES: [&str; 2] = ["id:abcdefghijklmnopqrstuv", "id:A-_0123456789abcdefghi"];

fn expected(prefix: &str, text: &str) -> Name {
    if text.is_empty() || text.len() > 512 {
        return Name::Refused;
    }
    if INDEXES.contains(&text) {
        return Name::Index;
    }
    let (_, table) = TABLE.iter().find(|(listed, _)| *listed == prefix).unwrap();
    table.iter().find(|(key, _)| *key == text).map_or(Name::Common, |(_, name)| *name)
}

/// Checks that the key is one lock for both clients: each excludes the other, and they count up one
/// fence.
async fn check_common(ours: &RedisBackend, theirs: &mut RedisPeer, key: &str) {
    let theirs_first = theirs.acquire(key, ID).await.unwrap().unwrap();
    assert!(is_contended(ours, key).await, "{key:?} is theirs");
    let found = ours.lookup(&LockKey::new(key).unwrap().into()).await.unwrap().unwrap();
    assert_eq!((found.lock_id.as_str(), found.key.as_str()), (ID, key));
    assert!(theirs.release(ID).await);
    let request = ask(key, LONG);
    assert_eq!(granted(ours, &request).await.fence.number(), theirs_first + 1, "{key:?}");
    assert_eq!(theirs.acquire(key, ID).await, Ok(None), "{key:?} is ours");
    assert!(released(ours, &request).await);
}

/// Checks that the lock of this backend has a name of its own, and leaves the other key's counter
/// intact.
async fn check_beside_a_counter(ours: &RedisBackend, theirs: &mut RedisPeer, key: &str) {
    let counter = theirs.name(key);
    // Without its prefix: the key whose counter has this name.
    let neighbour = counter.strip_prefix(&theirs.name("fence:")).unwrap();
    let neighbour = neighbour.strip_prefix(&theirs.name("")).unwrap();
    // The TypeScript client keeps the counter of `neighbour` there, so it cannot store a lock there
    // as well.
    theirs.call(&["DEL", &counter, &theirs.name(neighbour)]).await.unwrap();
    let fence = theirs.acquire(neighbour, ID).await.unwrap().unwrap();
    assert!(theirs.release(ID).await);
    assert_eq!(theirs.call(&["GET", &counter]).await, Ok(Some(fence.to_string())), "{key:?}");
    assert!(theirs.acquire(key, ID).await.is_err(), "a number is no record: {key:?}");
    let request = ask(key, LONG);
    granted(ours, &request).await;
    assert_eq!(theirs.call(&["GET", &counter]).await, Ok(Some(fence.to_string())), "{key:?}");
    assert_eq!(theirs.acquire(neighbour, ID).await, Ok(Some(fence + 1)));
    assert!(theirs.release(ID).await && released(ours, &request).await);
}

/// Checks that the lock of this backend has a name of its own, and leaves the index of that id
/// intact.
async fn check_beside_an_index(ours: &RedisBackend, theirs: &mut RedisPeer, key: &str) {
    let (index, id) = (theirs.name(key), key.strip_prefix("id:").unwrap());
    // A TypeScript holder of this key loses it as soon as a lock is granted under that id.
    theirs.acquire(key, ID).await.unwrap().unwrap();
    theirs.acquire("another", id).await.unwrap().unwrap();
    let name = theirs.name("another");
    assert_eq!(theirs.call(&["GET", &index]).await, Ok(Some(name.clone())), "{key:?} is gone");
    let request = ask(key, LONG);
    granted(ours, &request).await;
    assert_eq!(theirs.call(&["GET", &index]).await, Ok(Some(name)), "{key:?}");
    assert!(theirs.release(id).await && is_locked(ours, key).await);
    assert!(released(ours, &request).await);
    theirs.call(&["DEL", &theirs.name(&format!("id:{ID}"))]).await.unwrap();
}

async fn check_with_prefix(server: &RedisServer, prefix: &'static str) {
    let ours = RedisBackend::connect(config(&server.url()).prefix(prefix)).await.unwrap();
    let mut theirs = RedisPeer::connect(server.address(), prefix).await;
    let mut seen = BTreeSet::new();
    for text in HOSTILE {
        let name = expected(prefix, text);
        if name == Name::Refused {
            assert!(LockKey::new(text).is_err(), "{text:?}");
            continue;
        }
        // In normal form, as in the TypeScript client before it derives a name.
        let key = LockKey::new(text).unwrap();
        let key = key.as_str();
        if !seen.insert(key.to_owned()) {
            continue;
        }
        match name {
            Name::Common => check_common(&ours, &mut theirs, key).await,
            Name::Counter => check_beside_a_counter(&ours, &mut theirs, key).await,
            Name::Index => check_beside_an_index(&ours, &mut theirs, key).await,
            Name::Refused => unreachable!(),
        }
    }
    assert!(seen.len() >= 60, "{}", seen.len());
}

#[tokio::test]
async fn hostile_keys_have_typescript_names_or_names_of_their_own_under_the_default_prefix() {
    check_with_prefix(&safe().start().await.unwrap(), "syncguard").await;
}

#[tokio::test]
async fn hostile_keys_have_typescript_names_or_names_of_their_own_under_another_prefix() {
    check_with_prefix(&safe().start().await.unwrap(), "tenant").await;
}

#[tokio::test]
async fn hostile_keys_have_typescript_names_or_names_of_their_own_without_a_prefix() {
    check_with_prefix(&safe().start().await.unwrap(), "").await;
}

/// The normal forms that the TypeScript client computed are listed beside the texts.
#[tokio::test]
async fn text_that_is_equal_in_normal_form_is_one_key() {
    let server = safe().start().await.unwrap();
    let ours = crate::connect(&server.url()).await;
    let mut theirs = RedisPeer::connect(server.address(), "syncguard").await;
    for (written, normal) in [
        ("cafe\u{301}", "café"),
        ("\u{212b}", "Å"),
        ("\u{1112}\u{1161}\u{11ab}", "한"),
        ("\u{308}\u{301}", "\u{344}"),
    ] {
        let (theirs_as, ours_as) = (LockKey::new(normal).unwrap(), written);
        theirs.acquire(theirs_as.as_str(), ID).await.unwrap().unwrap();
        assert!(is_contended(&ours, ours_as).await, "{written:?}");
        assert!(theirs.release(ID).await);
    }
}

#[tokio::test]
async fn keys_that_begin_like_derived_names_are_listed() {
    let server = safe().start().await.unwrap();
    let ours = crate::connect(&server.url()).await;
    let keys = ["id:42", "fence:payments", "fence:syncguard:k", INDEXES[0], "plain"];
    for key in keys {
        granted(&ours, &ask(key, LONG)).await;
    }
    for (prefix, count) in [("", 5), ("id:", 2), ("fence:", 2), ("fence:p", 1), ("id:4", 1)] {
        let page = ours.list(&syncguard_core::backend::ListRequest::new(prefix)).await.unwrap();
        assert_eq!(page.locks.len(), count, "{prefix:?}: {page:?}");
    }
}

#[tokio::test]
async fn a_prefix_that_contains_the_counters_of_another_is_refused() {
    let server = safe().start().await.unwrap();
    let ours = RedisBackend::connect(config(&server.url()).prefix("app")).await.unwrap();
    for prefix in ["app:fence:app", "app:fence", "fence", "fence:app::"] {
        let error = RedisBackend::connect(config(&server.url()).prefix(prefix)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{prefix}");
        assert!(error.to_string().contains("another prefix's fence counters"), "{error}");
    }
    // What would happen otherwise: a lock under one prefix is a counter under the other.
    let mut theirs = RedisPeer::connect(server.address(), "app:fence:app").await;
    theirs.acquire("job", ID).await.unwrap().unwrap();
    let error = ours.acquire(&ask("job", LONG)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Internal);
}

/// Two keys that share a lock exclude more than necessary, never less.
#[tokio::test]
async fn a_key_that_is_the_hashed_form_of_another_shares_its_lock() {
    let server = safe().start().await.unwrap();
    let ours = crate::connect(&server.url()).await;
    let request = ask("fence:syncguard:k", LONG);
    granted(&ours, &request).await;
    let found = ours.lookup(&request.lock_id.into()).await.unwrap().unwrap();
    assert_eq!(found.key.as_str(), "fence:syncguard:k");
    let mut theirs = RedisPeer::connect(server.address(), "syncguard").await;
    let name = theirs.call(&["GET", &format!("syncguard:id:{}", request.lock_id.as_str())]).await;
    let name = name.unwrap().unwrap();
    let hashed = name.strip_prefix("syncguard:").unwrap();
    assert!(is_contended(&ours, hashed).await);
    assert!(released(&ours, &request).await);
    granted(&ours, &ask(hashed, LONG)).await;
    assert!(is_contended(&ours, "fence:syncguard:k").await);
}
