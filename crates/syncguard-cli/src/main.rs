#![doc = include_str!("../README.md")]

#[cfg(not(unix))]
compile_error!("the syncguard program steers its command by Unix signals and process groups");

mod arguments;
mod child;
mod display;
mod exit;
mod failure;
mod held;
mod job;
mod launch;
mod opening;
mod prune;
mod report;
mod run;
mod schema;
mod signals;
mod status;
mod store;
mod supervise;
mod terminal;
mod usage;
mod verbosity;
mod waiting;
mod watch;

use std::process::ExitCode;

use clap::Parser;
use tokio::runtime;

use arguments::{Arguments, Verb};
use exit::Exit;
use failure::Failure;

fn main() -> ExitCode {
    let exit = match Arguments::try_parse() {
        Ok(arguments) => dispatch(arguments.verb),
        Err(error) => usage::report(&error),
    };
    report::flush();
    exit.end()
}

fn dispatch(verb: Verb) -> Exit {
    let result = match verb {
        Verb::Launch(arguments) => return launch::launch(&arguments),
        Verb::Run(arguments) => block_on(run::run(&arguments)),
        Verb::Prune(arguments) => block_on(prune::prune(&arguments)),
        Verb::Schema(arguments) => block_on(schema::schema(&arguments)),
        Verb::Status(arguments) => block_on(status::status(&arguments)),
    };
    result.unwrap_or_else(|failure| {
        report::failure(&failure);
        failure.exit()
    })
}

/// Runs `work` on the thread that lives as long as the process: the kernel ends a child together
/// with the thread that started it.
fn block_on(work: impl Future<Output = Result<Exit, Failure>>) -> Result<Exit, Failure> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(Failure::Runtime)?;
    let result = runtime.block_on(work);
    // A dropped runtime would wait for a name that is still being resolved.
    runtime.shutdown_background();
    result
}
