//! What is used where the arguments leave it open: the environment, and a file.

use std::{
    collections::BTreeMap,
    env, fs,
    io::ErrorKind,
    path::{Path, PathBuf},
    str::FromStr,
};

use serde::Deserialize;
use syncguard::{Owner, Ttl};

use crate::{arguments::Store, directories, failure::Failure};

/// The variable that names the store.
pub(crate) const STORE: &str = "SYNCGUARD_STORE";

/// The variable that names the configuration file.
const FILE: &str = "SYNCGUARD_CONFIG";

/// The file for all users of the host.
const SYSTEM_FILE: &str = "/etc/syncguard/config.toml";

/// What was chosen: by the arguments, else by the environment, else by the store's part of the file,
/// else by the rest of the file.
pub(crate) struct Choice {
    /// The URL of the store, unless it is the user's own.
    pub(crate) url: Option<String>,
    pub(crate) owner: Option<Owner>,
    pub(crate) ttl: Option<Ttl>,
}

/// Chooses the store, the owner and the ttl, as far as the arguments do not.
pub(crate) fn choose(store: &Store) -> Result<Choice, Failure> {
    let file = File::load()?;
    // An empty variable counts as not set, as is the custom. An empty --store does not: `--store
    // "$TYPO"` must not lock in another store than intended.
    let name = match &store.url {
        Some(url) => Some(url.clone()),
        None => variable::<String>(STORE)?.or_else(|| file.default.clone()),
    };
    let named = name.as_ref().and_then(|name| file.stores.get(name));
    let url = match (named, name) {
        (Some(named), _) => Some(named.url.clone()),
        (None, Some(name)) if is_name(&name) => {
            let known = file.stores.into_keys().collect();
            return Err(Failure::UnknownStore { name, known });
        }
        (None, name) => name,
    };
    let owner = variable("SYNCGUARD_OWNER")?;
    let ttl = variable("SYNCGUARD_TTL")?;
    Ok(Choice {
        url,
        owner: owner.or_else(|| named.and_then(|named| named.owner.clone())).or(file.owner),
        ttl: ttl.or_else(|| named.and_then(|named| named.ttl)).or(file.ttl),
    })
}

/// The configuration file.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    /// The name or the URL of the store that is used if none is named.
    default: Option<String>,
    owner: Option<Owner>,
    ttl: Option<Ttl>,
    #[serde(default)]
    stores: BTreeMap<String, NamedStore>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NamedStore {
    url: String,
    owner: Option<Owner>,
    ttl: Option<Ttl>,
}

impl File {
    /// Reads the file that the environment names, or else the user's, or else that of the host, or
    /// else none.
    fn load() -> Result<Self, Failure> {
        if let Some(path) = env::var_os(FILE).filter(|path| !path.is_empty()) {
            return Self::read(&PathBuf::from(path));
        }
        let user = directories::of_user("XDG_CONFIG_HOME", ".config");
        let user = user.map(|directory| directory.join("syncguard/config.toml"));
        for path in user.into_iter().chain([SYSTEM_FILE.into()]) {
            match Self::read(&path) {
                Err(Failure::ConfigurationFile { source, .. })
                    if matches!(source.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {}
                read => return read,
            }
        }
        Ok(Self::default())
    }

    fn read(path: &Path) -> Result<Self, Failure> {
        let text = fs::read_to_string(path)
            .map_err(|source| Failure::ConfigurationFile { path: path.to_owned(), source })?;
        toml::from_str(&text).map_err(|error| {
            let line = error.span().map_or(0, |span| text[..span.start].matches('\n').count()) + 1;
            // The message alone: the whole error quotes the line, which may have a password.
            let reason = error.message().to_owned();
            Failure::Configuration { path: path.to_owned(), line, reason }
        })
    }
}

/// Returns whether `text` can only be the name of a store: neither a URL nor the path of a file.
fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
}

/// Reads a variable, unless it is empty.
fn variable<T: FromStr<Err: ToString>>(name: &'static str) -> Result<Option<T>, Failure> {
    let Some(text) = env::var_os(name).filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let text = text.into_string().map_err(|_| "it is not UTF-8".to_owned());
    let value = text.and_then(|text| text.parse().map_err(|error: T::Err| error.to_string()));
    value.map(Some).map_err(|reason| Failure::Variable { name, reason })
}
