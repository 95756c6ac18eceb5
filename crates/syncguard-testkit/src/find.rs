//! Finds programs, and reports how to get one that is missing.

use std::{
    env,
    ffi::OsStr,
    fmt::{self, Display, Formatter},
    fs,
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

/// A kind of server that tests use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    /// Redis or Valkey.
    Redis,
    /// PostgreSQL.
    Postgres,
    /// MariaDB.
    Mariadb,
    /// An emulator of Firestore: Google's in a container, or else that of this workspace.
    Firestore,
}

impl Store {
    /// All kinds.
    pub const ALL: [Self; 4] = [Self::Redis, Self::Postgres, Self::Mariadb, Self::Firestore];

    /// Returns its name in messages, which is also the name of its file in `compose/`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Redis => "redis",
            Self::Postgres => "postgres",
            Self::Mariadb => "mariadb",
            Self::Firestore => "firestore",
        }
    }

    /// Returns the environment variable that holds the address of an existing server.
    #[must_use]
    pub const fn variable(self) -> &'static str {
        match self {
            Self::Redis => "REDIS_URL",
            Self::Postgres => "POSTGRES_URL",
            Self::Mariadb => "MYSQL_URL",
            Self::Firestore => "FIRESTORE_EMULATOR_HOST",
        }
    }

    /// Returns whether starting one is so slow that the processes of a test run should share it.
    #[must_use]
    pub const fn is_slow_to_start(self) -> bool {
        match self {
            Self::Redis => false,
            Self::Postgres | Self::Mariadb | Self::Firestore => true,
        }
    }

    /// Returns the default port of such a server.
    #[must_use]
    pub const fn port(self) -> u16 {
        match self {
            Self::Redis => 6379,
            Self::Postgres => 5432,
            Self::Mariadb => 3306,
            Self::Firestore => 8080,
        }
    }

    /// Returns the URL of a server that was started by the kit or through `compose/`.
    #[must_use]
    pub fn url(self, address: SocketAddr) -> String {
        match self {
            Self::Redis => format!("redis://{address}"),
            Self::Postgres => format!("postgres://postgres@{address}/postgres"),
            Self::Mariadb => format!("mysql://root@{address}/test"),
            Self::Firestore => address.to_string(),
        }
    }

    /// Returns the programs that start such a server and inspect it, and must be installed.
    #[must_use]
    pub const fn programs(self) -> &'static [Executable] {
        match self {
            Self::Redis => &[Executable::REDIS_SERVER, Executable::REDIS_CLI],
            Self::Postgres => {
                &[Executable::INITDB, Executable::POSTGRES, Executable::PSQL, Executable::PGBOUNCER]
            }
            Self::Mariadb => {
                &[Executable::MARIADB_INSTALL_DB, Executable::MARIADBD, Executable::MARIADB]
            }
            // Cargo builds it.
            Self::Firestore => &[],
        }
    }

    /// Reads its [`variable`](Self::variable). An empty value counts as not set.
    #[must_use]
    pub fn address(self) -> Option<String> {
        env::var(self.variable()).ok().filter(|url| !url.is_empty())
    }
}

/// A program that the kit runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Executable {
    names: &'static [&'static str],
    package: &'static str,
    store: Option<Store>,
}

impl Executable {
    /// The Redis server, or that of Valkey.
    pub const REDIS_SERVER: Self =
        Self::of(Store::Redis, &["redis-server", "valkey-server"], "redis-server");
    /// The command line client of Redis, or that of Valkey.
    pub const REDIS_CLI: Self = Self::of(Store::Redis, &["redis-cli", "valkey-cli"], "redis-tools");
    /// The program that creates a data directory of PostgreSQL.
    pub const INITDB: Self = Self::of(Store::Postgres, &["initdb"], "postgresql");
    /// The PostgreSQL server.
    pub const POSTGRES: Self = Self::of(Store::Postgres, &["postgres"], "postgresql");
    /// The command line client of PostgreSQL.
    pub const PSQL: Self = Self::of(Store::Postgres, &["psql"], "postgresql-client");
    /// The connection pooler for PostgreSQL.
    pub const PGBOUNCER: Self = Self::of(Store::Postgres, &["pgbouncer"], "pgbouncer");
    /// The program that creates a data directory of MariaDB.
    pub const MARIADB_INSTALL_DB: Self =
        Self::of(Store::Mariadb, &["mariadb-install-db"], "mariadb-server");
    /// The MariaDB server.
    pub const MARIADBD: Self = Self::of(Store::Mariadb, &["mariadbd"], "mariadb-server");
    /// The command line client of MariaDB.
    pub const MARIADB: Self = Self::of(Store::Mariadb, &["mariadb"], "mariadb-client");
    /// The program that runs another one as a given user and ends it with its parent.
    pub const SETPRIV: Self = Self::tool(&["setpriv"], "util-linux");
    /// The JavaScript runtime.
    pub const NODE: Self = Self::tool(&["node", "nodejs"], "nodejs");
    /// The package manager of Node.
    pub const NPM: Self = Self::tool(&["npm"], "npm");
    /// The C compiler.
    pub const CC: Self = Self::tool(&["cc", "gcc", "clang"], "build-essential");

    const fn of(store: Store, names: &'static [&'static str], package: &'static str) -> Self {
        let store = Some(store);
        Self { names, package, store }
    }

    const fn tool(names: &'static [&'static str], package: &'static str) -> Self {
        Self { names, package, store: None }
    }

    /// Returns its most common name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.names[0]
    }

    /// Returns the package of Debian and Ubuntu that contains it.
    #[must_use]
    pub const fn package(&self) -> &'static str {
        self.package
    }

    /// Searches for it on `PATH` and in the directories where Debian installs servers.
    ///
    /// # Errors
    ///
    /// [`Missing`], which names the ways to get it.
    pub fn find(&self) -> Result<PathBuf, Missing> {
        SearchPath::system().find(self)
    }
}

/// The directories in which programs are searched.
#[derive(Clone, Debug)]
pub struct SearchPath(Vec<PathBuf>);

impl SearchPath {
    /// Returns `PATH`, followed by the directories where Debian installs servers, which the `PATH`
    /// of a user does not contain.
    #[must_use]
    pub fn system() -> Self {
        let path = env::var_os("PATH").unwrap_or_default();
        let mut directories: Vec<PathBuf> = env::split_paths(&path).collect();
        directories.extend(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from));
        directories.extend(versions(Path::new("/usr/lib/postgresql")));
        Self(directories)
    }

    /// Returns exactly these directories.
    pub fn of<P: Into<PathBuf>>(directories: impl IntoIterator<Item = P>) -> Self {
        Self(directories.into_iter().map(Into::into).collect())
    }

    /// Searches for a program in each directory in turn.
    ///
    /// # Errors
    ///
    /// [`Missing`], which names the ways to get it.
    pub fn find(&self, executable: &Executable) -> Result<PathBuf, Missing> {
        let candidates = executable
            .names
            .iter()
            .flat_map(|name| self.0.iter().map(move |directory| directory.join(name)));
        let found = candidates.into_iter().find(|path| is_executable(path));
        found.ok_or(Missing { executable: *executable })
    }
}

/// Returns the `bin` directory of each version of PostgreSQL, newest first.
fn versions(root: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(root).into_iter().flatten().flatten();
    let number = |name: &OsStr| name.to_str().and_then(|name| name.parse::<u32>().ok());
    let mut versions: Vec<u32> = entries.filter_map(|entry| number(&entry.file_name())).collect();
    versions.sort_unstable_by(|a, b| b.cmp(a));
    let bin = |version: u32| root.join(version.to_string()).join("bin");
    versions.into_iter().map(bin).collect()
}

fn is_executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

/// A program that was not found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missing {
    executable: Executable,
}

impl Missing {
    /// Returns the missing program.
    #[must_use]
    pub const fn executable(&self) -> Executable {
        self.executable
    }
}

impl Display for Missing {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        let Executable { package, store, .. } = self.executable;
        let name = self.executable.name();
        write!(formatter, "{name} is not there; the ways to get it:")?;
        if let Some(store) = store {
            let (store, variable) = (store.name(), store.variable());
            write!(
                formatter,
                "\n  - a server of your own: set {variable} to its address\n  \
                 - a Docker engine: `cargo xtask services up {store}` runs compose/{store}.yml\n  \
                 (these two serve every test but those that break a server of their own)"
            )?;
        }
        write!(formatter, "\n  - Debian or Ubuntu: `apt-get install {package}`")?;
        if store.is_some() {
            formatter.write_str("; `cargo xtask test --install` does so for what tests need")?;
        }
        write!(formatter, "\n  - elsewhere: put {name} on PATH")
    }
}

impl std::error::Error for Missing {}
