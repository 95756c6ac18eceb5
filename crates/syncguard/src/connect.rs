use syncguard_core::{DynBackend, Error};

use crate::backends::ALL;

/// Opens the store that `url` names, for programs that read it from their configuration.
///
/// | URL | Store | Feature |
/// | --- | --- | --- |
/// | `null:` | none: [every lock is granted](crate::NullBackend) | |
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
/// Returns [`InvalidArgument`](crate::ErrorKind::InvalidArgument) for an unknown scheme, a scheme whose
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
    ALL.read_url(url)?.open().await
}

#[cfg(test)]
mod tests {
    use super::connect;
    use crate::{ErrorKind, backend::LockBackend};

    async fn refusal(url: &str) -> String {
        let error = connect(url).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{url}: {error}");
        error.to_string()
    }

    #[cfg(feature = "memory")]
    #[tokio::test]
    async fn memory_and_null_have_no_name() {
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
    async fn a_server_that_cannot_be_reached_is_named_without_its_password() {
        for (scheme, database) in
            [("redis", ""), ("rediss", ""), ("postgres", ""), ("mysql", "/d"), ("mariadb", "/d")]
        {
            // No server listens on the port of the echo service, which only root may open.
            let url = format!("{scheme}://user:secret@127.0.0.1:7{database}");
            let error = connect(&url).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ServiceUnavailable, "{error}");
            assert!(error.to_string().contains("127.0.0.1:7"), "{error}");
            assert!(!format!("{error} {error:?}").contains("secret"), "{error:?}");
        }
    }
}
