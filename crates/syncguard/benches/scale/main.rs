//! What very many locks, waits and processes cost.
//!
//! ```console
//! $ cargo bench -p syncguard --features sqlite,redis,postgres --bench scale -- [case ...] [option=value ...]
//! ```
//!
//! Without the name of a case, all are measured; servers are started here. The cases and their options:
//!
//! - `guards`: `guards` locks in memory, acquired together, are renewed for `seconds`.
//! - `waits`: `waits` tasks wait on Redis, each for a key of its own.
//! - `messages`: tasks wait on Redis, each for a key of its own, while `messages` messages arrive.
//! - `processes`: `processes` processes lock one key once, on Redis, SQLite and PostgreSQL, and `crowd` processes on
//!   Redis.
//! - `idle`: a task waits on SQLite for `seconds`.
//! - `counters`: the fence counters of `counters` keys that were used once are retired, on Redis and SQLite.
//!
//! What is called "before" was measured with the version before lines of waiters, on a similar machine.

#![expect(clippy::unwrap_used, reason = "a benchmark that fails panics")]

mod commands;
mod counted;
mod counters;
mod guards;
mod idle;
mod messages;
mod process;
mod processes;
mod waits;

use std::{collections::HashMap, env::current_exe, process::Command};

use syncguard_testkit::bench::Table;

fn main() {
    // Cargo itself passes `--bench`.
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    if let [case, url] = &words[..]
        && case == "process"
    {
        return runtime.block_on(processes::run(url));
    }
    if let [case, url, keys, count] = &words[..]
        && case == "publish"
    {
        return messages::publish(url, keys, count);
    }
    let (options, cases): (Vec<_>, Vec<_>) = words.iter().partition(|word| word.contains('='));
    let cases: Vec<&str> = match &cases[..] {
        [] => CASES.to_vec(),
        chosen => chosen.iter().map(|case| case.as_str()).collect(),
    };
    if let [case] = cases[..] {
        return runtime.block_on(measure(case, &Options::read(&words)));
    }
    // Each in a process of its own, because a case leaves memory and tasks behind.
    for case in cases {
        let mut process = Command::new(current_exe().unwrap());
        assert!(process.arg(case).args(&options).status().unwrap().success());
    }
}

const CASES: [&str; 6] = ["guards", "waits", "messages", "processes", "idle", "counters"];

async fn measure(case: &str, options: &Options) {
    let mut table = Table::default();
    match case {
        "guards" => guards::measure(options, &mut table).await,
        "waits" => waits::measure(options, &mut table).await,
        "messages" => messages::measure(options, &mut table).await,
        "processes" => processes::measure(options, &mut table).await,
        "idle" => idle::measure(options, &mut table).await,
        "counters" => counters::measure(options, &mut table).await,
        other => panic!("no case {other:?}, only {CASES:?}"),
    }
    table.print();
}

/// Whole numbers by their names.
struct Options(HashMap<String, u32>);

impl Options {
    fn read(words: &[String]) -> Self {
        let pairs = words.iter().filter_map(|word| word.split_once('='));
        Self(pairs.map(|(name, value)| (name.to_owned(), value.parse().unwrap())).collect())
    }

    fn of(&self, name: &str, default: u32) -> u32 {
        self.0.get(name).copied().unwrap_or(default)
    }
}
