//! The tables of a database.

use std::io::{self, ErrorKind, Write};

use syncguard::postgres::PostgresConfig;

use crate::{
    arguments::{Deed, Schema},
    exit::Exit,
    failure::Failure,
    store,
};

/// Prints the statements that make the tables of a store, or makes them.
pub(crate) async fn schema(arguments: &Schema) -> Result<Exit, Failure> {
    let url = store::named(&arguments.store)?.unwrap_or_default();
    if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
        return Err(Failure::NoSchema);
    }
    let config = PostgresConfig::from_url(&url)?;
    match arguments.deed() {
        Deed::Apply => config.setup_schema().await?,
        Deed::Print => match print(&config.schema_sql()?) {
            // A reader that went away early wants no more.
            Err(error) if error.kind() != ErrorKind::BrokenPipe => {
                return Err(Failure::Output(error));
            }
            Ok(()) | Err(_) => {}
        },
    }
    Ok(Exit::SUCCESS)
}

fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{}", text.trim_end())?;
    out.flush()
}
