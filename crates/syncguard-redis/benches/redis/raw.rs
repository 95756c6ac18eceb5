use std::time::Duration;

use fred::{
    clients::Client,
    interfaces::ClientLike,
    types::{
        Builder, ClusterHash, CustomCommand, Value,
        config::{Config, ReconnectPolicy},
    },
    util::sha1_hash,
};

pub(crate) const ACQUIRE: &str = concat!(
    include_str!("../../src/lua/record.lua"),
    include_str!("../../src/lua/acquire.lua"),
    include_str!("../../src/lua/holders.lua"),
    include_str!("../../src/lua/announce.lua"),
);
pub(crate) const RELEASE: &str = concat!(
    include_str!("../../src/lua/release.lua"),
    include_str!("../../src/lua/holders.lua"),
    include_str!("../../src/lua/release_shared.lua"),
);
pub(crate) const ACQUIRE_CJSON: &str = include_str!("lua/acquire_cjson.lua");
pub(crate) const RELEASE_CJSON: &str = include_str!("lua/release_cjson.lua");
pub(crate) const FENCE: &str = include_str!("lua/fence.lua");
pub(crate) const FENCE_RELEASE: &str = include_str!("lua/fence_release.lua");

/// The driver without the backend, configured as the backend configures it.
#[derive(Clone)]
pub(crate) struct Raw(Client);

/// A pair of scripts.
#[derive(Clone)]
pub(crate) struct Pair {
    pub(crate) acquire: String,
    pub(crate) release: String,
    pub(crate) style: Style,
}

/// The arguments of a pair of scripts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    Lean,
    Cjson,
    FenceOnly,
}

impl Raw {
    pub(crate) async fn connect(url: &str) -> Self {
        let mut builder = Builder::from_config(Config::from_url(url).unwrap());
        builder.with_performance_config(|performance| {
            performance.default_command_timeout = Duration::from_secs(5);
        });
        builder.with_connection_config(|connection| {
            connection.max_command_attempts = 1;
            connection.unresponsive.max_timeout = Some(Duration::from_secs(5));
            connection.unresponsive.interval = Duration::from_millis(1_250);
        });
        builder.set_policy(ReconnectPolicy::new_constant(0, 100));
        let client = builder.build().unwrap();
        client.init().await.unwrap();
        Self(client)
    }

    pub(crate) async fn pair(&self, style: Style) -> Pair {
        let (acquire, release) = match style {
            Style::Lean => (ACQUIRE, RELEASE),
            Style::Cjson => (ACQUIRE_CJSON, RELEASE_CJSON),
            Style::FenceOnly => (FENCE, FENCE_RELEASE),
        };
        for script in [acquire, release] {
            self.call("SCRIPT", &["LOAD", script]).await;
        }
        Pair { acquire: sha1_hash(acquire), release: sha1_hash(release), style }
    }

    /// Acquires and releases by hand, and builds every argument as the backend does.
    pub(crate) async fn acquire_and_release(&self, pair: &Pair, key: &str, id: &str) {
        let lock = format!("syncguard:{key}");
        let (fence, id_entry) = (format!("syncguard:fence:{lock}"), format!("syncguard:id:{id}"));
        match pair.style {
            Style::Lean => {
                let tail = format!(r#""key":"{key}"}}"#);
                let head = format!(r#"{{"lockId":"{id}","expiresAtMs":"#);
                let shared = format!("{lock}\u{37e}shared");
                let keys = ["4", &lock, &id_entry, &shared, &fence];
                let arguments = [head.as_str(), "30000", "31000", &tail];
                let acquire = [&[pair.acquire.as_str()], &keys[..], &arguments].concat();
                self.call("EVALSHA", &acquire).await;
                let keys = ["3", &lock, &id_entry, &shared];
                let arguments = [head.as_str(), "PUBLISH"];
                let release = [&[pair.release.as_str()], &keys[..], &arguments].concat();
                assert_eq!(self.call("EVALSHA", &release).await, Value::Integer(1));
            }
            Style::Cjson => {
                let channel = format!("{lock}:released");
                let acquire =
                    [&pair.acquire, "3", &lock, &fence, &id_entry, id, "30000", "31000", key, ""];
                self.call("EVALSHA", &acquire).await;
                let release = [&pair.release, "2", &lock, &id_entry, id, &channel];
                let released = self.call("EVALSHA", &release).await;
                assert!(released.as_str().unwrap().contains("released"));
            }
            Style::FenceOnly => {
                self.call("EVALSHA", &[&pair.acquire, "2", &lock, &fence, id, "31000"]).await;
                let release = [&pair.release, "1", &lock, id];
                assert_eq!(self.call("EVALSHA", &release).await, Value::Integer(1));
            }
        }
    }

    /// Returns the microseconds that the server has spent in scripts since this was last called.
    pub(crate) async fn script_time(&self) -> f64 {
        let stats = self.call("INFO", &["commandstats"]).await.as_string().unwrap();
        self.call("CONFIG", &["RESETSTAT"]).await;
        let line = stats.lines().find(|line| line.starts_with("cmdstat_evalsha:")).unwrap();
        let field = line.split(',').find_map(|field| field.strip_prefix("usec="));
        field.unwrap().parse().unwrap()
    }

    pub(crate) async fn call(&self, name: &'static str, arguments: &[&str]) -> Value {
        let command = CustomCommand::new_static(name, ClusterHash::FirstKey, false);
        let arguments: Vec<_> = arguments.iter().map(|text| Value::from(*text)).collect();
        self.0.custom(command, arguments).await.unwrap()
    }
}
