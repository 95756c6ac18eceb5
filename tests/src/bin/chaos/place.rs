use std::{fmt, path::Path};

use clap::ValueEnum;
use syncguard_testkit::{find::Store, server::AnyServer};
use tempfile::TempDir;

use crate::Outcome;

/// A store to test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Place {
    Sqlite,
    Redis,
    Postgres,
    Mariadb,
    Firestore,
}

impl Place {
    /// Starts the server that it needs, if it needs one.
    pub(crate) async fn open(self) -> Outcome<OpenPlace> {
        let directory = tempfile::tempdir()?;
        let (store, mut environment) = (self.store(), Vec::new());
        let server = match store {
            Some(store) => Some(AnyServer::start(store).await?),
            None => None,
        };
        let url = match (&server, store) {
            (Some(server), Some(store @ Store::Firestore)) => {
                environment.push((store.variable().to_owned(), server.url().to_owned()));
                "firestore://chaos".to_owned()
            }
            (Some(server), _) => server.url().to_owned(),
            (None, _) => format!("sqlite:{}", directory.path().join("locks.db").display()),
        };
        Ok(OpenPlace { url, environment, directory, _server: server })
    }

    /// Returns whether the clients that wait stand in a line at the store.
    pub(crate) fn has_line(self) -> bool {
        matches!(self, Self::Redis | Self::Postgres)
    }

    fn store(self) -> Option<Store> {
        match self {
            Self::Sqlite => None,
            Self::Redis => Some(Store::Redis),
            Self::Postgres => Some(Store::Postgres),
            Self::Mariadb => Some(Store::Mariadb),
            Self::Firestore => Some(Store::Firestore),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value();
        f.write_str(value.as_ref().map_or("", |value| value.get_name()))
    }
}

/// A store that can be used. Its server ends with it.
pub(crate) struct OpenPlace {
    pub(crate) url: String,
    /// The variables that its backend needs in the environment of the process.
    pub(crate) environment: Vec<(String, String)>,
    directory: TempDir,
    _server: Option<AnyServer>,
}

impl OpenPlace {
    /// Returns a directory for files.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }
}
