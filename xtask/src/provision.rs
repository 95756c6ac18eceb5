//! Provides the servers and tools that a task needs.

use std::{env, ffi::OsString};

use syncguard_testkit::{
    find::{Executable, Missing, Store},
    server::AnyServer,
};

use crate::{
    apt,
    block_on::block_on,
    command::cargo,
    docker::{Container, Engine},
    failure::Failure,
    say::say,
};

// An unoptimized build is several times faster, and the speed of the tool does not matter here.
const INSTALL_DENY: &str = "install --locked --debug cargo-deny";
const INSTALL_MUTANTS: &str = "install --locked --debug cargo-mutants";
const SKIP_VARIABLE: &str = "SYNCGUARD_SKIP";
/// The name of [`NODE_PROGRAMS`] in SYNCGUARD_SKIP.
const NODE: &str = "node";
/// The programs that run Google's own client against the Firestore emulator of this workspace.
const NODE_PROGRAMS: [Executable; 2] = [Executable::NODE, Executable::NPM];

/// Whether missing programs are installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Install {
    Nothing,
    Missing,
}

impl Install {
    pub(crate) fn from_flag(install: bool) -> Self {
        if install { Self::Missing } else { Self::Nothing }
    }
}

/// The program that runs the tests.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Runner {
    Nextest,
    CargoTest,
}

/// The environment of a test run.
#[derive(Debug)]
pub(crate) struct Provision {
    pub(crate) runner: Runner,
    /// The environment variables with the addresses of the servers.
    pub(crate) addresses: Vec<(String, OsString)>,
    // Dropped, and thereby stopped, at the end of the run.
    _containers: Vec<Container>,
    _servers: Vec<AnyServer>,
}

/// Provides what a test run needs.
pub(crate) fn provide(needed: &[Store], install: Install) -> Result<Provision, Failure> {
    let skipped = env::var(SKIP_VARIABLE).unwrap_or_default();
    let needed: Vec<Store> =
        needed.iter().copied().filter(|store| !names(&skipped, store.name())).collect();
    // Tests that stop or kill a server start their own, whatever the source of the shared server
    // is.
    if install == Install::Missing {
        let node = if names(&skipped, NODE) { Vec::new() } else { missing_of(&NODE_PROGRAMS) };
        apt::install(&[missing(&needed), node].concat())?;
    }
    report_node(&skipped);
    let engine = if needed.is_empty() { None } else { Engine::find() };
    let (mut addresses, mut containers, mut servers) = (Vec::new(), Vec::new(), Vec::new());
    for store in needed {
        let missing = missing(&[store]);
        match source(store.address().as_deref(), engine.as_ref(), &missing)? {
            Source::Environment => report(store, format_args!("that of {}", store.variable())),
            Source::Container(engine) => {
                let (container, url) = Container::start(engine, store)?;
                containers.push(container);
                report(store, format_args!("in a container, at {url}"));
                addresses.push((store.variable().to_owned(), url.into()));
            }
            Source::Programs if store.is_slow_to_start() => {
                let server = block_on(AnyServer::start(store))?;
                report(store, format_args!("{}, at {}", started(store), server.url()));
                addresses.push((store.variable().to_owned(), server.url().into()));
                servers.push(server);
            }
            Source::Programs => report(store, "started by the tests themselves"),
        }
    }
    Ok(Provision { runner: runner(), addresses, _containers: containers, _servers: servers })
}

/// The source of a server for the tests.
#[derive(Debug)]
enum Source<'a> {
    /// An address in the environment.
    Environment,
    Container(&'a Engine),
    /// The tests start their own, or this task starts one for all of them.
    Programs,
}

// The order of precedence: an address in the environment, a Docker engine with compose/, programs
// on PATH, including those that were just installed.
fn source<'a>(
    address: Option<&str>,
    engine: Option<&'a Engine>,
    missing: &[Missing],
) -> Result<Source<'a>, Failure> {
    let source = match (address, engine, missing) {
        (Some(_), _, _) => Source::Environment,
        (None, Some(engine), _) => Source::Container(engine),
        (None, None, []) => Source::Programs,
        (None, None, [missing, ..]) => return Err((*missing).into()),
    };
    // The tests must not stop or kill a server from the environment or in a container.
    if let [missing, ..] = missing {
        say(format_args!("tests that break a server of their own will fail, because {missing}"));
    }
    Ok(source)
}

pub(crate) fn missing(stores: &[Store]) -> Vec<Missing> {
    stores.iter().flat_map(|store| missing_of(store.programs())).collect()
}

fn missing_of(programs: &[Executable]) -> Vec<Missing> {
    programs.iter().filter_map(|program| program.find().err()).collect()
}

/// Describes the server that this task has started.
fn started(store: Store) -> &'static str {
    match store {
        Store::Firestore => "the double in crates/firestore-emulator, started for this run",
        _ => "started for this run",
    }
}

/// Reports whether the tests can run Node.
fn report_node(skipped: &str) {
    let what = match missing_of(&NODE_PROGRAMS).first() {
        _ if names(skipped, NODE) => format!("left out, because {SKIP_VARIABLE} names it"),
        Some(missing) => format!("tests that run it will fail, because {missing}"),
        None => "run by the tests themselves".to_owned(),
    };
    say(format_args!("{NODE:<9} {what}"));
}

fn names(list: &str, what: &str) -> bool {
    list.split(',').any(|name| name.trim() == what)
}

fn report(store: Store, what: impl std::fmt::Display) {
    say(format_args!("{:<9} {what}", store.name()));
}

fn runner() -> Runner {
    if cargo("nextest --version").succeeds() {
        say("runner    cargo nextest");
        Runner::Nextest
    } else {
        say("runner    cargo test, because cargo-nextest is not there");
        Runner::CargoTest
    }
}

/// Ensures that cargo-deny is installed.
pub(crate) fn deny(install: Install) -> Result<(), Failure> {
    if cargo("deny --version").succeeds() {
        return Ok(());
    }
    match install {
        Install::Missing => cargo(INSTALL_DENY).run(),
        Install::Nothing => Err(Failure::DenyMissing { install: cargo(INSTALL_DENY).to_string() }),
    }
}

/// Ensures that cargo-mutants is installed.
pub(crate) fn mutants(install: Install) -> Result<(), Failure> {
    if cargo("mutants --version").succeeds() {
        return Ok(());
    }
    match install {
        Install::Missing => cargo(INSTALL_MUTANTS).run(),
        Install::Nothing => {
            Err(Failure::MutantsMissing { install: cargo(INSTALL_MUTANTS).to_string() })
        }
    }
}

#[cfg(test)]
mod tests {
    use syncguard_testkit::find::SearchPath;

    use super::*;

    fn redis_missing() -> Vec<Missing> {
        vec![SearchPath::of(["/nowhere"]).find(&Executable::REDIS_SERVER).unwrap_err()]
    }

    #[test]
    fn an_address_takes_precedence_over_a_container_and_a_container_over_programs() {
        let (address, engine) = (Some("redis://127.0.0.1:6379"), Engine::at("docker"));
        for missing in [vec![], redis_missing()] {
            let found = source(address, Some(&engine), &missing).unwrap();
            assert!(matches!(found, Source::Environment));
            let found = source(None, Some(&engine), &missing).unwrap();
            assert!(matches!(found, Source::Container(_)));
        }
        assert!(matches!(source(None, None, &[]).unwrap(), Source::Programs));
    }

    #[test]
    fn the_emulator_of_this_workspace_is_used_if_there_is_no_other() {
        let missing = missing(&[Store::Firestore]);
        assert_eq!(missing, [], "nothing has to be installed");
        let engine = Engine::at("docker");
        let found = source(Some("127.0.0.1:8080"), Some(&engine), &missing).unwrap();
        assert!(matches!(found, Source::Environment));
        let found = source(None, Some(&engine), &missing).unwrap();
        assert!(matches!(found, Source::Container(_)));
        assert!(matches!(source(None, None, &missing).unwrap(), Source::Programs));
        assert!(started(Store::Firestore).contains("double"));
    }

    #[test]
    fn the_failure_of_a_missing_server_names_the_ways_to_get_it() {
        let failure = source(None, None, &redis_missing()).unwrap_err().to_string();
        assert!(failure.contains("REDIS_URL"), "{failure}");
        assert!(failure.contains("--install"), "{failure}");
    }

    #[test]
    fn a_store_is_skipped_only_by_its_exact_name() {
        assert!(names("sqlite, redis", Store::Redis.name()));
        assert!(!names("redis-cluster", Store::Redis.name()));
        assert!(!names("", Store::Redis.name()));
    }
}
