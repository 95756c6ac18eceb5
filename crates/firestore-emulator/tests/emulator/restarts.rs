//! Stopping, starting again, and the server's clock.

use std::time::{Duration, SystemTime};

use firestore_emulator::{ClockOffset, Emulator, Fault};
use tonic::Code;

use super::{begin, code_of, commit, commit_in, connect, read, read_in, set, start, value};

#[tokio::test]
async fn documents_survive_a_restart_and_transactions_do_not() {
    let (mut emulator, client) = start().await;
    let address = emulator.address();
    commit(&client, &[set("a", 1)]).await.unwrap();
    let before = read(&client, "a").await.unwrap();
    let transaction = begin(&client, None).await;
    read_in(&client, &transaction, "a").await.unwrap();
    emulator.stop().await;
    let refused = commit(&connect(&emulator), &[set("a", 2)]).await;
    assert_eq!(code_of(refused), Code::Unavailable);
    emulator.restart().await.unwrap();
    assert_eq!(emulator.address(), address);
    let client = connect(&emulator);
    assert_eq!(read(&client, "a").await, Some(before));
    let gone = commit_in(&client, &transaction, &[set("a", 3)]).await;
    assert_eq!(code_of(gone), Code::InvalidArgument);
    commit(&client, &[set("a", 4)]).await.unwrap();
}

#[tokio::test]
async fn a_held_commit_is_lost_when_the_server_stops() {
    let (mut emulator, client) = start().await;
    let held = emulator.inject(Fault::hold());
    let call = tokio::spawn(async move { commit(&client, &[set("a", 1)]).await });
    held.happened(1).await;
    emulator.restart().await.unwrap();
    held.release();
    call.await.unwrap().unwrap_err();
    let client = connect(&emulator);
    commit(&client, &[set("b", 1)]).await.unwrap();
    assert_eq!(value(&client, "a").await, None);
}

#[tokio::test]
async fn a_dropped_double_stops_serving() {
    let (emulator, client) = start().await;
    commit(&client, &[set("a", 1)]).await.unwrap();
    drop(emulator);
    commit(&client, &[set("a", 2)]).await.unwrap_err();
}

#[tokio::test]
async fn the_clock_of_the_server_has_an_offset_from_that_of_its_host() {
    const APART: Duration = Duration::from_secs(90);
    for offset in [ClockOffset::Ahead(APART), ClockOffset::Behind(APART)] {
        let emulator = Emulator::builder().clock_offset(offset).start().await.unwrap();
        let client = connect(&emulator);
        let here = SystemTime::now();
        let there = commit(&client, &[set("a", 1)]).await.unwrap().commit_time.unwrap();
        let there = SystemTime::try_from(there).unwrap();
        let apart = match offset {
            ClockOffset::Ahead(_) => there.duration_since(here),
            ClockOffset::Behind(_) => here.duration_since(there),
        };
        let apart = apart.unwrap();
        assert!(apart.abs_diff(APART) < Duration::from_secs(30), "{apart:?}");
    }
}

#[tokio::test]
async fn a_clock_that_is_set_ahead_takes_effect_immediately() {
    let (emulator, client) = start().await;
    let before = commit(&client, &[set("a", 1)]).await.unwrap().commit_time.unwrap();
    emulator.set_clock_offset(ClockOffset::Ahead(Duration::from_secs(90)));
    let after = commit(&client, &[set("a", 2)]).await.unwrap().commit_time.unwrap();
    assert!(after.seconds - before.seconds >= 89);
}
