//! The tables of a database.

use std::io::{self, ErrorKind, Write};

use syncguard::{
    Error,
    mysql::{MysqlBackend, MysqlConfig},
    postgres::{PostgresBackend, PostgresConfig},
};

use crate::{
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
        SchemaAction::Apply => tables.create().await?,
        SchemaAction::Print => match print(&tables.text()?) {
            // A reader that closed the pipe early wants no more.
            Err(error) if error.kind() != ErrorKind::BrokenPipe => {
                return Err(Failure::Output(error));
            }
            Ok(()) | Err(_) => {}
        },
    }
    Ok(Exit::SUCCESS)
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

fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{}", text.trim_end())?;
    out.flush()
}
