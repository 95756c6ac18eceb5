//! What a user of this crate compiles.

#![cfg(test)]

use std::{collections::BTreeSet, process::Command};

/// Returns the names of all crates that the library needs with these features.
fn dependencies(features: &[&str]) -> BTreeSet<String> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["tree", "--offline", "--package", "syncguard", "--edges", "normal"]);
    cargo.args(["--prefix", "none", "--format", "{lib}"]).args(features);
    let output = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let printed = String::from_utf8(output.stdout).unwrap();
    let names = printed.lines().filter_map(|line| line.split_whitespace().next());
    names.map(str::to_owned).collect()
}

/// With a store's feature its driver comes, and none of another store.
#[track_caller]
fn bring(features: &[&str], driver: &str, others: &[&str]) {
    let tree = dependencies(features);
    assert!(tree.contains(driver), "{driver} is not in {tree:?}");
    for other in others {
        assert!(!tree.contains(*other), "{other} comes with {features:?}");
    }
}

#[test]
fn redis_brings_no_driver_of_another_store() {
    bring(&["--features", "redis"], "fred", &["tonic", "gcloud_sdk"]);
    let alone = ["--no-default-features", "--features", "redis"];
    bring(&alone, "fred", &["tonic", "gcloud_sdk", "sqlx", "libsqlite3_sys"]);
}

#[test]
fn firestore_brings_no_driver_of_another_store() {
    bring(&["--features", "firestore"], "tonic", &["fred"]);
    let alone = ["--no-default-features", "--features", "firestore"];
    bring(&alone, "tonic", &["fred", "sqlx", "libsqlite3_sys"]);
}

/// With two of them compiled in, rustls cannot choose one and panics at the first connection.
#[test]
fn all_stores_share_one_provider_of_cryptography() {
    let others = ["ring", "openssl", "openssl_sys", "native_tls"];
    for features in [&["--all-features"][..], &["--no-default-features", "--features", "firestore"]]
    {
        bring(features, "aws_lc_rs", &others);
    }
}
