//! Storms over each store.

use crate::{
    apt,
    command::cargo,
    failure::Failure,
    provision::{Install, missing},
    test::SERVERS,
};

const BUILD: &str = "build --package syncguard-tests --bins";
const RUN: &str = "run --package syncguard-tests --bin chaos --";

pub(crate) fn run(install: Install, seconds: u64, stores: &[String]) -> Result<(), Failure> {
    if install == Install::Missing {
        apt::install(&missing(SERVERS))?;
    }
    // It starts the other program of the package.
    cargo(BUILD).run()?;
    cargo(&format!("{RUN} --seconds {seconds} {}", stores.join(" "))).run()
}
