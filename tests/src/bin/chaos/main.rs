//! Storms over each store: processes of several kinds acquire and release locks in all modes, and
//! are killed or stopped at any moment. The history of the holds and of the waits is then checked
//! for violations. Or soaks of each store: see the program `soak`.
//!
//! Run with `cargo xtask chaos`, which also builds the programs `contender` and `soak` beside this
//! one.

mod place;
mod soak;
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
    /// Soaks the stores instead, each for so many minutes
    #[arg(
        long,
        value_name = "MINUTES",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "10"
    )]
    soak: Option<u64>,
    /// The stores; all of them without a name
    #[arg(value_enum)]
    stores: Vec<Place>,
}

fn main() -> Outcome<ExitCode> {
    let Arguments { seconds, soak, stores } = Arguments::parse();
    let stores = if stores.is_empty() { Place::value_variants().to_vec() } else { stores };
    let runtime = Runtime::new()?;
    let mut exit = ExitCode::SUCCESS;
    for place in stores {
        let is_good = match soak {
            Some(minutes) => soak::run(&runtime, place, Duration::from_secs(60 * minutes))?,
            None => storm::run(&runtime, place, Duration::from_secs(seconds))?,
        };
        if !is_good {
            exit = ExitCode::FAILURE;
        }
    }
    Ok(exit)
}
