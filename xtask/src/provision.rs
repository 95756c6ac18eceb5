//! Brings up what a task needs.

use std::{env, ffi::OsString};

use syncguard_testkit::{
    find::{Executable, Missing, Store},
    server::AnyServer,
};

use crate::{
    apt,
    command::cargo,
    docker::{Container, Engine},
    failure::Failure,
    say::say,
    wait::wait,
};

// Unoptimised it is built several times faster, and its own speed does not matter here.
const INSTALL_DENY: &str = "install --locked --debug cargo-deny";
const INSTALL_MUTANTS: &str = "install --locked --debug cargo-mutants";
const SKIPPED: &str = "SYNCGUARD_SKIP";
/// What SYNCGUARD_SKIP calls [`NODE_PROGRAMS`].
const NODE: &str = "node";
/// With these, Google's own client is run against the double of Firestore.
const NODE_PROGRAMS: [Executable; 2] = [Executable::NODE, Executable::NPM];

/// What may be done about something that is needed and not there.
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

/// What a test run was given.
#[derive(Debug)]
pub(crate) struct Provision {
    pub(crate) runner: Runner,
    /// Variables that tell the tests where their servers are.
    pub(crate) addresses: Vec<(String, OsString)>,
    // They end when the run is over.
    _containers: Vec<Container>,
    _servers: Vec<AnyServer>,
}

/// Brings up what a test run needs.
pub(crate) fn provide(needed: &[Store], install: Install) -> Result<Provision, Failure> {
    let skipped = env::var(SKIPPED).unwrap_or_default();
    let needed: Vec<Store> =
        needed.iter().copied().filter(|store| !names(&skipped, store.name())).collect();
    // Wherever a server comes from, tests that break one start it themselves.
    if install == Install::Missing {
        let node = if names(&skipped, NODE) { Vec::new() } else { missing_of(&NODE_PROGRAMS) };
        apt::install(&[missing(&needed), node].concat())?;
    }
    node(&skipped);
    let engine = if needed.is_empty() { None } else { Engine::find() };
    let (mut addresses, mut containers, mut servers) = (Vec::new(), Vec::new(), Vec::new());
    for store in needed {
        let missing = missing(&[store]);
        match source(store.address().as_deref(), engine.as_ref(), &missing)? {
            Source::Environment => tell(store, format_args!("that of {}", store.variable())),
            Source::Container(engine) => {
                let (container, url) = Container::start(engine, store)?;
                containers.push(container);
                tell(store, format_args!("in a container, at {url}"));
                addresses.push((store.variable().to_owned(), url.into()));
            }
            Source::Programs if store.is_slow_to_start() => {
                let server = wait(AnyServer::start(store))?;
                tell(store, format_args!("{}, at {}", started(store), server.url()));
                addresses.push((store.variable().to_owned(), server.url().into()));
                servers.push(server);
            }
            Source::Programs => tell(store, "started by the tests themselves"),
        }
    }
    Ok(Provision { runner: runner(), addresses, _containers: containers, _servers: servers })
}

/// Where the tests find a server.
#[derive(Debug)]
enum Source<'a> {
    /// At an address that they are given by whoever runs them.
    Environment,
    Container(&'a Engine),
    /// They start their own, or this task starts one for all of them.
    Programs,
}

// The order of finding a server: an address in the environment, a Docker engine with compose/,
// programs on PATH, those among them that were just installed.
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
    // Such a server is not theirs to break.
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

/// Says what this task has started.
fn started(store: Store) -> &'static str {
    match store {
        Store::Firestore => "the double in crates/firestore-emulator, started for this run",
        _ => "started for this run",
    }
}

/// Says whether the tests can run Node.
fn node(skipped: &str) {
    let what = match missing_of(&NODE_PROGRAMS).first() {
        _ if names(skipped, NODE) => format!("left out, because {SKIPPED} names it"),
        Some(missing) => format!("tests that run it will fail, because {missing}"),
        None => "run by the tests themselves".to_owned(),
    };
    say(format_args!("{NODE:<9} {what}"));
}

fn names(list: &str, what: &str) -> bool {
    list.split(',').any(|name| name.trim() == what)
}

fn tell(store: Store, what: impl std::fmt::Display) {
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

/// Makes sure that cargo-deny can be run.
pub(crate) fn deny(install: Install) -> Result<(), Failure> {
    if cargo("deny --version").succeeds() {
        return Ok(());
    }
    match install {
        Install::Missing => cargo(INSTALL_DENY).run(),
        Install::Nothing => Err(Failure::DenyMissing { install: cargo(INSTALL_DENY).to_string() }),
    }
}

/// Makes sure that cargo-mutants can be run.
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

    fn nowhere() -> Vec<Missing> {
        vec![SearchPath::of(["/nowhere"]).find(&Executable::REDIS_SERVER).unwrap_err()]
    }

    #[test]
    fn an_address_goes_before_a_container_and_that_before_programs() {
        let (address, engine) = (Some("redis://127.0.0.1:6379"), Engine::at("docker"));
        for missing in [vec![], nowhere()] {
            let found = source(address, Some(&engine), &missing).unwrap();
            assert!(matches!(found, Source::Environment));
            let found = source(None, Some(&engine), &missing).unwrap();
            assert!(matches!(found, Source::Container(_)));
        }
        assert!(matches!(source(None, None, &[]).unwrap(), Source::Programs));
    }

    #[test]
    fn the_double_of_firestore_stands_in_where_there_is_no_other_emulator() {
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
    fn a_server_that_cannot_be_had_is_a_failure_that_names_the_ways_to_it() {
        let failure = source(None, None, &nowhere()).unwrap_err().to_string();
        assert!(failure.contains("REDIS_URL"), "{failure}");
        assert!(failure.contains("--install"), "{failure}");
    }

    #[test]
    fn a_store_is_skipped_by_its_name_alone() {
        assert!(names("sqlite, redis", Store::Redis.name()));
        assert!(!names("redis-cluster", Store::Redis.name()));
        assert!(!names("", Store::Redis.name()));
    }
}
