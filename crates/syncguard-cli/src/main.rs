#![doc = include_str!("../README.md")]

#[cfg(not(unix))]
compile_error!("the syncguard program steers its command by Unix signals and process groups");

mod arguments;
mod child;
mod exit;
mod failure;
mod job;
mod launch;
mod report;
mod run;
mod schema;
mod shown;
mod signals;
mod status;
mod store;
mod supervise;
mod terminal;
mod watch;

use std::process::ExitCode;

use clap::Parser;
use tokio::runtime;

use arguments::{Arguments, Verb};
use exit::Exit;
use failure::Failure;

fn main() -> ExitCode {
    let exit = match Arguments::try_parse() {
        Ok(arguments) => carry_out(arguments.verb),
        Err(refusal) => report::refused(&refusal),
    };
    report::flush();
    exit.end()
}

fn carry_out(verb: Verb) -> Exit {
    let result = match verb {
        Verb::Launch(arguments) => return launch::launch(&arguments),
        Verb::Run(arguments) => on_this_thread(run::run(&arguments)),
        Verb::Schema(arguments) => on_this_thread(schema::schema(&arguments)),
        Verb::Status(arguments) => on_this_thread(status::status(&arguments)),
    };
    result.unwrap_or_else(|failure| {
        report::failure(&failure);
        failure.exit()
    })
}

/// Runs `work` on the thread that lives as long as the process: the kernel ends a child together
/// with the thread that started it.
fn on_this_thread(work: impl Future<Output = Result<Exit, Failure>>) -> Result<Exit, Failure> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(Failure::Runtime)?;
    let result = runtime.block_on(work);
    // A dropped runtime would wait for a name that is still being resolved.
    runtime.shutdown_background();
    result
}
