//! Connecting.

use std::{sync::Arc, time::Duration};

use sqlx::{ConnectOptions, mysql::MySqlConnectOptions};
use syncguard_core::pool::{Limits, Pool, Pruning};
use tokio::runtime::Handle;

use crate::{
    MysqlConfig, check,
    config::Missing,
    connection::Connections,
    error::Failure,
    names::Table,
    pool::{Server, Settings},
    readers::Readers,
    schema,
    sql::{Columns, Sql},
    store::Store,
    transport,
};

/// The least time that one attempt to open a connection may take, however long its waiters wait: an
/// attempt that is abandoned half-way has cost the server as much as one that succeeds.
const OPENING: Duration = Duration::from_secs(5);

/// Connects, creates the table if it is missing, and checks the server's settings.
pub(crate) async fn connect(config: MysqlConfig) -> Result<Store, Failure> {
    let mut store = open(&config).await?;
    let columns = match config.missing {
        Missing::Create => schema::set_up(&store).await?,
        Missing::Refuse => schema::verify(&store).await?,
    };
    store.sql = Sql::new(&store.table, columns, config.counters);
    let failed = |failure: Failure| failure.into_error_at(&store.server);
    let checking = async { check::check(&store).await.map_err(failed) };
    config.unsafe_settings.enforce(checking).await?;
    Ok(store)
}

/// Opens the store that operations work with. Nothing is known about the table yet.
pub(crate) async fn open(config: &MysqlConfig) -> Result<Store, Failure> {
    config.validate()?;
    let table = Table::new(&config.table)?;
    let settings = Settings::new(config.lock_timeout, config.statement_timeout);
    let limits = Limits {
        size: usize::try_from(config.max_connections).unwrap_or(usize::MAX),
        wait: config.connect_timeout,
        open: config.connect_timeout.max(OPENING),
    };
    let runtime = Handle::try_current().map_err(|_| Failure::NoRuntime)?;
    let server = Server { options: plain_options(config), settings };
    let pool = Pool::new(server, limits, runtime.clone());
    pool.open_first().await?;
    let statement_timeout = config.statement_timeout;
    let connections = Connections { pool, statement_timeout, runtime };
    Ok(Store {
        server: config.server(),
        connections: Arc::new(connections),
        sql: Sql::new(&table, Columns::Exclusive, config.counters),
        table,
        counters: config.counters,
        readers: Readers::default(),
        pruning: Pruning::default(),
        transport: transport::finding(&config.options),
    })
}

/// Returns the options of a connection before anything is set for it.
fn plain_options(config: &MysqlConfig) -> MySqlConnectOptions {
    let options = config.options.as_ref().clone();
    let options = options.pipes_as_concat(false).no_engine_substitution(false);
    // Statements hold ids, and knowing an id is enough to release the lock.
    options.timezone(None).set_names(false).disable_statement_logging()
}
