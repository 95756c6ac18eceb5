//! Storms over each store: processes of several kinds acquire and release locks in all modes, and
//! are killed or stopped at any moment. The history of the holds and of the waits is then checked
//! for violations.
//!
//! Run with `cargo xtask chaos`, which also builds the program `contender` beside this one.

mod place;
mod storm;

use std::{error::Error, process::ExitCode, time::Duration};

use clap::{Parser, ValueEnum};
use tokio::runtime::Runtime;

use crate::place::Place;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

#[derive(Debug, Parser)]
struct Arguments {
    /// How long the storm over each store lasts
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// The stores; all of them without a name
    #[arg(value_enum)]
    stores: Vec<Place>,
}

fn main() -> Outcome<ExitCode> {
    let Arguments { seconds, stores } = Arguments::parse();
    let stores = if stores.is_empty() { Place::value_variants().to_vec() } else { stores };
    let runtime = Runtime::new()?;
    let mut exit = ExitCode::SUCCESS;
    for place in stores {
        if !storm::run(&runtime, place, Duration::from_secs(seconds))? {
            exit = ExitCode::FAILURE;
        }
    }
    Ok(exit)
}
