//! The tables of a database.

use syncguard::{
    Error,
    mysql::{MysqlBackend, MysqlConfig},
    postgres::{PostgresBackend, PostgresConfig},
};

use crate::{
    answer,
    arguments::{Schema, SchemaAction},
    exit::Exit,
    failure::Failure,
    store,
};

/// A store that has tables.
enum Tables {
    Mysql(MysqlConfig),
    Postgres(PostgresConfig),
}

/// Prints the statements that create the tables of a store, or creates them.
pub(crate) async fn schema(arguments: &Schema) -> Result<Exit, Failure> {
    let url = store::named(&arguments.store)?.unwrap_or_default();
    let tables = Tables::of(&url)?;
    match arguments.action() {
        SchemaAction::Apply => tables.create().await.map(|()| Exit::SUCCESS).map_err(Failure::from),
        SchemaAction::Print => answer::print(&tables.text()?),
    }
}

impl Tables {
    fn of(url: &str) -> Result<Self, Failure> {
        match url.split_once("://") {
            Some(("postgres" | "postgresql", _)) => {
                Ok(Self::Postgres(PostgresConfig::from_url(url)?))
            }
            Some(("mysql" | "mariadb", _)) => Ok(Self::Mysql(MysqlConfig::from_url(url)?)),
            _ => Err(Failure::NoSchema),
        }
    }

    fn text(&self) -> Result<String, Error> {
        match self {
            Self::Mysql(config) => config.schema_sql(),
            Self::Postgres(config) => config.schema_sql(),
        }
    }

    async fn create(&self) -> Result<(), Error> {
        match self {
            Self::Mysql(config) => MysqlBackend::setup_schema(config).await,
            Self::Postgres(config) => PostgresBackend::setup_schema(config).await,
        }
    }
}
