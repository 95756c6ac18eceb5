//! The backends that can be opened by a URL or by a configuration.

use std::{
    fmt::{self, Debug},
    future::{Future, ready},
    pin::Pin,
    sync::Arc,
};

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value};
use syncguard_core::{DynBackend, Error, ErrorKind, NullBackend, Operation, backend::LockBackend};

/// All backends, whether or not they are compiled in.
pub(crate) const ALL: Backends = Backends(&[
    Backend {
        name: "null",
        schemes: &["null"],
        driver: Some(&Typed {
            from_url: NoFields::from_url,
            seeded: |fields| fields,
            connect: |_| ready(Ok(NullBackend::default())),
        }),
    },
    Backend {
        name: "memory",
        schemes: &["memory"],
        #[cfg(feature = "memory")]
        driver: Some(&Typed {
            from_url: MemoryFields::from_url,
            seeded: MemoryFields::seeded,
            connect: |fields| ready(Ok(fields.backend())),
        }),
        #[cfg(not(feature = "memory"))]
        driver: None,
    },
    Backend {
        name: "sqlite",
        schemes: &["sqlite"],
        #[cfg(feature = "sqlite")]
        driver: Some(&Typed {
            from_url: syncguard_sqlite::SqliteConfig::from_url,
            seeded: syncguard_sqlite::SqliteConfig::seed_new_counters,
            connect: syncguard_sqlite::SqliteBackend::connect,
        }),
        #[cfg(not(feature = "sqlite"))]
        driver: None,
    },
    Backend {
        name: "postgres",
        schemes: &["postgres", "postgresql"],
        #[cfg(feature = "postgres")]
        driver: Some(&Typed {
            from_url: syncguard_postgres::PostgresConfig::from_url,
            seeded: syncguard_postgres::PostgresConfig::seed_new_counters,
            connect: syncguard_postgres::PostgresBackend::connect,
        }),
        #[cfg(not(feature = "postgres"))]
        driver: None,
    },
    Backend {
        name: "mysql",
        schemes: &["mysql", "mariadb"],
        #[cfg(feature = "mysql")]
        driver: Some(&Typed {
            from_url: syncguard_mysql::MysqlConfig::from_url,
            seeded: syncguard_mysql::MysqlConfig::seed_new_counters,
            connect: syncguard_mysql::MysqlBackend::connect,
        }),
        #[cfg(not(feature = "mysql"))]
        driver: None,
    },
    Backend {
        name: "firestore",
        schemes: &["firestore"],
        #[cfg(feature = "firestore")]
        driver: Some(&Typed {
            from_url: syncguard_firestore::FirestoreConfig::from_url,
            seeded: syncguard_firestore::FirestoreConfig::seed_new_counters,
            connect: |config| ready(syncguard_firestore::FirestoreBackend::connect(config)),
        }),
        #[cfg(not(feature = "firestore"))]
        driver: None,
    },
    Backend {
        name: "redis",
        schemes: &[
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
        #[cfg(feature = "redis")]
        driver: Some(&Typed {
            from_url: syncguard_redis::RedisConfig::from_url,
            seeded: syncguard_redis::RedisConfig::seed_new_counters,
            connect: syncguard_redis::RedisBackend::connect,
        }),
        #[cfg(not(feature = "redis"))]
        driver: None,
    },
]);

/// A table of backends.
#[derive(Clone, Copy)]
pub(crate) struct Backends(&'static [Backend]);

/// One backend of the table.
struct Backend {
    /// The name of the driver in a configuration. It is also the name of the feature.
    name: &'static str,
    /// The schemes of its URLs.
    schemes: &'static [&'static str],
    /// `None` if the feature is not enabled.
    driver: Option<&'static dyn Driver>,
}

/// Reads what describes a store.
trait Driver: Sync {
    fn read_url(&self, url: &str) -> Result<Arc<dyn Open>, Error>;

    fn read_fields(&self, fields: Value) -> serde_json::Result<Arc<dyn Open>>;
}

/// Describes a store, and opens it any number of times.
pub(crate) trait Open: Debug + Send + Sync {
    /// Returns the description of the same store for a client that seeds fence counters.
    fn seeded(&self) -> Arc<dyn Open>;

    fn open(&self) -> Pin<Box<dyn Future<Output = Result<DynBackend, Error>> + Send>>;
}

/// The driver of a backend whose configuration is of type `C`.
struct Typed<C, F> {
    from_url: fn(&str) -> Result<C, Error>,
    seeded: fn(C) -> C,
    connect: fn(C) -> F,
}

/// The configuration of a store, with the function that opens it.
struct Configured<C, F> {
    config: C,
    seeded: fn(C) -> C,
    connect: fn(C) -> F,
}

/// The configuration of a backend that has nothing to configure.
// With braces: serde accepts any field for a unit struct.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NoFields {}

/// The configuration of the memory backend.
#[cfg(feature = "memory")]
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct MemoryFields {
    #[serde(default)]
    seed_new_counters: bool,
}

#[cfg(feature = "memory")]
impl MemoryFields {
    fn from_url(url: &str) -> Result<Self, Error> {
        NoFields::from_url(url).map(|NoFields {}| Self::default())
    }

    fn seeded(self) -> Self {
        Self { seed_new_counters: true }
    }

    fn backend(self) -> syncguard_memory::MemoryBackend {
        let backend = syncguard_memory::MemoryBackend::new();
        if self.seed_new_counters { backend.seed_new_counters() } else { backend }
    }
}

impl Backends {
    /// Reads a URL.
    ///
    /// No error repeats any part of the URL but its scheme, because URLs tend to carry passwords.
    pub(crate) fn read_url(self, url: &str) -> Result<Arc<dyn Open>, Error> {
        let is_scheme = |scheme: &str| {
            scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '.' | '-'))
        };
        let scheme = url.split_once(':').map(|(scheme, _)| scheme);
        let Some(scheme) = scheme.filter(|scheme| is_scheme(scheme)) else {
            let rule = format!("the store URL begins with no scheme ({})", self.compiled_in());
            return Err(invalid(rule));
        };
        let backend = self.0.iter().find(|backend| backend.schemes.contains(&scheme));
        self.driver("store scheme", scheme, backend)?.read_url(url)
    }

    /// Reads the fields of a configuration, all but the name of the driver.
    pub(crate) fn read_fields(
        self,
        driver: &str,
        fields: Map<String, Value>,
    ) -> Result<Arc<dyn Open>, Error> {
        let backend = self.0.iter().find(|backend| backend.name == driver);
        let read = self.driver("driver", driver, backend)?.read_fields(Value::Object(fields));
        read.map_err(|error| invalid(format!("the driver {driver:?}: {error}")))
    }

    fn driver(
        self,
        what: &str,
        name: &str,
        backend: Option<&Backend>,
    ) -> Result<&'static dyn Driver, Error> {
        let compiled_in = self.compiled_in();
        let Some(backend) = backend else {
            let name: String = name.chars().take(32).collect();
            return Err(invalid(format!("the {what} {name:?} is unknown ({compiled_in})")));
        };
        backend.driver.ok_or_else(|| {
            let feature = backend.name;
            let needs = format!("needs the feature {feature:?} of the crate syncguard");
            invalid(format!("the {what} {name:?} {needs} ({compiled_in})"))
        })
    }

    /// Describes which schemes are compiled in. The names of drivers are among them.
    fn compiled_in(self) -> String {
        let enabled = self.0.iter().filter(|backend| backend.driver.is_some());
        let schemes: Vec<_> = enabled.flat_map(|backend| backend.schemes).copied().collect();
        format!("compiled in: {}", schemes.join(", "))
    }
}

impl<C, F> Typed<C, F> {
    fn configured(&self, config: C) -> Configured<C, F> {
        Configured { config, seeded: self.seeded, connect: self.connect }
    }
}

impl<C, F, B> Driver for Typed<C, F>
where
    C: DeserializeOwned + Clone + Debug + Send + Sync + 'static,
    F: Future<Output = Result<B, Error>> + Send + 'static,
    B: LockBackend,
{
    fn read_url(&self, url: &str) -> Result<Arc<dyn Open>, Error> {
        Ok(Arc::new(self.configured((self.from_url)(url)?)))
    }

    fn read_fields(&self, fields: Value) -> serde_json::Result<Arc<dyn Open>> {
        Ok(Arc::new(self.configured(serde_json::from_value(fields)?)))
    }
}

impl<C, F, B> Open for Configured<C, F>
where
    C: Clone + Debug + Send + Sync + 'static,
    F: Future<Output = Result<B, Error>> + Send + 'static,
    B: LockBackend,
{
    fn seeded(&self) -> Arc<dyn Open> {
        let config = (self.seeded)(self.config.clone());
        Arc::new(Self { config, seeded: self.seeded, connect: self.connect })
    }

    fn open(&self) -> Pin<Box<dyn Future<Output = Result<DynBackend, Error>> + Send>> {
        let opening = (self.connect)(self.config.clone());
        Box::pin(async move { opening.await.map(DynBackend::new) })
    }
}

impl<C: Debug, F> Debug for Configured<C, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.config.fmt(f)
    }
}

impl NoFields {
    fn from_url(url: &str) -> Result<Self, Error> {
        match url.split_once(':') {
            Some((_, "" | "//")) => Ok(Self {}),
            Some((scheme, _)) => Err(invalid(format!("the store {scheme}: takes no name"))),
            None => Err(invalid("the store URL begins with no scheme".into())),
        }
    }
}

fn invalid(detail: String) -> Error {
    Error::new(ErrorKind::InvalidArgument).with_operation(Operation::Connect).with_detail(detail)
}

#[cfg(test)]
mod tests {
    use std::future::ready;

    use serde::Deserialize;
    use serde_json::{Map, Value, json};
    use syncguard_core::{Error, ErrorKind, NullBackend};

    use super::{ALL, Backend, Backends, Typed, invalid};

    /// The entry of another backend.
    const PIGEON: Backend = Backend {
        name: "pigeon",
        schemes: &["pigeon", "dove"],
        driver: Some(&Typed {
            from_url: Pigeon::from_url,
            seeded: |pigeon| pigeon,
            connect: |pigeon: Pigeon| match pigeon.loft.as_str() {
                "" => ready(Err(invalid("there is no loft".into()))),
                _ => ready(Ok(NullBackend::default())),
            },
        }),
    };

    /// One that is not compiled in.
    const RAVEN: Backend = Backend { name: "raven", schemes: &["raven"], driver: None };

    const BIRDS: Backends = Backends(&[PIGEON, RAVEN]);

    #[derive(Clone, Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Pigeon {
        loft: String,
    }

    impl Pigeon {
        fn from_url(url: &str) -> Result<Self, Error> {
            let (_, loft) = url.split_once("://").ok_or_else(|| invalid("no loft".into()))?;
            Ok(Self { loft: loft.to_owned() })
        }
    }

    fn fields(value: Value) -> Map<String, Value> {
        let Value::Object(fields) = value else { panic!("not a map: {value}") };
        fields
    }

    fn refusal<T>(read: Result<T, Error>) -> String {
        let error = read.err().expect("it is refused");
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
        error.to_string()
    }

    #[tokio::test]
    async fn one_entry_makes_a_backend_known_by_url_and_by_name() {
        for url in ["pigeon://north", "dove://north"] {
            BIRDS.read_url(url).unwrap().open().await.unwrap();
        }
        let described = BIRDS.read_fields("pigeon", fields(json!({ "loft": "north" }))).unwrap();
        for _ in 0..2 {
            described.open().await.unwrap();
        }
        assert!(format!("{described:?}").contains("north"));
        let error = BIRDS.read_url("pigeon://").unwrap().open().await;
        assert!(refusal(error).contains("there is no loft"));
        let error = refusal(BIRDS.read_fields("pigeon", fields(json!({ "lofft": "north" }))));
        assert!(error.contains("\"pigeon\"") && error.contains("lofft"), "{error}");
    }

    #[test]
    fn what_is_unknown_is_named_beside_what_is_compiled_in() {
        for error in [
            refusal(BIRDS.read_url("albatross://user:secret@host")),
            refusal(BIRDS.read_fields("albatross", Map::new())),
        ] {
            assert!(error.contains("\"albatross\" is unknown"), "{error}");
            assert!(error.contains("compiled in: pigeon, dove)"), "{error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn what_is_not_compiled_in_names_the_feature_to_enable() {
        for error in [
            refusal(BIRDS.read_url("raven://user:secret@host")),
            refusal(BIRDS.read_fields("raven", Map::new())),
        ] {
            assert!(error.contains("the feature \"raven\""), "{error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn text_that_is_not_a_url_is_refused_and_not_repeated() {
        for bad in ["", "locks.db", "secret@cache:6379"] {
            let error = refusal(BIRDS.read_url(bad));
            assert!(!error.contains("locks.db") && !error.contains("cache"), "{error}");
        }
    }

    /// Each name is a scheme too, so that a list of schemes shows the drivers.
    #[test]
    fn names_and_schemes_are_unique() {
        let mut schemes: Vec<_> = ALL.0.iter().flat_map(|backend| backend.schemes).collect();
        assert!(ALL.0.iter().all(|backend| backend.schemes.contains(&backend.name)));
        let all = schemes.len();
        schemes.sort_unstable();
        schemes.dedup();
        assert_eq!(schemes.len(), all);
    }
}
