//! The scripts.

use std::{borrow::Cow, sync::LazyLock};

use fred::util::sha1_hash;

/// A script, and the hash by which the server knows it.
pub(crate) struct Script {
    pub(crate) number: usize,
    pub(crate) rank: Rank,
    pub(crate) body: Cow<'static, str>,
    pub(crate) hash: String,
}

/// The order in which calls are sent that are ready together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rank {
    /// Keeps a lock that would be lost otherwise.
    Extend,
    /// Frees a key that others wait for.
    Release,
    Other,
}

impl Script {
    pub(crate) fn new(number: usize, rank: Rank, body: impl Into<Cow<'static, str>>) -> Self {
        let body = body.into();
        Self { number, rank, hash: sha1_hash(&body), body }
    }
}

macro_rules! scripts {
    ($($number:literal $name:ident = $rank:ident $($part:literal)*;)*) => {
        $(pub(crate) static $name: LazyLock<Script> =
            LazyLock::new(|| Script::new($number, Rank::$rank, SOURCES[$number - 1]));)*

        const SOURCES: &[&str] = &[$(concat!($(include_str!(concat!("lua/", $part, ".lua"))),*)),*];
    };
}

// Numbered from one, because Lua counts from one. The part of an exclusive lock comes first and ends the
// script, so that an exclusive lock does not pay for the parts behind it.
scripts! {
    1 ACQUIRE = Other "record" "acquire" "enter" "refuse" "holders" "announce";
    2 EXTEND = Extend "extend" "holders" "extend_shared";
    3 RELEASE = Release "release" "next" "release_next" "holders" "release_shared";
    4 ABANDON = Release "abandon" "holders" "abandon_shared";
    5 LOOKUP = Other "lookup";
    6 FORCE_RELEASE = Other "force_release";
    7 SHARE = Other "record" "holders" "enter" "share";
    8 RETIRE = Other "retire";
    9 PASS = Release "next" "pass";
    10 CLAIM = Other "record" "claim" "acquire" "enter" "refuse" "holders" "announce";
}

/// Runs several calls of the other scripts at once.
pub(crate) static BATCH: LazyLock<Script> = LazyLock::new(|| {
    let functions: Vec<_> =
        SOURCES.iter().map(|body| format!("function(KEYS, ARGV)\n{body}end")).collect();
    let scripts = functions.join(",\n");
    let body = format!("local SCRIPTS = {{\n{scripts}\n}}\n{}", include_str!("lua/batch.lua"));
    Script::new(0, Rank::Other, body)
});

/// The replies of the scripts that are codes rather than values.
pub(crate) mod reply {
    pub(crate) const NOT_FOUND: i64 = 0;
    pub(crate) const ABANDONED: i64 = -1;
    pub(crate) const EXPIRED: i64 = -1;
    pub(crate) const FENCE_LIMIT: i64 = -2;
    pub(crate) const UNREADABLE: i64 = -3;
    pub(crate) const UNREADABLE_HOLDERS: i64 = -4;
    pub(crate) const NEEDS_HOLDERS: i64 = -5;
}

#[cfg(test)]
mod tests {
    use syncguard_core::{
        Fence,
        backend::{Capabilities, Turn},
    };

    use super::{PASS, SOURCES};

    /// Returns the text after each `call('NAME'` of a script, and the name.
    fn calls(source: &str) -> impl Iterator<Item = (&str, &str)> {
        source.split("call('").skip(1).map(|call| call.split_once('\'').unwrap())
    }

    #[test]
    fn scripts_access_no_key_that_they_do_not_declare() {
        for source in SOURCES {
            assert!(calls(source).count() > 0);
            for (name, rest) in calls(source) {
                let declared = rest.starts_with(", KEYS[") || rest.starts_with(", unpack(KEYS)");
                assert!(declared || (name == "TIME" && rest.starts_with(')')), "{name}{rest}");
            }
        }
    }

    #[test]
    fn scripts_use_the_constants_of_the_core() {
        let (grace, limit) = (Capabilities::GRACE.as_millis(), Fence::LIMIT.number());
        assert!(SOURCES[0].contains(&format!("local GRACE, LIMIT = {grace}, {limit}\n")));
        assert!(SOURCES[1].contains(&format!("local GRACE = {grace}\n")));
        let (first, substitutes) = (Turn::MAX_NOTIFIED, Turn::SUBSTITUTES);
        let rounds = Turn::TIME_IN_LINE.as_secs() / 20;
        let line = "local MAX_NOTIFIED, SUBSTITUTES, ROUNDS_IN_LINE =";
        assert!(PASS.body.contains(&format!("{line} {first}, {substitutes}, {rounds}\n")));
    }
}
