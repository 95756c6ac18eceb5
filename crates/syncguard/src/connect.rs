use syncguard_core::{DynBackend, Error, ErrorKind, NullBackend, Operation};

/// The features of the backends, each with the schemes of its URLs. The null backend is always
/// available.
const KNOWN: &[(&str, &[&str])] = &[
    ("null", &["null"]),
    ("memory", &["memory"]),
    ("sqlite", &["sqlite"]),
    ("postgres", &["postgres", "postgresql"]),
    ("mysql", &["mysql", "mariadb"]),
    ("firestore", &["firestore"]),
    (
        "redis",
        &[
            "redis",
            "rediss",
            "redis-sentinel",
            "rediss-sentinel",
            "redis-cluster",
            "rediss-cluster",
            "redis+unix",
            "valkey",
            "valkeys",
            "valkey-sentinel",
            "valkeys-sentinel",
            "valkey-cluster",
            "valkeys-cluster",
            "valkey+unix",
        ],
    ),
];

/// The features that are enabled.
pub(crate) const ENABLED: &[&str] = &[
    "null",
    #[cfg(feature = "memory")]
    "memory",
    #[cfg(feature = "sqlite")]
    "sqlite",
    #[cfg(feature = "postgres")]
    "postgres",
    #[cfg(feature = "mysql")]
    "mysql",
    #[cfg(feature = "redis")]
    "redis",
    #[cfg(feature = "firestore")]
    "firestore",
];

/// Opens the store that `url` names, for programs that read it from their configuration.
///
/// | URL | Store | Feature |
/// | --- | --- | --- |
/// | `null:` | none: [every lock is granted](NullBackend) | |
/// | `memory:` | this process, empty at every call | `memory` |
/// | `sqlite:locks.db`, `sqlite:/var/lib/app/locks.db` | a SQLite file | `sqlite` |
/// | `sqlite://locks.db`, `sqlite:///var/lib/app/locks.db` | the same files, written as URLs | `sqlite` |
/// | `firestore://project[/database][?locks=…&fences=…]` | two collections of a Firestore database | `firestore` |
/// | `mysql://[user[:password]@]host[:port]/database` | a table in a MySQL database, created if it is missing | `mysql` |
/// | `postgres://[user[:password]@]host[:port][/database]` | tables in a PostgreSQL database, created if they are missing | `postgres` |
/// | `redis://[user:password@]host[:port][/database]` | a Redis or Valkey server | `redis` |
/// | `redis-sentinel://host:port?sentinelServiceName=name[&node=host:port…]` | the primary that the sentinels name | `redis` |
/// | `redis-cluster://host:port[?node=host:port…]` | a cluster | `redis` |
/// | `redis+unix:///path/to/socket` | a server on this host | `redis` |
///
/// The text after `sqlite:` or `sqlite://` is a literal path: nothing is decoded and there are no
/// query parameters. The file is created if it is missing, its directory is not. `rediss` instead
/// of `redis` uses TLS, `valkey` means the same as `redis`, and `mariadb` the same as `mysql`. To
/// set options, build the backend with its own constructor.
///
/// For another host, add `?sslmode=verify-full` for PostgreSQL and `?ssl-mode=VERIFY_IDENTITY` for
/// MySQL: their drivers fall back to plaintext by default.
///
/// # Errors
///
/// Returns [`InvalidArgument`](ErrorKind::InvalidArgument) for an unknown scheme, a scheme whose
/// feature is not compiled in, or a store name that breaks its rule; otherwise the reason why the
/// store could not be opened. The error repeats no part of the URL but its scheme, because URLs
/// tend to carry passwords.
///
/// # Examples
///
/// ```
/// # #[cfg(feature = "memory")]
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), syncguard::Error> {
/// let locks = syncguard::LockManager::new(syncguard::connect("memory:").await?);
/// assert!(!locks.is_locked("nightly-report").await?);
/// # Ok(())
/// # }
/// # #[cfg(not(feature = "memory"))]
/// # fn main() {}
/// ```
pub async fn connect(url: &str) -> Result<DynBackend, Error> {
    let plain = |scheme: &str| {
        scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '.' | '-'))
    };
    let Some((scheme, name)) = url.split_once(':').filter(|(scheme, _)| plain(scheme)) else {
        return Err(invalid(format!("the store URL begins with no scheme ({})", compiled())));
    };
    match feature_of(scheme) {
        Some("null") => match name {
            "" | "//" => Ok(DynBackend::new(NullBackend::default())),
            _ => Err(invalid("the store null: takes no name".to_owned())),
        },
        #[cfg(feature = "memory")]
        Some("memory") => match name {
            "" | "//" => Ok(DynBackend::new(syncguard_memory::MemoryBackend::new())),
            _ => Err(invalid("the store memory: takes no name".to_owned())),
        },
        #[cfg(feature = "sqlite")]
        Some("sqlite") => {
            let path = name.strip_prefix("//").unwrap_or(name);
            Ok(DynBackend::new(syncguard_sqlite::SqliteBackend::open(path).await?))
        }
        #[cfg(feature = "firestore")]
        Some("firestore") => {
            Ok(DynBackend::new(syncguard_firestore::FirestoreBackend::connect(url)?))
        }
        #[cfg(feature = "mysql")]
        Some("mysql") => Ok(DynBackend::new(syncguard_mysql::MysqlBackend::connect(url).await?)),
        #[cfg(feature = "postgres")]
        Some("postgres") => {
            Ok(DynBackend::new(syncguard_postgres::PostgresBackend::connect(url).await?))
        }
        #[cfg(feature = "redis")]
        Some("redis") => Ok(DynBackend::new(syncguard_redis::RedisBackend::connect(url).await?)),
        feature => Err(invalid(unknown(scheme, feature))),
    }
}

fn feature_of(scheme: &str) -> Option<&'static str> {
    KNOWN.iter().find(|(_, schemes)| schemes.contains(&scheme)).map(|(feature, _)| *feature)
}

/// Returns the error for a driver of a configuration that is not compiled in.
#[cfg(not(all(
    feature = "memory",
    feature = "sqlite",
    feature = "firestore",
    feature = "postgres",
    feature = "mysql",
    feature = "redis"
)))]
pub(crate) fn not_compiled(feature: &str) -> Error {
    invalid(format!(
        "the driver {feature:?} needs the feature {feature:?} of the crate syncguard ({})",
        compiled()
    ))
}

fn unknown(scheme: &str, feature: Option<&str>) -> String {
    let compiled = compiled();
    if let Some(feature) = feature {
        return format!(
            "the store scheme {scheme:?} needs the feature {feature:?} of the crate syncguard \
             ({compiled})"
        );
    }
    let scheme: String = scheme.chars().take(32).collect();
    format!("the store scheme {scheme:?} is unknown ({compiled})")
}

/// Describes which schemes are compiled in.
fn compiled() -> String {
    let enabled = KNOWN.iter().filter(|(feature, _)| ENABLED.contains(feature));
    let schemes: Vec<_> = enabled.flat_map(|(_, schemes)| schemes.iter().copied()).collect();
    match schemes.as_slice() {
        [] => "compiled in: none".to_owned(),
        schemes => format!("compiled in: {}", schemes.join(", ")),
    }
}

fn invalid(detail: String) -> Error {
    Error::new(ErrorKind::InvalidArgument, Operation::Connect).with_detail(detail)
}

#[cfg(test)]
mod tests {
    use super::connect;
    use crate::{ErrorKind, LockBackend};

    async fn refusal(url: &str) -> String {
        let error = connect(url).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{url}: {error}");
        error.to_string()
    }

    #[tokio::test]
    async fn an_unknown_scheme_is_named_beside_those_that_are_compiled_in() {
        let refusal = refusal("carrier-pigeon://user:secret@host").await;
        assert!(refusal.contains("carrier-pigeon"), "{refusal}");
        assert!(!refusal.contains("secret"), "{refusal}");
        for (feature, schemes) in super::KNOWN {
            let compiled = super::ENABLED.contains(feature);
            assert!(schemes.iter().all(|scheme| refusal.contains(scheme) == compiled), "{refusal}");
        }
    }

    #[tokio::test]
    async fn a_scheme_that_is_not_compiled_in_names_the_feature_to_enable() {
        for (feature, schemes) in super::KNOWN {
            for scheme in schemes.iter().filter(|_| !super::ENABLED.contains(feature)) {
                let refusal = refusal(&format!("{scheme}:")).await;
                assert!(refusal.contains(&format!("feature {feature:?}")), "{refusal}");
            }
        }
    }

    #[tokio::test]
    async fn text_that_is_no_url_is_refused_and_not_repeated() {
        for bad in ["", "locks.db", "secret@cache:6379"] {
            let refusal = refusal(bad).await;
            assert!(!refusal.contains("locks.db") && !refusal.contains("cache"), "{refusal}");
        }
    }

    #[cfg(feature = "memory")]
    #[tokio::test]
    async fn memory_and_null_take_no_name() {
        for url in ["memory:", "memory://", "null:", "null://"] {
            let exclusive = connect(url).await.unwrap().capabilities().exclusive;
            assert_eq!(exclusive, url.starts_with("memory"), "{url}");
        }
        refusal("memory:locks").await;
        refusal("null:locks").await;
    }

    #[cfg(feature = "sqlite")]
    #[tokio::test]
    async fn both_spellings_of_a_sqlite_url_open_the_same_file() {
        use crate::LockManager;

        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a ?%20b.db");
        let path = path.to_str().unwrap();
        let open = async |url: String| LockManager::new(connect(&url).await.unwrap());
        let one = open(format!("sqlite:{path}")).await;
        let other = open(format!("sqlite://{path}")).await;
        let guard = one.lock("key").acquire().await.unwrap();
        assert!(other.is_locked("key").await.unwrap());
        guard.release().await.unwrap();
        refusal("sqlite:").await;
    }

    #[cfg(all(feature = "redis", feature = "postgres", feature = "mysql"))]
    #[tokio::test]
    async fn a_server_that_cannot_be_reached_is_an_error_and_its_password_a_secret() {
        for (scheme, database) in
            [("redis", ""), ("rediss", ""), ("postgres", ""), ("mysql", "/d"), ("mariadb", "/d")]
        {
            // No server listens on the port of the echo service, which only root may open.
            let url = format!("{scheme}://user:secret@127.0.0.1:7{database}");
            let error = connect(&url).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ServiceUnavailable, "{error}");
            assert!(!format!("{error} {error:?}").contains("secret"), "{error:?}");
        }
    }
}
