//! Soaks: one process for each store.

use std::{
    env,
    io::{self, Write},
    process::Command,
    time::Duration,
};

use tokio::runtime::Runtime;

use crate::{Outcome, place::Place};

/// Runs a soak, which prints what it showed. Returns whether nothing was left over.
pub(crate) fn run(runtime: &Runtime, place: Place, duration: Duration) -> Outcome<bool> {
    let store = runtime.block_on(place.open())?;
    writeln!(io::stdout(), "{place}: soak for {} s", duration.as_secs())?;
    let mut soak = Command::new(env::current_exe()?.with_file_name("soak"));
    soak.envs(store.environment.iter().map(|(name, value)| (name, value)));
    soak.arg("--seconds").arg(duration.as_secs().to_string()).arg(&store.url);
    Ok(soak.status()?.success())
}
