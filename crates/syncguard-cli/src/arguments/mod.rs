//! The command-line arguments.

mod duration;
mod launch;
mod output;
mod prune;
mod run;
mod schema;
mod status;
mod store;

use clap::{Parser, Subcommand};

pub(crate) use self::{
    launch::{Launch, Placement},
    output::{Format, OutputFormat},
    prune::Prune,
    run::Run,
    schema::{Schema, SchemaAction},
    status::Status,
    store::Store,
};

const EXAMPLES: &str = "\
Examples:
  syncguard run --key nightly-report -- ./report.sh
  syncguard run --key deploy --no-wait --owner ci-7 -- make deploy
  syncguard run --key gpu --permits 4 -c 'train | tee log'
  syncguard status --key deploy
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
    Status(Status),
    Prune(Prune),
    Schema(Schema),
    #[command(hide = true)]
    Launch(Launch),
}
