//! Connecting.

use std::{sync::Arc, time::Duration};

use sqlx::{ConnectOptions, postgres::PgConnectOptions};
use syncguard_core::{
    LockId,
    pool::{self, Pool, Pruning},
};
use tokio::runtime::Handle;

use crate::{
    PostgresConfig, check,
    columns::Columns,
    config::{Listening, Missing, Origin, Pooler},
    connection::{Connections, Limits},
    error::{Failure, no_random_bytes},
    extends,
    holder_cache::HolderCache,
    lanes::Lanes,
    listener::ListenerOptions,
    names::Tables,
    pool::{OwnPool, Source, Turns},
    schema,
    server::Server,
    sql::{Preamble, SchemaTexts, Sql, StatementOptions, TransactionCheck},
    statement::Sending,
    store::Store,
    waiters::Waiters,
    wire::Ears,
};

/// The least time that one attempt to open a connection may take, however long its waiters wait: an
/// attempt that is abandoned half-way has cost the server as much as one that succeeds.
const OPENING: Duration = Duration::from_secs(5);

/// Probes the other side of a silent connection from the start, and keeps its entry in a NAT or
/// load balancer alive. The driver cannot set this on our side.
const KEEPALIVE: [(&str, &str); 3] = [
    ("tcp_keepalives_idle", "30"),
    ("tcp_keepalives_interval", "10"),
    ("tcp_keepalives_count", "3"),
];

/// Connects, creates the tables that do not exist, and checks the server's settings.
pub(crate) async fn connect(config: PostgresConfig) -> Result<Store, Failure> {
    let mut store = open(&config).await?;
    let columns = match config.missing {
        Missing::Create => schema::create_missing(&store).await?,
        Missing::Refuse => schema::verify(&store).await?,
    };
    store.adapt(columns);
    let failed = |failure: Failure| failure.into_error_at(&store.server);
    let checking = async { check::check(&store).await.map_err(failed) };
    config.unsafe_settings.enforce(checking).await?;
    Ok(store)
}

/// Opens the store that operations work with. Nothing is known about the tables yet.
pub(crate) async fn open(config: &PostgresConfig) -> Result<Store, Failure> {
    config.validate()?;
    let tables = Tables::new(&config.locks, &config.counters)?;
    let runtime = Handle::try_current().map_err(|_| Failure::NoRuntime)?;
    let plain = plain_options(config);
    let (source, size, transaction_check, sending) = match &config.origin {
        Origin::Options(_) => {
            let pool = own_pool(config, &plain, &runtime);
            pool.open_first().await?;
            (
                Source::Own(Arc::new(pool)),
                config.max_connections,
                TransactionCheck::Skip,
                sending(config),
            )
        }
        Origin::Pool(pool) => {
            let size = pool.options().get_max_connections();
            let turns = Pool::new(Turns, pool_limits(config, size), runtime.clone());
            let (pool, limit) = (pool.clone(), config.connect_timeout);
            let source = Source::Callers { pool, turns, limit };
            (source, size, TransactionCheck::Required, Sending::Unprepared)
        }
    };
    let listener_options = listen_options(config, &plain).map(|connection| ListenerOptions {
        connection,
        channel: tables.channel(),
        timeout: config.connect_timeout,
        pool: source.shared(),
    });
    let limits = limits(config, size, sending);
    let connections = Connections { source, limits, plain, runtime: runtime.clone() };
    let connections = Arc::new(connections);
    let statement_options = StatementOptions {
        transaction_check,
        preamble: preamble(config, sending),
        counters: config.counters_from,
    };
    let sql = Sql::new(&tables, &statement_options, Columns::All);
    Ok(Store {
        server: config.server(),
        client: LockId::mint().map_err(no_random_bytes)?,
        extends: extends::queue(&connections, &sql, limits.max_replacements),
        lanes: Lanes::default(),
        connections,
        sql,
        statement_options,
        schema: SchemaTexts::new(&tables, config.lock_timeout, config.statement_timeout),
        channel: tables.channel(),
        tables,
        waiters: Waiters::new(listener_options, runtime),
        holder_cache: HolderCache::default(),
        pruning: Pruning::default(),
    })
}

fn own_pool(config: &PostgresConfig, plain: &PgConnectOptions, runtime: &Handle) -> OwnPool {
    let server = Server {
        options: pinned_options(config, plain.clone()),
        is_direct: config.pooler == Pooler::None,
        ears: listens_on_pool(config).then(Ears::default),
    };
    OwnPool::new(server, pool_limits(config, config.max_connections), runtime.clone())
}

fn pool_limits(config: &PostgresConfig, size: u32) -> pool::Limits {
    pool::Limits {
        size: usize::try_from(size).unwrap_or(usize::MAX),
        wait: config.connect_timeout,
        open: config.connect_timeout.max(OPENING),
    }
}

fn limits(config: &PostgresConfig, connections: u32, sending: Sending) -> Limits {
    Limits {
        connect_timeout: config.connect_timeout,
        statement_timeout: config.statement_timeout,
        sending,
        // Each of them may have to be closed; the first new one is usable.
        max_replacements: usize::try_from(connections).unwrap_or(usize::MAX),
    }
}

/// Returns how statements are sent on the backend's own connections.
fn sending(config: &PostgresConfig) -> Sending {
    match config.pooler {
        Pooler::None => Sending::Prepared,
        Pooler::Transaction => Sending::Unprepared,
    }
}

/// Returns the settings that each transaction has to set because `pinned` cannot set them for
/// the session.
fn preamble(config: &PostgresConfig, sending: Sending) -> Option<Preamble> {
    (sending == Sending::Unprepared).then_some(Preamble {
        lock_timeout: config.lock_timeout.as_millis(),
        statement_timeout: config.statement_timeout.as_millis(),
    })
}

/// Returns the options of a connection with the server's own settings.
fn plain_options(config: &PostgresConfig) -> PgConnectOptions {
    let options = match &config.origin {
        Origin::Options(options) => options.as_ref().clone(),
        Origin::Pool(pool) => pool.connect_options().as_ref().clone(),
    };
    let options = match options.get_application_name() {
        Some(_) => options,
        None => options.application_name("syncguard"),
    };
    let options = match config.pooler {
        Pooler::None => options,
        // pgbouncer refuses settings that it does not know.
        Pooler::Transaction => options.extra_float_digits(None),
    };
    // Statements hold ids, and knowing an id is enough to release the lock.
    options.disable_statement_logging()
}

/// Sets, for each connection, what statements rely on, overriding the settings of the role and
/// the database.
///
/// The last three are for speed: rows are found by an index, however small the tables are or
/// seem, and a statement is planned once.
fn pinned_options(config: &PostgresConfig, options: PgConnectOptions) -> PgConnectOptions {
    if config.pooler == Pooler::Transaction {
        return options;
    }
    options.options(KEEPALIVE).options([
        ("statement_timeout", config.statement_timeout.as_millis().to_string().as_str()),
        ("lock_timeout", config.lock_timeout.as_millis().to_string().as_str()),
        ("default_transaction_isolation", "read committed"),
        ("synchronous_commit", "on"),
        ("plan_cache_mode", "force_generic_plan"),
        ("enable_seqscan", "off"),
        ("jit", "off"),
    ])
}

/// Returns whether a connection of the pool can be the one that listens.
fn listens_on_pool(config: &PostgresConfig) -> bool {
    config.pooler == Pooler::None && matches!(config.listening, Listening::Default)
}

/// Returns how to open the connection that listens.
fn listen_options(config: &PostgresConfig, plain: &PgConnectOptions) -> Option<PgConnectOptions> {
    match (&config.listening, config.pooler) {
        (Listening::Nowhere, _) | (Listening::Default, Pooler::Transaction) => None,
        (Listening::Default, Pooler::None) => Some(pinned_options(config, plain.clone())),
        (Listening::At(options), _) => Some(options.as_ref().clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::{pinned_options, plain_options};
    use crate::PostgresConfig;

    #[test]
    fn a_pooler_of_transactions_is_asked_for_no_settings() {
        let config = PostgresConfig::from_url("postgres://h/d").unwrap();
        let asked = pinned_options(&config, plain_options(&config));
        assert!(asked.get_options().unwrap().contains("statement_timeout=5000"));
        let config = config.pgbouncer();
        assert_eq!(pinned_options(&config, plain_options(&config)).get_options(), None);
    }
}
