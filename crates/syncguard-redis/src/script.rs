//! The scripts.

use std::sync::LazyLock;

use crate::client::Script;

macro_rules! scripts {
    ($($name:ident = $file:literal;)*) => {
        $(pub(crate) static $name: LazyLock<Script> =
            LazyLock::new(|| Script::new(include_str!($file)));)*
    };
}

scripts! {
    ACQUIRE = "lua/acquire.lua";
    EXTEND = "lua/extend.lua";
    RELEASE = "lua/release.lua";
    ABANDON = "lua/abandon.lua";
    LOOKUP = "lua/lookup.lua";
    FORCE_RELEASE = "lua/force_release.lua";
}

/// What the scripts answer beside numbers of their own.
pub(crate) mod reply {
    pub(crate) const NOT_FOUND: i64 = 0;
    pub(crate) const ABANDONED: i64 = -1;
    pub(crate) const EXPIRED: i64 = -1;
    pub(crate) const COUNTER: i64 = -2;
    pub(crate) const UNREADABLE: i64 = -3;
}

#[cfg(test)]
mod tests {
    use syncguard_core::{Capabilities, Fence};

    const SOURCES: [&str; 6] = [
        include_str!("lua/acquire.lua"),
        include_str!("lua/extend.lua"),
        include_str!("lua/release.lua"),
        include_str!("lua/abandon.lua"),
        include_str!("lua/lookup.lua"),
        include_str!("lua/force_release.lua"),
    ];

    /// Gives what stands behind each `call('NAME'` of a script, and the name.
    fn calls(source: &str) -> impl Iterator<Item = (&str, &str)> {
        source.split("call('").skip(1).map(|call| call.split_once('\'').unwrap())
    }

    #[test]
    fn scripts_touch_no_key_that_they_do_not_declare() {
        for source in SOURCES {
            assert!(calls(source).count() > 0);
            for (name, rest) in calls(source) {
                let declared = rest.starts_with(", KEYS[") || rest.starts_with(", unpack(KEYS)");
                assert!(declared || (name == "TIME" && rest.starts_with(')')), "{name}{rest}");
            }
        }
    }

    #[test]
    fn scripts_know_the_grace_and_the_limit_of_the_core() {
        let (grace, limit) = (Capabilities::GRACE.as_millis(), Fence::LIMIT.number());
        assert!(SOURCES[0].contains(&format!("local GRACE, LIMIT = {grace}, {limit}\n")));
        assert!(SOURCES[1].contains(&format!("local GRACE = {grace}\n")));
    }
}
