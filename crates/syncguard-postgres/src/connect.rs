//! Connecting.

use std::{sync::Arc, time::Duration};

use sqlx::{ConnectOptions, postgres::PgConnectOptions};
use syncguard_core::{
    Error, Operation,
    pool::{self, Pool, Pruning},
};
use tokio::runtime::Handle;

use crate::{
    PostgresBackend, PostgresConfig, check,
    config::{Listening, Missing, Origin, Pooler, refused},
    connection::{Connections, Limits},
    error::Failure,
    extends,
    listener::Line,
    names::Tables,
    pool::{Server, Source, Turns},
    schema,
    sightings::Sightings,
    sql::{Columns, Company, Preamble, SchemaTexts, Sql, Surroundings},
    statement::Sending,
    store::Store,
    waiters::Waiters,
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

impl PostgresBackend {
    /// Connects to an [address](PostgresConfig::from_url) with the default settings. Creates the
    /// tables if they are missing.
    ///
    /// # Errors
    ///
    /// The same as for [`PostgresConfig::from_url`] and [`PostgresConfig::connect`].
    pub async fn connect(url: &str) -> Result<Self, Error> {
        PostgresConfig::from_url(url)?.connect().await
    }
}

impl PostgresConfig {
    /// Connects, creates the tables that do not exist, and checks the server's settings. An
    /// existing table is left unchanged: in the tables of a TypeScript client no owner is stored
    /// until [`setup_schema`](Self::setup_schema) has added the columns.
    ///
    /// # Errors
    ///
    /// - [`InvalidArgument`](syncguard_core::ErrorKind::InvalidArgument) if a value is invalid, or
    ///   the database does not exist.
    /// - [`ServiceUnavailable`](syncguard_core::ErrorKind::ServiceUnavailable) if the server cannot
    ///   be reached in time.
    /// - [`AuthFailed`](syncguard_core::ErrorKind::AuthFailed) if the server refuses the
    ///   credentials, or the role may not create the tables.
    /// - [`Internal`](syncguard_core::ErrorKind::Internal) if the tables are missing or incomplete
    ///   and are not to be created.
    /// - [`Unsupported`](syncguard_core::ErrorKind::Unsupported) if the tables are for later
    ///   versions of this crate, or if the server's settings are unsafe and are to be
    ///   [refused](syncguard_core::UnsafeSettings::Refuse).
    pub async fn connect(self) -> Result<PostgresBackend, Error> {
        let connecting = async {
            let mut store = self.open().await?;
            let columns = match self.missing {
                Missing::Create => schema::create_missing(&store).await?,
                Missing::Refuse => schema::verify(&store).await?,
            };
            store.adapt(columns);
            let refused = |failure: Failure| failure.into_error(Operation::Check);
            let checking = async { check::check(&store).await.map_err(refused) };
            self.unsafe_settings.enforce(checking).await?;
            Ok(PostgresBackend::new(store))
        };
        connecting.await.map_err(refused)
    }

    /// Connects, creates what is missing of the tables, adds the columns that the tables of a
    /// TypeScript client lack, and disconnects. This is for operators, and for services whose own
    /// role may not do so.
    ///
    /// Adding columns makes one acquire and one release fail on each connection of a running
    /// TypeScript client ("cached plan must not change result type").
    ///
    /// # Errors
    ///
    /// The same as for [`connect`](Self::connect) and [`PostgresBackend::setup_schema`].
    pub async fn setup_schema(&self) -> Result<(), Error> {
        let making = async { schema::set_up(&self.open().await?).await };
        making.await.map_err(refused)
    }

    /// Opens the store that operations work with. Nothing is known about the tables yet.
    async fn open(&self) -> Result<Store, Failure> {
        self.validate()?;
        let tables = Tables::new(&self.locks, &self.counters)?;
        let runtime = Handle::try_current().map_err(|_| Failure::NoRuntime)?;
        let plain = self.plain();
        let (source, patience, company, sending) = match &self.origin {
            Origin::Options(_) => {
                let is_direct = self.pooler == Pooler::None;
                let server = Server { options: self.pinned(plain.clone()), is_direct };
                let limits = self.pool_limits(self.max_connections);
                let pool = Pool::new(server, limits, runtime.clone());
                pool.open_first().await?;
                (Source::Own(pool), self.max_connections, Company::Nobody, self.sending())
            }
            Origin::Pool(pool) => {
                let size = pool.options().get_max_connections();
                let turns = Pool::new(Turns, self.pool_limits(size), runtime.clone());
                let (pool, limit) = (pool.clone(), self.connect_timeout);
                let source = Source::Callers { pool, turns, limit };
                (source, size, Company::Others, Sending::Whole)
            }
        };
        let line = self.line(&plain).map(|options| Line {
            options,
            channel: tables.channel(),
            patience: self.connect_timeout,
        });
        let limits = self.limits(patience, sending);
        let connections = Connections { source, limits, plain, runtime: runtime.clone() };
        let connections = Arc::new(connections);
        let surroundings = Surroundings { company, preamble: self.preamble(sending) };
        let sql = Sql::new(&tables, &surroundings, Columns::All);
        Ok(Store {
            extends: extends::queue(&connections, &sql, limits.patience),
            connections,
            sql,
            surroundings,
            schema: SchemaTexts::new(&tables, self.lock_timeout, self.statement_timeout),
            channel: tables.channel(),
            tables,
            waiters: Waiters::new(line, runtime),
            sightings: Sightings::default(),
            pruning: Pruning::default(),
        })
    }

    fn pool_limits(&self, size: u32) -> pool::Limits {
        pool::Limits {
            size: usize::try_from(size).unwrap_or(usize::MAX),
            wait: self.connect_timeout,
            open: self.connect_timeout.max(OPENING),
        }
    }

    fn limits(&self, connections: u32, sending: Sending) -> Limits {
        Limits {
            connect_timeout: self.connect_timeout,
            statement_timeout: self.statement_timeout,
            sending,
            // Each of them may have to be closed; the first new one is usable.
            patience: usize::try_from(connections).unwrap_or(usize::MAX),
        }
    }

    /// Returns how statements are sent on the backend's own connections.
    fn sending(&self) -> Sending {
        match self.pooler {
            Pooler::None => Sending::Prepared,
            Pooler::OfTransactions => Sending::Whole,
        }
    }

    /// Returns the settings that each transaction has to set because `pinned` cannot set them for
    /// the session.
    fn preamble(&self, sending: Sending) -> Option<Preamble> {
        (sending == Sending::Whole).then_some(Preamble {
            lock_timeout: self.lock_timeout.as_millis(),
            statement_timeout: self.statement_timeout.as_millis(),
        })
    }

    /// Returns the options of a connection with the server's own settings.
    fn plain(&self) -> PgConnectOptions {
        let options = match &self.origin {
            Origin::Options(options) => options.as_ref().clone(),
            Origin::Pool(pool) => pool.connect_options().as_ref().clone(),
        };
        let options = match options.get_application_name() {
            Some(_) => options,
            None => options.application_name("syncguard"),
        };
        let options = match self.pooler {
            Pooler::None => options,
            // pgbouncer refuses settings that it does not know.
            Pooler::OfTransactions => options.extra_float_digits(None),
        };
        // Statements hold ids, and knowing an id is enough to release the lock.
        options.disable_statement_logging()
    }

    /// Sets, for each connection, what statements rely on, overriding the settings of the role and
    /// the database.
    ///
    /// The last three are for speed: rows are found by an index, however small the tables are or
    /// seem, and a statement is planned once.
    fn pinned(&self, options: PgConnectOptions) -> PgConnectOptions {
        if self.pooler == Pooler::OfTransactions {
            return options;
        }
        options.options(KEEPALIVE).options([
            ("statement_timeout", self.statement_timeout.as_millis().to_string().as_str()),
            ("lock_timeout", self.lock_timeout.as_millis().to_string().as_str()),
            ("default_transaction_isolation", "read committed"),
            ("synchronous_commit", "on"),
            ("plan_cache_mode", "force_generic_plan"),
            ("enable_seqscan", "off"),
            ("jit", "off"),
        ])
    }

    /// Returns how to open the connection that listens.
    fn line(&self, plain: &PgConnectOptions) -> Option<PgConnectOptions> {
        match (&self.listening, self.pooler) {
            (Listening::Nowhere, _) | (Listening::Default, Pooler::OfTransactions) => None,
            (Listening::Default, Pooler::None) => Some(plain.clone()),
            (Listening::At(options), _) => Some(options.as_ref().clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::PostgresConfig;

    #[test]
    fn a_pooler_of_transactions_is_asked_for_no_settings() {
        let config = PostgresConfig::from_url("postgres://h/d").unwrap();
        let asked = config.pinned(config.plain());
        assert!(asked.get_options().unwrap().contains("statement_timeout=5000"));
        let config = config.pgbouncer();
        assert_eq!(config.pinned(config.plain()).get_options(), None);
    }
}
