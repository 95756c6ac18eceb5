use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct Store {
    /// Where locks are kept [env: SYNCGUARD_STORE] [default: sqlite:STATE/syncguard/locks.db, where
    /// STATE is $XDG_STATE_HOME or ~/.local/state]
    ///
    /// `postgres://HOST/DATABASE` is a PostgreSQL database, `mysql://HOST/DATABASE` one of MySQL or
    /// MariaDB, `redis://HOST` or `rediss://HOST` a Redis or Valkey server, `firestore://PROJECT` a
    /// Firestore database, for all hosts that reach it.
    /// `sqlite:PATH` is a file for all processes of this host. `memory:` is this process alone, so it
    /// excludes no other process: use it to try a command line.
    ///
    /// A name without a colon is that of a store in the configuration file: $SYNCGUARD_CONFIG, or
    /// syncguard/config.toml in $XDG_CONFIG_HOME or ~/.config, or /etc/syncguard/config.toml.
    #[arg(long = "store", value_name = "URL or NAME")]
    pub(crate) url: Option<String>,
}
