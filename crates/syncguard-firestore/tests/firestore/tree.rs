//! What a user of this crate compiles.

use std::{collections::BTreeSet, process::Command};

/// Gives the names of all crates that the library needs.
fn dependencies() -> BTreeSet<String> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["tree", "--package", "syncguard-firestore", "--edges", "normal"]);
    cargo.args(["--prefix", "none", "--format", "{lib}"]).current_dir(env!("CARGO_MANIFEST_DIR"));
    let output = cargo.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let printed = String::from_utf8(output.stdout).unwrap();
    let names = printed.lines().filter_map(|line| line.split_whitespace().next());
    names.map(str::to_owned).collect()
}

/// With two of them compiled in, rustls cannot choose one and panics at the first connection.
#[test]
fn there_is_one_provider_of_cryptography_and_it_is_aws_lc() {
    let tree = dependencies();
    assert!(tree.contains("aws_lc_rs") && tree.contains("rustls"), "{tree:?}");
    for other in ["ring", "openssl", "openssl_sys", "native_tls"] {
        assert!(!tree.contains(other), "{other} is another provider");
    }
}

#[test]
fn no_driver_of_another_store_comes_with_it() {
    let tree = dependencies();
    assert!(tree.contains("tonic"), "{tree:?}");
    for other in ["fred", "sqlx", "libsqlite3_sys"] {
        assert!(!tree.contains(other), "{other}");
    }
}
