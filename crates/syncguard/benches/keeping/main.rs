//! Whether what is held stays held: while many ask for other locks, and over a server that stands still.
//!
//! ```console
//! $ cargo bench -p syncguard --all-features --bench keeping -- <store> <scenario> [option=value ...]
//! ```
//!
//! The store is `postgres`, `mysql`, `redis` or `firestore`; its server is started here. The scenario is
//! one of:
//!
//! - `busy`: behind a network of 20 ms each way, `held` locks with a ttl of 10 s are renewed for
//!   `seconds` beside `tasks` that acquire and release other locks all the time.
//! - `stall`: `held` locks with a ttl of `ttl` seconds are renewed, the server stands still for `seconds`
//!   and comes back. After another ttl, those that were lost are counted.
//!
//! Each prints one line of what was asked for, and one a second of what is going on.

#![expect(clippy::unwrap_used, reason = "a benchmark that fails panics")]
#![expect(clippy::print_stdout, reason = "it prints its results")]

mod busy;
mod place;
mod stall;

use std::collections::HashMap;

fn main() {
    // Cargo itself passes `--bench`.
    let arguments: Vec<String> =
        std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let [store, scenario, options @ ..] = &arguments[..] else {
        println!("usage: keeping <store> <scenario> [option=value ...]");
        return;
    };
    let options = Options::read(options);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let place = place::Place::start(store).await;
        match scenario.as_str() {
            "busy" => busy::measure(&place, &options).await,
            "stall" => stall::measure(&place, &options).await,
            other => panic!("no scenario is called {other}"),
        }
    });
}

/// Whole numbers by their names.
struct Options(HashMap<String, u64>);

impl Options {
    fn read(words: &[String]) -> Self {
        let pairs = words.iter().map(|word| word.split_once('=').unwrap());
        Self(pairs.map(|(name, value)| (name.to_owned(), value.parse().unwrap())).collect())
    }

    fn of(&self, name: &str, default: u64) -> u64 {
        self.0.get(name).copied().unwrap_or(default)
    }
}
