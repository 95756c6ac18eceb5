//! Keys that a store might mishandle.

use super::{Harness, steps::*};
use crate::{LockKey, backend::LockBackend};

/// Acquires, extends and releases a lock on each key, and asserts that no key is mistaken for
/// another.
async fn all_are_independent<H: Harness>(h: H, texts: &[&str]) {
    let (a, b) = (h.client().await, h.client().await);
    let requests: Vec<_> = texts.iter().map(|text| request_for(text, LONG)).collect();
    for request in &requests {
        assert_eq!(granted(&a, request).await.fence.number(), 1, "{:?}", request.key.as_str());
    }
    for request in &requests {
        contended(&b, &request_for(request.key.as_str(), LONG)).await;
        let record = b.lookup(&request.key.clone().into()).await.expect("answers").expect("held");
        assert_eq!((&record.key, record.lock_id), (&request.key, request.lock_id));
        extended(&b, lock_of(request), LONG).await;
        released(&b, lock_of(request)).await;
    }
    for request in &requests {
        let fence = granted(&a, &request_for(request.key.as_str(), LONG)).await.fence;
        assert_eq!(fence.number(), 2, "{:?}", request.key.as_str());
    }
}

/// Keys of one byte and of 512 bytes, equal except for their last character.
pub async fn the_shortest_and_the_longest_keys_work<H: Harness>(h: H) {
    let longest = ["x".repeat(512), format!("{}y", "x".repeat(511)), "é".repeat(256)];
    let emoji = "🔒".repeat(128);
    let texts = longest.iter().map(String::as_str).chain(["a", " ", emoji.as_str()]);
    all_are_independent(h, &texts.collect::<Vec<_>>()).await;
}

/// Two spellings that are equal in NFC are one lock.
pub async fn spellings_equal_in_nfc_are_one_lock<H: Harness>(h: H) {
    let (a, b) = (h.client().await, h.client().await);
    for (one, other) in [("caf\u{e9}", "cafe\u{301}"), ("\u{d55c}", "\u{1112}\u{1161}\u{11ab}")] {
        assert_eq!(LockKey::new(one).ok(), LockKey::new(other).ok());
        granted(&a, &request_for(one, LONG)).await;
        contended(&b, &request_for(other, LONG)).await;
    }
}

/// Spellings that look alike but differ in NFC, in case or in whitespace are different locks.
pub async fn keys_that_only_look_alike_are_different_locks<H: Harness>(h: H) {
    let texts = ["\u{fb01}x", "fix", "k", "K", "k ", " k", "\u{212b}k", "ß", "ss", "i", "ı", "İ"];
    all_are_independent(h, &texts).await;
}

/// Emoji, joined and plain, right-to-left text, and characters beyond the basic plane.
pub async fn emoji_and_all_scripts_work<H: Harness>(h: H) {
    let texts = ["🔒", "👩‍👩‍👧‍👦", "👩", "日本語キー", "عربي", "𝔎𝔢𝔶", "\u{200b}", "\u{feff}bom"];
    all_are_independent(h, &texts).await;
}

/// Keys that begin with words that stores use for their own names.
pub async fn reserved_prefixes_are_ordinary_keys<H: Harness>(h: H) {
    let id = id();
    let id_key = format!("id:{}", id.as_str());
    let texts = [
        "k",
        "id:k",
        "fence:k",
        "fence:fence:k",
        "syncguard:k",
        "fence:syncguard:k",
        &id_key,
        "id:",
        "fence:",
        ":",
        "::",
        "{k}",
        "{}k",
        "__x__",
        ".",
        "..",
        "%2F",
    ];
    all_are_independent(h, &texts).await;
}

/// Slashes, NUL, control characters, quotes and backslashes.
pub async fn slashes_nul_and_quotes_work<H: Harness>(h: H) {
    let texts = [
        "a/b",
        "/",
        "//",
        "a\\b",
        "nul\0key",
        "nul",
        "nul\0",
        "tab\tkey",
        "line\nkey",
        "\r\n",
        "'",
        "''",
        "\"",
        "`",
        "$1",
        "?",
        ":name",
        "@p",
        "%",
        "_",
        "*",
        "[a]",
        "\u{7f}",
    ];
    all_are_independent(h, &texts).await;
}

/// Fragments of SQL and Lua are text.
pub async fn fragments_of_sql_and_lua_are_text<H: Harness>(h: H) {
    let texts = [
        "'; DROP TABLE syncguard_locks; --",
        "' OR '1'='1",
        "1); DELETE FROM syncguard_locks",
        "]] return redis.call('FLUSHALL') --[[",
        "${jndi:x}",
        "{{7*7}}",
        "\\x00",
        "\\u0000",
    ];
    all_are_independent(h, &texts).await;
}
