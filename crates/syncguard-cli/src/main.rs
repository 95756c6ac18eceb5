#![doc = include_str!("../README.md")]

#[cfg(not(unix))]
compile_error!("the syncguard program steers its command by Unix signals and process groups");

mod answer;
mod arguments;
mod child;
mod configuration;
mod diagnosis;
mod directories;
mod display;
mod doctor;
mod documents;
mod exit;
mod failure;
mod held;
mod job;
mod launch;
mod leader;
mod list;
mod opening;
mod prune;
mod record;
mod release;
mod report;
mod run;
#[cfg(any(feature = "mysql", feature = "postgres"))]
mod schema;
mod settings;
mod signals;
mod status;
mod store;
mod supervise;
mod table;
mod terminal;
mod usage;
mod verbosity;
mod wait;
mod waiting;
mod watch;

use std::{env, process::ExitCode};

use clap::Parser;
use tokio::runtime;

use arguments::{Arguments, Launch, Verb};
use exit::Exit;
use failure::Failure;

fn main() -> ExitCode {
    let is_child = env::args_os().nth(1).is_some_and(|first| first == Launch::NAME);
    let exit = if is_child {
        Launch::try_parse_from(env::args_os().skip(1)).map(|arguments| launch::launch(&arguments))
    } else {
        Arguments::try_parse().map(|arguments| dispatch(arguments.verb))
    };
    let exit = exit.unwrap_or_else(|error| usage::report(&error));
    report::flush();
    exit.end()
}

fn dispatch(verb: Verb) -> Exit {
    let result = match verb {
        Verb::Run(arguments) => block_on(run::run(arguments)),
        Verb::Leader(arguments) => block_on(leader::leader(arguments)),
        Verb::Wait(arguments) => block_on(wait::wait(&arguments)),
        Verb::List(arguments) => block_on(list::list(&arguments)),
        Verb::Release(arguments) => block_on(release::release(&arguments)),
        Verb::Doctor(arguments) => block_on(doctor::doctor(&arguments)),
        Verb::Hash(arguments) => documents::hash(&arguments),
        Verb::Completions(arguments) => documents::completions(&arguments),
        Verb::Man(arguments) => documents::man(&arguments),
        Verb::Prune(arguments) => block_on(prune::prune(&arguments)),
        #[cfg(any(feature = "mysql", feature = "postgres"))]
        Verb::Schema(arguments) => block_on(schema::schema(&arguments)),
        Verb::Status(arguments) => block_on(status::status(&arguments)),
    };
    result.unwrap_or_else(|failure| {
        report::say(&failure);
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
