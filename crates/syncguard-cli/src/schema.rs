//! The tables of a database.

use syncguard::Error;
#[cfg(feature = "mysql")]
use syncguard::mysql::{MysqlBackend, MysqlConfig};
#[cfg(feature = "postgres")]
use syncguard::postgres::{PostgresBackend, PostgresConfig};

use crate::{
    answer,
    arguments::{Schema, SchemaAction},
    configuration::choose,
    exit::Exit,
    failure::Failure,
};

/// A store that has tables.
enum Tables {
    #[cfg(feature = "mysql")]
    Mysql(MysqlConfig),
    #[cfg(feature = "postgres")]
    Postgres(PostgresConfig),
}

/// Prints the statements that create the tables of a store, or creates them.
pub(crate) async fn schema(arguments: &Schema) -> Result<Exit, Failure> {
    let url = choose(&arguments.store)?.url.unwrap_or_default();
    let tables = Tables::of(&url)?;
    match arguments.action() {
        SchemaAction::Apply => tables.create().await.map(|()| Exit::SUCCESS).map_err(Failure::from),
        SchemaAction::Print => answer::print(&tables.text()?),
    }
}

impl Tables {
    fn of(url: &str) -> Result<Self, Failure> {
        match url.split_once("://") {
            #[cfg(feature = "postgres")]
            Some(("postgres" | "postgresql", _)) => {
                Ok(Self::Postgres(PostgresConfig::from_url(url)?))
            }
            #[cfg(feature = "mysql")]
            Some(("mysql" | "mariadb", _)) => Ok(Self::Mysql(MysqlConfig::from_url(url)?)),
            _ => Err(Failure::NoSchema),
        }
    }

    fn text(&self) -> Result<String, Error> {
        match self {
            #[cfg(feature = "mysql")]
            Self::Mysql(config) => config.schema_sql(),
            #[cfg(feature = "postgres")]
            Self::Postgres(config) => config.schema_sql(),
        }
    }

    async fn create(&self) -> Result<(), Error> {
        match self {
            #[cfg(feature = "mysql")]
            Self::Mysql(config) => MysqlBackend::setup_schema(config).await,
            #[cfg(feature = "postgres")]
            Self::Postgres(config) => PostgresBackend::setup_schema(config).await,
        }
    }
}
