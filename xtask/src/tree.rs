//! Checks that the dependency tree of `syncguard-core` contains no driver.

use thiserror::Error;

// Prefixes of names, so that the helper crates of a driver count as the driver.
const DRIVERS: &[&str] =
    &["sqlx", "libsqlite3-sys", "fred", "redis", "tokio-postgres", "mysql", "gcloud-sdk", "tonic"];

#[derive(Debug, Error, PartialEq, Eq)]
#[error("syncguard-core depends on a driver: {}", .0.join(", "))]
pub(crate) struct DriversInCore(Vec<String>);

/// Searches for drivers in the output of `cargo tree --prefix none`: `<name> v<version> …` on each
/// line.
pub(crate) fn check(tree: &str) -> Result<(), DriversInCore> {
    let names = tree.lines().filter_map(|line| line.split_whitespace().next());
    let mut drivers: Vec<String> =
        names.filter(|name| is_driver(name)).map(str::to_owned).collect();
    drivers.sort_unstable();
    drivers.dedup();
    if drivers.is_empty() { Ok(()) } else { Err(DriversInCore(drivers)) }
}

fn is_driver(name: &str) -> bool {
    DRIVERS.iter().any(|driver| name.starts_with(driver))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_without_a_driver_passes() {
        let tree = "syncguard-core v0.1.0 (/src/crates/syncguard-core)\nserde v1.0.2\n\ntokio v1.54.0 (*)\n";
        assert_eq!(check(tree), Ok(()));
    }

    #[test]
    fn each_driver_is_named_once() {
        let tree = "syncguard-core v0.1.0\nsqlx-core v0.9.0\nfred v10.1.0\nsqlx-core v0.9.0 (*)\n";
        let found = check(tree).unwrap_err();
        assert_eq!(found.to_string(), "syncguard-core depends on a driver: fred, sqlx-core");
    }

    #[test]
    fn a_name_that_contains_a_driver_but_does_not_begin_with_it_is_not_a_driver() {
        assert_eq!(check("alfred v0.1.0\n"), Ok(()));
    }
}
