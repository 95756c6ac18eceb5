//! Storms over each store, and soaks.

use crate::{
    apt,
    command::cargo,
    failure::Failure,
    provision::{Install, missing},
    test::SERVERS,
};

const BUILD: &str = "build --package syncguard-tests --bins";
const RUN: &str = "run --package syncguard-tests --bin chaos --";

pub(crate) fn run(
    install: Install,
    seconds: u64,
    soak: Option<u64>,
    stores: &[String],
) -> Result<(), Failure> {
    if install == Install::Missing {
        apt::install(&missing(SERVERS))?;
    }
    // It starts the other programs of the package.
    cargo(BUILD).run()?;
    let kind = match soak {
        Some(minutes) => format!("--soak={minutes}"),
        None => format!("--seconds {seconds}"),
    };
    cargo(&format!("{RUN} {kind} {}", stores.join(" "))).run()
}
