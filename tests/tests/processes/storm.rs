//! Processes that acquire and release locks, and are killed or stopped at any moment.

use std::{
    num::NonZeroU32,
    time::{Duration, Instant},
};

use sqlx::{ConnectOptions, sqlite::SqliteConnectOptions};
use syncguard::backend::Mode;
use syncguard_testkit::{
    history::{Client, Flaw, History},
    storm::{Crowd, EXPIRY, MAX_HOLE, Setting},
};

use super::{CONTENDER, SharedDir};

/// The number of holds after which a storm may end.
const MIN_HOLDS: usize = 1_000;

/// The number of holders that must have been killed.
const MIN_DEATHS: usize = 5;

/// The number of holders that must have been stopped past their ttl.
const MIN_STOPS: usize = 2;

/// The longest duration of a storm.
const STORM_TIMEOUT: Duration = Duration::from_secs(90);

const CLIENTS: [Client; 6] = [
    Client::Waiting,
    Client::Waiting,
    Client::Waiting,
    Client::Waiting,
    Client::Polling,
    Client::Polling,
];

/// Runs a storm until there were enough holds, kills and stops.
fn storm(clients: &[Client], modes: &[Mode]) -> (SharedDir, History) {
    let dir = SharedDir::new();
    let (program, url, journal) = (CONTENDER.into(), dir.url(), dir.journal());
    let (modes, tasks) = (modes.to_vec(), modes.len() as u32);
    let (environment, clients) = (Vec::new(), clients.to_vec());
    let setting = Setting { program, environment, url, journal, modes, tasks, clients };
    let mut crowd = Crowd::start(setting).unwrap();
    let start = Instant::now();
    loop {
        crowd.disrupt().unwrap();
        let history = crowd.history().unwrap();
        let (holds, deaths) = (history.entries().len(), history.deaths_inside());
        let stops = crowd.stopped_holders();
        if holds >= MIN_HOLDS && deaths >= MIN_DEATHS && stops >= MIN_STOPS {
            break;
        }
        let seen = format!("{holds} stays, {deaths} holders died, {stops} were stopped");
        assert!(start.elapsed() < STORM_TIMEOUT, "{seen}");
    }
    let history = crowd.finish().unwrap();
    (dir, history)
}

/// Counts the errors that the integrity check of SQLite reports for the file.
async fn integrity_errors(dir: &SharedDir) -> i64 {
    let options = SqliteConnectOptions::new().filename(dir.store());
    let mut file = options.connect().await.unwrap();
    let sql = "SELECT count(*) FROM pragma_integrity_check WHERE integrity_check <> 'ok'";
    sqlx::query_scalar(sql).fetch_one(&mut file).await.unwrap()
}

async fn assert_no_flaws((dir, history): (SharedDir, History)) -> History {
    let holes = history.holes(EXPIRY).into_iter().filter(|hole| hole.duration() > MAX_HOLE);
    let flaws = history.flaws().into_iter().chain(holes.map(Flaw::Hole));
    let flaws: Vec<_> = flaws.map(|flaw| flaw.to_string()).collect();
    assert!(flaws.is_empty(), "{flaws:#?}");
    assert_eq!(integrity_errors(&dir).await, 0);
    history
}

#[tokio::test]
async fn processes_that_are_killed_or_stopped_at_any_moment_never_hold_a_lock_together() {
    assert_no_flaws(storm(&CLIENTS, &[Mode::Exclusive])).await;
}

#[tokio::test]
async fn readers_writers_and_holders_of_permits_that_are_killed_or_stopped_share_as_they_may() {
    let permits = |number| Mode::Shared { permits: NonZeroU32::new(number) };
    let modes = [Mode::Exclusive, Mode::SHARED, permits(2), permits(3)];
    let history = assert_no_flaws(storm(&CLIENTS, &modes)).await;
    for mode in modes {
        assert!(history.entries().iter().any(|hold| hold.mode == mode), "nobody was in {mode}");
    }
    assert!(history.shared_at_once() > 0);
}

#[test]
fn overlaps_of_processes_that_do_not_lock_are_detected() {
    let (_, history) = storm(&[Client::Unlocked; 6], &[Mode::Exclusive]);
    let flaws = history.flaws();
    assert!(flaws.iter().any(|flaw| matches!(flaw, Flaw::Overlap(..))), "{flaws:?}");
}
