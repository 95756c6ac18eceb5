//! Servers that keep running, for manual use and for tests.

use std::{env, path::PathBuf};

use clap::{Args, Subcommand};
use syncguard_testkit::{find::Store, server::PersistentServer};

use crate::{
    apt,
    block_on::block_on,
    command::ROOT,
    docker::{Engine, Project},
    failure::Failure,
    provision::{Install, missing},
    say::say,
    test::SERVERS,
};

/// What is done to the servers.
#[derive(Debug, Subcommand)]
pub(crate) enum Task {
    /// Starts servers, and prints the variables that lead the tests to them
    ///
    /// In containers where a Docker engine is there, by programs on PATH otherwise; on the usual
    /// port, or on a free one
    Up {
        #[command(flatten)]
        stores: Stores,
        /// Install with apt-get, on Debian or Ubuntu, what is needed and not there
        #[arg(long)]
        install: bool,
    },
    /// Stops servers that `up` has started; their data stay
    Down {
        #[command(flatten)]
        stores: Stores,
    },
    /// Says which servers are running
    Status {
        #[command(flatten)]
        stores: Stores,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Stores {
    /// redis, postgres, mariadb, firestore; without a name, those that the tests need, or that are running
    #[arg(value_parser = store)]
    names: Vec<Store>,
}

impl Stores {
    fn or<'a>(&'a self, default: &'a [Store]) -> &'a [Store] {
        if self.names.is_empty() { default } else { &self.names }
    }
}

pub(crate) fn run(task: &Task) -> Result<(), Failure> {
    match task {
        Task::Up { stores, install } => up(stores.or(SERVERS), Install::from_flag(*install)),
        Task::Down { stores } => down(stores.or(&Store::ALL)),
        Task::Status { stores } => status(stores.or(&Store::ALL)),
    }
}

fn up(stores: &[Store], install: Install) -> Result<(), Failure> {
    let engine = Engine::find();
    if engine.is_none() && install == Install::Missing {
        apt::install(&missing(stores))?;
    }
    for store in stores {
        let url = match &engine {
            Some(engine) => Project::persistent(engine, *store).up()?,
            None => {
                let running =
                    block_on(PersistentServer::start(*store, &directory(*store), store.port()))?;
                running.url().to_owned()
            }
        };
        say(format_args!("export {}={url}", store.variable()));
    }
    Ok(())
}

fn down(stores: &[Store]) -> Result<(), Failure> {
    let engine = Engine::find();
    for store in stores {
        if let Some(running) = PersistentServer::find(*store, &directory(*store))? {
            say(format_args!("{}: stopping process {}", store.name(), running.pid()));
            block_on(running.stop())?;
        }
        if let Some(engine) = &engine {
            Project::persistent(engine, *store).down()?;
        }
    }
    Ok(())
}

fn status(stores: &[Store]) -> Result<(), Failure> {
    let engine = Engine::find();
    for store in stores {
        let name = store.name();
        let contained = match &engine {
            Some(engine) => Project::persistent(engine, *store).running()?,
            None => None,
        };
        match (PersistentServer::find(*store, &directory(*store))?, contained) {
            (Some(running), _) => {
                let (url, pid) = (running.url(), running.pid());
                say(format_args!("{name}: {url}, process {pid}"));
            }
            (None, Some(url)) => say(format_args!("{name}: {url}, in a container")),
            (None, None) => say(format_args!("{name}: not running")),
        }
    }
    Ok(())
}

/// Returns the directory of a server that is started by a program.
fn directory(store: Store) -> PathBuf {
    let target = env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let target = target.unwrap_or_else(|| PathBuf::from("target"));
    PathBuf::from(ROOT).join(target).join("services").join(store.name())
}

fn store(name: &str) -> Result<Store, String> {
    let found = Store::ALL.into_iter().find(|store| store.name() == name);
    found.ok_or_else(|| "there are redis, postgres, mariadb and firestore".to_owned())
}
