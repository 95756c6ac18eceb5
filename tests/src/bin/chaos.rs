//! Storms over each store: six processes acquire and release locks in all modes, and are killed or
//! stopped at any moment. The history of the holds is then checked for violations.
//!
//! Run with `cargo xtask chaos`, which also builds the program `contender` beside this one.

use std::{
    env,
    error::Error,
    io::{self, Write},
    num::NonZeroU32,
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::{Parser, ValueEnum};
use syncguard::backend::Mode;
use syncguard_testkit::{
    contender::Locking,
    find::Store,
    history::History,
    server::AnyServer,
    storm::{Crowd, Setting},
};
use tokio::runtime::Runtime;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// The number of holds without which a storm shows too little.
const MIN_HOLDS: usize = 1_000;

/// The number of locks that each process waits for or holds at the same time.
const TASKS: u32 = 4;

/// How many of the violations are printed.
const SHOWN: usize = 10;

#[derive(Debug, Parser)]
struct Arguments {
    /// How long the storm over each store lasts
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// The stores; all of them without a name
    #[arg(value_enum)]
    stores: Vec<Place>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Place {
    Sqlite,
    Redis,
    Postgres,
    Mariadb,
    Firestore,
}

fn main() -> Outcome<ExitCode> {
    let Arguments { seconds, stores } = Arguments::parse();
    let stores = if stores.is_empty() { Place::value_variants().to_vec() } else { stores };
    let runtime = Runtime::new()?;
    let mut exit = ExitCode::SUCCESS;
    for place in stores {
        if !storm(&runtime, place, Duration::from_secs(seconds))? {
            exit = ExitCode::FAILURE;
        }
    }
    Ok(exit)
}

/// Runs a storm and prints what it showed. Returns whether it showed enough, and no violation.
fn storm(runtime: &Runtime, place: Place, duration: Duration) -> Outcome<bool> {
    let directory = tempfile::tempdir()?;
    let server = place.server();
    let server = server.map(|store| runtime.block_on(AnyServer::start(store))).transpose()?;
    let (url, environment) = match (&server, place.server()) {
        (Some(server), Some(store @ Store::Firestore)) => {
            let variable = (store.variable().to_owned(), server.url().to_owned());
            ("firestore://chaos".to_owned(), vec![variable])
        }
        (Some(server), _) => (server.url().to_owned(), Vec::new()),
        (None, _) => {
            let file = directory.path().join("locks.db");
            (format!("sqlite:{}", file.display()), Vec::new())
        }
    };
    let setting = Setting {
        program: env::current_exe()?.with_file_name("contender").into(),
        environment,
        url,
        journal: directory.path().join("journal"),
        modes: modes(),
        tasks: TASKS,
        locking: Locking::Enabled,
    };
    let mut crowd = Crowd::start(setting)?;
    let start = Instant::now();
    while start.elapsed() < duration {
        crowd.disrupt()?;
    }
    let stops = crowd.stopped_holders();
    report(place, &crowd.finish()?, stops)
}

/// Modes that exclude each other, two of which limit their holders.
fn modes() -> Vec<Mode> {
    let permits = |number| Mode::Shared { permits: NonZeroU32::new(number) };
    vec![Mode::Exclusive, Mode::SHARED, permits(2), permits(3)]
}

fn report(place: Place, history: &History, stops: usize) -> Outcome<bool> {
    let (holds, flaws) = (history.entries().len(), history.flaws());
    let (shared, deaths) = (history.shared_at_once(), history.deaths_inside());
    let mut is_enough = holds >= MIN_HOLDS && shared > 0 && deaths > 0 && stops > 0;
    let mut output = io::stdout().lock();
    let name = place.to_possible_value().map(|value| value.get_name().to_owned());
    writeln!(output, "{}: {holds} holds", name.unwrap_or_default())?;
    for mode in modes() {
        let count = history.entries().iter().filter(|hold| hold.mode == mode).count();
        writeln!(output, "  in {mode}: {count}")?;
        is_enough &= count > 0;
    }
    writeln!(output, "  beside another hold of the key: {shared}")?;
    writeln!(output, "  holders killed: {deaths}, stopped past their ttl: {stops}")?;
    writeln!(output, "  violations: {}", flaws.len())?;
    for flaw in flaws.iter().take(SHOWN) {
        writeln!(output, "    {flaw}")?;
    }
    if !is_enough {
        writeln!(output, "  a zero, or fewer than {MIN_HOLDS} holds, shows too little")?;
    }
    Ok(flaws.is_empty() && is_enough)
}

impl Place {
    /// Returns the server that it needs, if it needs one.
    fn server(self) -> Option<Store> {
        match self {
            Self::Sqlite => None,
            Self::Redis => Some(Store::Redis),
            Self::Postgres => Some(Store::Postgres),
            Self::Mariadb => Some(Store::Mariadb),
            Self::Firestore => Some(Store::Firestore),
        }
    }
}
