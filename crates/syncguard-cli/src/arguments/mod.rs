//! The command-line arguments.

mod doctor;
mod documents;
mod duration;
mod launch;
mod leader;
mod list;
mod output;
mod prune;
mod release;
mod run;
#[cfg(any(feature = "mysql", feature = "postgres"))]
mod schema;
mod status;
mod store;
mod wait;
mod work;

use clap::{Parser, Subcommand};

pub(crate) use self::{
    doctor::Doctor,
    documents::{Completions, Hash, Man},
    launch::{Launch, Placement},
    leader::Leader,
    list::List,
    output::{Format, OutputFormat},
    prune::Prune,
    release::{Consent, Release},
    run::Run,
    status::Status,
    store::Store,
    wait::Wait,
    work::Work,
};

#[cfg(any(feature = "mysql", feature = "postgres"))]
pub(crate) use self::schema::{Schema, SchemaAction};

const EXAMPLES: &str = "\
Examples:
  syncguard run --key nightly-report -- ./report.sh
  syncguard run --key deploy --no-wait --owner ci-7 -- make deploy
  syncguard run --key gpu --permits 4 -c 'train | tee log'
  syncguard leader --key scheduler -- ./scheduler
  syncguard status --key deploy
  syncguard list deploy: --watch
  syncguard release deploy --force
  syncguard doctor --store redis://cache:6379
  syncguard prune --counters-unused-for 30d";

/// Runs commands under a lock that all processes with the same store agree on.
#[derive(Debug, Parser)]
#[command(name = "syncguard", version, after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    Run(Run),
    Leader(Leader),
    Wait(Wait),
    Status(Status),
    List(List),
    Release(Release),
    Prune(Prune),
    #[cfg(any(feature = "mysql", feature = "postgres"))]
    Schema(Schema),
    Doctor(Doctor),
    Hash(Hash),
    Completions(Completions),
    Man(Man),
}
