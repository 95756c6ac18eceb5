//! Transactions that lock what they read.

use std::time::Duration;

use firestore_emulator::{Emulator, Rpc};
use gcloud_sdk::google::firestore::v1::{
    TransactionOptions,
    batch_get_documents_request::ConsistencySelector,
    transaction_options::{ConcurrencyMode, Mode, ReadOnly, ReadWrite},
};
use tokio::{
    task::JoinHandle,
    time::{Instant, timeout},
};
use tonic::{Code, Status};

use super::{
    Client, SETTLE_TIME, batch_get, begin, code_of, commit, commit_in, connect, document,
    is_waiting, number, read_in, rollback, set, start, value,
};

/// Begins a commit of one document, in a transaction or without one.
fn committing(
    client: &Client,
    transaction: &[u8],
    id: &str,
    n: i64,
) -> JoinHandle<Result<(), Status>> {
    let (client, transaction, write) = (client.clone(), transaction.to_vec(), set(id, n));
    tokio::spawn(async move { commit_in(&client, &transaction, &[write]).await.map(drop) })
}

fn reading(
    client: &Client,
    transaction: &[u8],
    id: &str,
) -> JoinHandle<Result<Option<i64>, Status>> {
    let (client, transaction, id) = (client.clone(), transaction.to_vec(), id.to_owned());
    tokio::spawn(async move { read_in(&client, &transaction, &id).await })
}

#[tokio::test]
async fn of_two_transactions_on_a_document_one_waits_and_one_is_aborted() {
    let (_emulator, client) = start().await;
    let (first, second) = (begin(&client, None).await, begin(&client, None).await);
    for transaction in [&first, &second] {
        assert_eq!(read_in(&client, transaction, "a").await.unwrap(), None);
    }
    let mut waiting = committing(&client, &first, "a", 1);
    assert!(is_waiting(&mut waiting).await, "a writer must wait for the other reader");
    assert_eq!(code_of(commit_in(&client, &second, &[set("a", 2)]).await), Code::Aborted);
    waiting.await.unwrap().unwrap();
    assert_eq!(value(&client, "a").await, Some(1));
}

#[tokio::test]
async fn a_writer_proceeds_when_the_other_reader_ends() {
    let (_emulator, client) = start().await;
    let (first, second) = (begin(&client, None).await, begin(&client, None).await);
    read_in(&client, &first, "a").await.unwrap();
    read_in(&client, &second, "a").await.unwrap();
    let mut waiting = committing(&client, &first, "a", 1);
    assert!(is_waiting(&mut waiting).await);
    rollback(&client, &second).await.unwrap();
    waiting.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_commit_without_a_transaction_waits_for_a_reader() {
    let (_emulator, client) = start().await;
    let transaction = begin(&client, None).await;
    read_in(&client, &transaction, "a").await.unwrap();
    let mut waiting = committing(&client, &[], "a", 2);
    assert!(is_waiting(&mut waiting).await);
    // The reader itself goes ahead of it.
    commit_in(&client, &transaction, &[set("a", 1)]).await.unwrap();
    waiting.await.unwrap().unwrap();
    assert_eq!(value(&client, "a").await, Some(2));
}

#[tokio::test]
async fn a_missing_document_is_locked_as_well() {
    let (_emulator, client) = start().await;
    let transaction = begin(&client, None).await;
    assert_eq!(read_in(&client, &transaction, "a").await.unwrap(), None);
    let mut waiting = committing(&client, &[], "a", 1);
    assert!(is_waiting(&mut waiting).await);
    assert_eq!(read_in(&client, &transaction, "a").await.unwrap(), None);
    rollback(&client, &transaction).await.unwrap();
    waiting.await.unwrap().unwrap();
}

#[tokio::test]
async fn readers_queue_behind_a_writer_that_came_first() {
    let (_emulator, client) = start().await;
    let (first, late) = (begin(&client, None).await, begin(&client, None).await);
    read_in(&client, &first, "a").await.unwrap();
    let mut write = committing(&client, &[], "a", 1);
    assert!(is_waiting(&mut write).await);
    let mut read = reading(&client, &late, "a");
    assert!(is_waiting(&mut read).await);
    rollback(&client, &first).await.unwrap();
    write.await.unwrap().unwrap();
    assert_eq!(read.await.unwrap().unwrap(), Some(1), "the writer came first");
}

#[tokio::test]
async fn a_read_outside_of_a_transaction_does_not_wait() {
    let (_emulator, client) = start().await;
    commit(&client, &[set("a", 1)]).await.unwrap();
    let transaction = begin(&client, None).await;
    read_in(&client, &transaction, "a").await.unwrap();
    let mut write = committing(&client, &[], "a", 2);
    assert!(is_waiting(&mut write).await);
    assert_eq!(value(&client, "a").await, Some(1));
}

#[tokio::test]
async fn a_read_only_transaction_does_not_wait() {
    let (_emulator, client) = start().await;
    commit(&client, &[set("a", 1)]).await.unwrap();
    let locking = begin(&client, None).await;
    read_in(&client, &locking, "a").await.unwrap();
    let read_only = begin(&client, Some(Mode::ReadOnly(ReadOnly::default()))).await;
    let mut write = committing(&client, &[], "a", 2);
    assert!(is_waiting(&mut write).await);
    assert_eq!(read_in(&client, &read_only, "a").await.unwrap(), Some(1));
    rollback(&client, &locking).await.unwrap();
    write.await.unwrap().unwrap();
    assert_eq!(read_in(&client, &read_only, "a").await.unwrap(), Some(1), "it reads as of then");
    let refused = commit_in(&client, &read_only, &[set("a", 3)]).await;
    assert_eq!(code_of(refused), Code::InvalidArgument);
}

#[tokio::test]
async fn at_least_one_transaction_in_a_cycle_commits_and_one_is_aborted() {
    let (_emulator, client) = start().await;
    let ids = ["a", "b", "c"];
    let mut commits = Vec::new();
    let mut transactions = Vec::new();
    for id in ids {
        let transaction = begin(&client, None).await;
        read_in(&client, &transaction, id).await.unwrap();
        transactions.push(transaction);
    }
    for (transaction, id) in transactions.iter().zip(["b", "c", "a"]) {
        commits.push(committing(&client, transaction, id, 1));
    }
    let mut codes = Vec::new();
    for commit in commits {
        codes.push(commit.await.unwrap().map_or_else(|status| status.code(), |()| Code::Ok));
    }
    assert!(codes.contains(&Code::Ok) && codes.contains(&Code::Aborted), "{codes:?}");
}

#[tokio::test]
async fn a_retried_transaction_is_not_aborted_for_a_younger_one() {
    let (_emulator, client) = start().await;
    let first = begin(&client, None).await;
    let younger = begin(&client, None).await;
    rollback(&client, &first).await.unwrap();
    let again = ReadWrite { retry_transaction: first, ..ReadWrite::default() };
    let again = begin(&client, Some(Mode::ReadWrite(again))).await;
    read_in(&client, &again, "a").await.unwrap();
    read_in(&client, &younger, "a").await.unwrap();
    let mut waiting = committing(&client, &younger, "a", 1);
    assert!(is_waiting(&mut waiting).await);
    commit_in(&client, &again, &[set("a", 2)]).await.unwrap();
    assert_eq!(code_of(waiting.await.unwrap()), Code::Aborted);
}

#[tokio::test]
async fn an_unused_transaction_expires_and_releases_its_locks() {
    let emulator =
        Emulator::builder().idle_limit(3 * SETTLE_TIME).lock_wait(Duration::from_secs(600));
    let emulator = emulator.start().await.unwrap();
    let client = connect(&emulator);
    let idle = begin(&client, None).await;
    read_in(&client, &idle, "a").await.unwrap();
    let time_limit = Duration::from_secs(60);
    timeout(time_limit, commit(&client, &[set("a", 1)])).await.unwrap().unwrap();
    let expired = commit_in(&client, &idle, &[set("a", 2)]).await.unwrap_err();
    assert_eq!(expired.code(), Code::InvalidArgument);
    assert!(expired.message().contains("transaction has expired"), "{expired}");
}

#[tokio::test]
async fn a_transaction_that_waits_is_not_idle() {
    let emulator = Emulator::builder().idle_limit(5 * SETTLE_TIME).start().await.unwrap();
    let client = connect(&emulator);
    let (first, waiter) = (begin(&client, None).await, begin(&client, None).await);
    read_in(&client, &first, "a").await.unwrap();
    let mut write = committing(&client, &[], "a", 1);
    assert!(is_waiting(&mut write).await);
    let read = reading(&client, &waiter, "a");
    // The first transaction is in constant use, so it does not expire either.
    let until = Instant::now() + 7 * SETTLE_TIME;
    while Instant::now() < until {
        read_in(&client, &first, "a").await.unwrap();
        tokio::time::sleep(SETTLE_TIME / 20).await;
    }
    assert!(!read.is_finished(), "it has waited for longer than it may be idle");
    rollback(&client, &first).await.unwrap();
    assert_eq!(read.await.unwrap().unwrap(), Some(1));
}

#[tokio::test]
async fn waiting_for_a_lock_times_out() {
    let emulator = Emulator::builder().lock_wait(SETTLE_TIME).start().await.unwrap();
    let client = connect(&emulator);
    let transaction = begin(&client, None).await;
    read_in(&client, &transaction, "a").await.unwrap();
    assert_eq!(code_of(commit(&client, &[set("a", 1)]).await), Code::Aborted);
    commit_in(&client, &transaction, &[set("a", 2)]).await.unwrap();
    assert_eq!(value(&client, "a").await, Some(2));
}

#[tokio::test]
async fn a_dropped_read_leaves_the_queue() {
    let (emulator, client) = start().await;
    let (first, gone) = (begin(&client, None).await, begin(&client, None).await);
    read_in(&client, &first, "a").await.unwrap();
    let mut write = committing(&client, &[], "a", 1);
    assert!(is_waiting(&mut write).await);
    let before = emulator.calls();
    let read = reading(&client, &gone, "a");
    while (emulator.calls() - before).of(Rpc::BatchGetDocuments) == 0 {
        tokio::task::yield_now().await;
    }
    read.abort();
    rollback(&client, &first).await.unwrap();
    write.await.unwrap().unwrap();
    commit(&client, &[set("a", 2)]).await.unwrap();
}

#[tokio::test]
async fn a_transaction_can_be_begun_by_its_first_read() {
    let (_emulator, client) = start().await;
    commit(&client, &[set("a", 1)]).await.unwrap();
    let new = ConsistencySelector::NewTransaction(TransactionOptions::default());
    let responses = batch_get(&client, &["a"], Some(new)).await.unwrap();
    let transaction = responses[0].transaction.clone();
    assert!(!transaction.is_empty());
    assert!(responses.iter().all(|response| response.read_time.is_some()));
    let mut write = committing(&client, &[], "a", 2);
    assert!(is_waiting(&mut write).await, "the read locks");
    commit_in(&client, &transaction, &[set("a", 3)]).await.unwrap();
    write.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_transaction_can_request_optimistic_concurrency() {
    let (_emulator, client) = start().await;
    let mode = ConcurrencyMode::Optimistic.into();
    let mode = Mode::ReadWrite(ReadWrite { concurrency_mode: mode, ..ReadWrite::default() });
    let transaction = begin(&client, Some(mode)).await;
    read_in(&client, &transaction, "a").await.unwrap();
    commit(&client, &[set("a", 1)]).await.unwrap();
    assert_eq!(code_of(commit_in(&client, &transaction, &[set("a", 2)]).await), Code::Aborted);
}

#[tokio::test]
async fn a_transaction_ends_with_its_commit() {
    let (_emulator, client) = start().await;
    let transaction = begin(&client, None).await;
    commit_in(&client, &transaction, &[set("a", 1)]).await.unwrap();
    let again = commit_in(&client, &transaction, &[set("a", 2)]).await;
    assert_eq!(code_of(again), Code::InvalidArgument);
    assert_eq!(code_of(rollback(&client, &transaction).await), Code::InvalidArgument);
    assert_eq!(code_of(read_in(&client, &transaction, "a").await), Code::InvalidArgument);
}

#[tokio::test]
async fn sixteen_clients_count_exactly() {
    const CLIENTS: i64 = 16;
    const INCREMENTS: i64 = 4;
    let (emulator, client) = start().await;
    let counts = (0..CLIENTS).map(|_| tokio::spawn(count(connect(&emulator), INCREMENTS)));
    for count in counts.collect::<Vec<_>>() {
        count.await.unwrap();
    }
    assert_eq!(value(&client, "a").await, Some(CLIENTS * INCREMENTS));
}

/// Increments a counter in transactions, each of which is retried until it succeeds.
pub(super) async fn count(client: Client, increments: i64) {
    for _ in 0..increments {
        let mut last = Vec::new();
        while let Err(status) = attempt(&client, &mut last).await {
            assert_eq!(status.code(), Code::Aborted, "{status}");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

async fn attempt(client: &Client, last: &mut Vec<u8>) -> Result<(), Status> {
    let mode = ReadWrite { retry_transaction: std::mem::take(last), ..ReadWrite::default() };
    *last = begin(client, Some(Mode::ReadWrite(mode))).await;
    let transaction = ConsistencySelector::Transaction(last.clone());
    let found = batch_get(client, &["a"], Some(transaction)).await?;
    let n = found.into_iter().find_map(document).map_or(0, |document| number(&document));
    commit_in(client, last, &[set("a", n + 1)]).await.map(drop)
}
