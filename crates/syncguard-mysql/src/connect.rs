//! Connecting.

use std::{sync::Arc, time::Duration};

use sqlx::{ConnectOptions, mysql::MySqlConnectOptions};
use syncguard_core::{
    Error, Operation,
    pool::{Limits, Pool, Pruning},
};
use tokio::runtime::Handle;

use crate::{
    MysqlBackend, MysqlConfig, check,
    config::{Missing, refused},
    connection::Connections,
    error::Failure,
    names::Table,
    pool::{Server, Settings},
    schema,
    sql::Sql,
    store::Store,
    transport,
};

/// The least time that one attempt to open a connection may take, however long its waiters wait: an
/// attempt that is abandoned half-way has cost the server as much as one that succeeds.
const OPENING: Duration = Duration::from_secs(5);

impl MysqlBackend {
    /// Connects to an [address](MysqlConfig::from_url) with the default settings. Creates the table
    /// if it is missing.
    ///
    /// # Errors
    ///
    /// The same as for [`MysqlConfig::from_url`] and [`MysqlConfig::connect`].
    pub async fn connect(url: &str) -> Result<Self, Error> {
        MysqlConfig::from_url(url)?.connect().await
    }
}

impl MysqlConfig {
    /// Connects, creates the table if it is missing, and checks the server's settings.
    ///
    /// # Errors
    ///
    /// - [`InvalidArgument`](syncguard_core::ErrorKind::InvalidArgument) if a value is invalid, or
    ///   the database is not named or does not exist.
    /// - [`ServiceUnavailable`](syncguard_core::ErrorKind::ServiceUnavailable) if the server cannot
    ///   be reached in time.
    /// - [`AuthFailed`](syncguard_core::ErrorKind::AuthFailed) if the server refuses the
    ///   credentials, or the user may not create the table.
    /// - [`Internal`](syncguard_core::ErrorKind::Internal) if the table is missing or incomplete
    ///   and is not to be created, or a connection does not keep the settings that are set for it.
    /// - [`Unsupported`](syncguard_core::ErrorKind::Unsupported) if the table is for later versions
    ///   of this crate, or if the server's settings are unsafe and are to be
    ///   [refused](syncguard_core::UnsafeSettings::Refuse).
    pub async fn connect(self) -> Result<MysqlBackend, Error> {
        let connecting = async {
            let store = self.open().await?;
            match self.missing {
                Missing::Create => schema::set_up(&store).await?,
                Missing::Refuse => schema::verify(&store).await?,
            }
            let refused = |failure: Failure| failure.into_error(Operation::Check);
            let checking = async { check::check(&store).await.map_err(refused) };
            self.unsafe_settings.enforce(checking).await?;
            Ok(MysqlBackend::new(store))
        };
        connecting.await.map_err(refused)
    }

    /// Connects, creates the table if it is missing, records its revision, and disconnects. This is
    /// for deployments where the service itself uses a database user that may not do so.
    ///
    /// # Errors
    ///
    /// The same as for [`connect`](Self::connect) and [`MysqlBackend::setup_schema`].
    pub async fn setup_schema(&self) -> Result<(), Error> {
        let making = async { schema::upgrade(&self.open().await?).await };
        making.await.map_err(refused)
    }

    /// Opens the store that operations work with. Nothing is known about the table yet.
    async fn open(&self) -> Result<Store, Failure> {
        self.validate()?;
        let table = Table::new(&self.table)?;
        let settings = Settings::new(self.lock_timeout, self.statement_timeout);
        let limits = Limits {
            size: usize::try_from(self.max_connections).unwrap_or(usize::MAX),
            wait: self.connect_timeout,
            open: self.connect_timeout.max(OPENING),
        };
        let runtime = Handle::try_current().map_err(|_| Failure::NoRuntime)?;
        let server = Server { options: self.plain(), settings };
        let pool = Pool::new(server, limits, runtime.clone());
        pool.open_first().await?;
        let statement_timeout = self.statement_timeout;
        let connections = Connections { pool, statement_timeout, runtime };
        Ok(Store {
            connections: Arc::new(connections),
            sql: Sql::new(&table),
            table,
            pruning: Pruning::default(),
            transport: transport::finding(&self.options),
        })
    }

    /// Returns the options of a connection before anything is set for it.
    fn plain(&self) -> MySqlConnectOptions {
        let options = self.options.as_ref().clone();
        let options = options.pipes_as_concat(false).no_engine_substitution(false);
        // Statements hold ids, and knowing an id is enough to release the lock.
        options.timezone(None).set_names(false).disable_statement_logging()
    }
}
