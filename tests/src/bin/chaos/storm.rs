//! Storms: six or eight processes of up to three kinds.

use std::{
    env,
    io::{self, Write},
    num::NonZeroU32,
    time::{Duration, Instant},
};

use syncguard::backend::Mode;
use syncguard_testkit::{
    history::{Client, Flaw, History},
    storm::{Crowd, EXPIRY, MAX_HOLE, Setting},
};
use tokio::runtime::Runtime;

use crate::{Outcome, place::Place};

/// The number of holds without which a storm shows too little.
const MIN_HOLDS: usize = 1_000;

/// The number of locks that each process waits for or holds at the same time.
const TASKS: u32 = 4;

/// How many of the violations are printed.
const SHOWN: usize = 10;

/// Runs a storm and prints what it showed. Returns whether it showed enough, and no violation.
pub(crate) fn run(runtime: &Runtime, place: Place, duration: Duration) -> Outcome<bool> {
    let store = runtime.block_on(place.open())?;
    let setting = Setting {
        program: env::current_exe()?.with_file_name("contender").into(),
        environment: store.environment.clone(),
        url: store.url.clone(),
        journal: store.directory().join("journal"),
        modes: modes(),
        tasks: TASKS,
        clients: clients(place),
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

/// The kinds of the processes. The TypeScript client and a line exist in the same stores here.
fn clients(place: Place) -> Vec<Client> {
    let ours = [[Client::Waiting; 4].as_slice(), &[Client::Polling; 2]].concat();
    let theirs = if place.has_line() { &[Client::TypeScript; 2][..] } else { &[] };
    [&ours, theirs].concat()
}

fn report(place: Place, history: &History, stops: usize) -> Outcome<bool> {
    let (holds, deaths) = (history.entries().len(), history.deaths_inside());
    let (shared, in_line) = (history.shared_at_once(), history.deaths_waiting(Client::Waiting));
    let mut counts = vec![shared, deaths, stops, in_line, holds / MIN_HOLDS];
    let mut output = io::stdout().lock();
    writeln!(output, "{place}: {holds} holds")?;
    for mode in modes() {
        let count = history.entries().iter().filter(|hold| hold.mode == mode).count();
        writeln!(output, "  in {mode}: {count}")?;
        counts.push(count);
    }
    let mut kinds = clients(place);
    kinds.dedup();
    for client in kinds {
        let (count, longest) = (history.holds_of(client), history.longest_wait(client));
        let longest = longest.unwrap_or_default().as_millis();
        writeln!(output, "  of {client}: {count}; their longest wait: {longest} ms")?;
        counts.push(count);
    }
    writeln!(output, "  beside another hold of the key: {shared}")?;
    writeln!(output, "  holders killed: {deaths}, stopped past their ttl: {stops}")?;
    let waiting = if place.has_line() { "in line" } else { "waiting" };
    writeln!(output, "  processes killed {waiting}: {in_line}")?;
    let holes = history.holes(EXPIRY);
    if let Some(hole) = holes.first() {
        writeln!(output, "  longest time for which {hole} (limit: {MAX_HOLE:?})")?;
    }
    let holes = holes.into_iter().filter(|hole| hole.duration() > MAX_HOLE);
    let flaws: Vec<_> = history.flaws().into_iter().chain(holes.map(Flaw::Hole)).collect();
    writeln!(output, "  violations: {}", flaws.len())?;
    for flaw in flaws.iter().take(SHOWN) {
        writeln!(output, "    {flaw}")?;
    }
    let is_enough = counts.iter().all(|count| *count > 0);
    if !is_enough {
        writeln!(output, "  a zero, or fewer than {MIN_HOLDS} holds, shows too little")?;
    }
    Ok(flaws.is_empty() && is_enough)
}
