use syncguard_core::{DynBackend, Error, ErrorKind, Operation};

/// The schemes of the backends that are compiled in.
const COMPILED: &[&str] = &[
    #[cfg(feature = "memory")]
    "memory",
    #[cfg(feature = "sqlite")]
    "sqlite",
];

/// The schemes of all backends, each named as the feature that compiles it in.
const KNOWN: &[&str] = &["memory", "sqlite"];

/// Opens the store that `url` names, for programs that take it from their configuration.
///
/// | URL | Store | Feature |
/// | --- | --- | --- |
/// | `memory:` | this process, empty at every call | `memory` |
/// | `sqlite:locks.db`, `sqlite:/var/lib/app/locks.db` | a SQLite file | `sqlite` |
/// | `sqlite://locks.db`, `sqlite:///var/lib/app/locks.db` | the same files, written as URLs | `sqlite` |
///
/// What follows `sqlite:` or `sqlite://` is a path as it stands: nothing is decoded and there are no
/// query parameters. The file is created where it is missing, its directory is not. For options,
/// build the backend by its own constructor.
///
/// # Errors
///
/// [`InvalidArgument`](ErrorKind::InvalidArgument) for an unknown scheme, one whose feature is not
/// compiled in, or a store name that breaks its rule; otherwise why the store could not be opened.
/// No part of the URL but its scheme is repeated, because URLs tend to carry passwords.
///
/// # Examples
///
/// ```
/// # #[cfg(feature = "memory")]
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), syncguard::Error> {
/// let locks = syncguard::SyncGuard::new(syncguard::connect("memory:").await?);
/// assert!(!locks.is_locked("nightly-report").await?);
/// # Ok(())
/// # }
/// # #[cfg(not(feature = "memory"))]
/// # fn main() {}
/// ```
pub async fn connect(url: &str) -> Result<DynBackend, Error> {
    match url.split_once(':') {
        #[cfg(feature = "memory")]
        Some(("memory", "" | "//")) => Ok(DynBackend::new(syncguard_memory::MemoryBackend::new())),
        #[cfg(feature = "memory")]
        Some(("memory", _)) => Err(invalid("the store memory: takes no name".to_owned())),
        #[cfg(feature = "sqlite")]
        Some(("sqlite", name)) => {
            let path = name.strip_prefix("//").unwrap_or(name);
            Ok(DynBackend::new(syncguard_sqlite::SqliteBackend::open(path).await?))
        }
        Some((scheme, _)) => Err(invalid(not_compiled(scheme))),
        None => Err(invalid(format!("the store URL begins with no scheme ({})", compiled()))),
    }
}

fn not_compiled(scheme: &str) -> String {
    let compiled = compiled();
    if KNOWN.contains(&scheme) {
        return format!(
            "the store scheme {scheme:?} needs the feature {scheme:?} of the crate syncguard \
             ({compiled})"
        );
    }
    let scheme: String = scheme.chars().take(32).collect();
    format!("the store scheme {scheme:?} is unknown ({compiled})")
}

/// Says which schemes are compiled in.
fn compiled() -> String {
    match COMPILED {
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
    use crate::ErrorKind;

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
        for scheme in super::COMPILED {
            assert!(refusal.contains(scheme), "{refusal}");
        }
    }

    #[tokio::test]
    async fn a_scheme_that_is_not_compiled_in_names_the_feature_to_enable() {
        for scheme in super::KNOWN.iter().filter(|scheme| !super::COMPILED.contains(scheme)) {
            let refusal = refusal(&format!("{scheme}:")).await;
            assert!(refusal.contains(&format!("feature {scheme:?}")), "{refusal}");
        }
    }

    #[tokio::test]
    async fn text_that_is_no_url_is_refused_and_not_repeated() {
        for bad in ["", "locks.db"] {
            assert!(!refusal(bad).await.contains("locks.db"));
        }
    }

    #[cfg(feature = "memory")]
    #[tokio::test]
    async fn memory_takes_no_name() {
        for url in ["memory:", "memory://"] {
            assert!(connect(url).await.is_ok(), "{url}");
        }
        refusal("memory:locks").await;
    }

    #[cfg(feature = "sqlite")]
    #[tokio::test]
    async fn both_spellings_of_a_sqlite_url_open_the_same_file() {
        use crate::SyncGuard;

        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a ?%20b.db");
        let path = path.to_str().unwrap();
        let open = async |url: String| SyncGuard::new(connect(&url).await.unwrap());
        let one = open(format!("sqlite:{path}")).await;
        let other = open(format!("sqlite://{path}")).await;
        let guard = one.lock("key").acquire().await.unwrap();
        assert!(other.is_locked("key").await.unwrap());
        guard.release().await.unwrap();
        refusal("sqlite:").await;
    }
}
