//! Injected faults. Each test proves that its fault happened.

use std::time::Duration;

use firestore_emulator::{ClockOffset, Fault, Rpc};
use gcloud_sdk::{
    google::firestore::v1::{
        BatchGetDocumentsResponse, Write, batch_get_documents_request::ConsistencySelector,
        precondition::ConditionType,
    },
    prost_types::Timestamp,
};
use syncguard_testkit::operations::eventually;
use tokio::{task::JoinHandle, time::Instant};
use tonic::{Code, Status};

use super::{
    Client, SETTLE_TIME, batch_get, begin, code_of, commit, connect, document, is_waiting, number,
    only_if, set, start, value,
};

/// Waits for a document whose commit no caller awaits.
async fn wait_until_written(client: &Client, id: &str, n: i64) {
    eventually("it is written", async || value(client, id).await == Some(n)).await;
}

fn committing(client: &Client, write: Write) -> JoinHandle<Result<(), Status>> {
    let client = client.clone();
    tokio::spawn(async move { commit(&client, &[write]).await.map(drop) })
}

#[tokio::test]
async fn a_commit_is_refused_as_often_as_requested_and_changes_nothing() {
    let (emulator, client) = start().await;
    for code in [Code::Unavailable, Code::DeadlineExceeded, Code::Aborted] {
        let refused = emulator.inject(Fault::refuse(code).times(2));
        for _ in 0..2 {
            assert_eq!(code_of(commit(&client, &[set("a", 1)]).await), code);
        }
        assert_eq!(refused.hits(), 2);
        assert_eq!(value(&client, "a").await, None);
    }
    commit(&client, &[set("a", 1)]).await.unwrap();
}

#[tokio::test]
async fn a_commit_is_applied_and_answered_with_an_error() {
    let (emulator, client) = start().await;
    for (n, code) in [(1, Code::Unavailable), (2, Code::DeadlineExceeded), (3, Code::Aborted)] {
        let lost = emulator.inject(Fault::answer(code));
        assert_eq!(code_of(commit(&client, &[set("a", n)]).await), code);
        assert_eq!((lost.hits(), value(&client, "a").await), (1, Some(n)));
    }
}

#[tokio::test]
async fn a_commit_is_applied_and_its_connection_is_cut() {
    let (emulator, client) = start().await;
    let lost = emulator.inject(Fault::drop_reply());
    let code = code_of(commit(&client, &[set("a", 1)]).await);
    assert!(matches!(code, Code::Unavailable | Code::Cancelled | Code::Unknown), "{code:?}");
    assert_eq!(lost.hits(), 1);
    assert_eq!(value(&connect(&emulator), "a").await, Some(1));
    wait_until_written(&client, "a", 1).await;
}

#[tokio::test]
async fn a_commit_is_applied_and_never_answered() {
    let (emulator, client) = start().await;
    let lost = emulator.inject(Fault::silence());
    let mut call = committing(&client, set("a", 1));
    lost.happened(1).await;
    assert_eq!(value(&client, "a").await, Some(1));
    assert!(is_waiting(&mut call).await);
}

#[tokio::test]
async fn a_held_commit_is_applied_when_it_is_released_even_if_its_caller_is_gone() {
    let (emulator, client) = start().await;
    let held = emulator.inject(Fault::hold());
    let call = committing(&client, set("a", 1));
    held.happened(1).await;
    call.abort();
    assert!(call.await.unwrap_err().is_cancelled());
    assert_eq!(value(&client, "a").await, None);
    held.release();
    wait_until_written(&client, "a", 1).await;
}

#[tokio::test]
async fn a_late_commit_fails_because_of_its_precondition() {
    let (emulator, client) = start().await;
    let held = emulator.inject(Fault::hold());
    let late = committing(&client, only_if(set("a", 1), ConditionType::Exists(false)));
    held.happened(1).await;
    commit(&client, &[set("a", 2)]).await.unwrap();
    held.release();
    assert_eq!(code_of(late.await.unwrap()), Code::AlreadyExists);
    assert_eq!(value(&client, "a").await, Some(2));
}

#[tokio::test]
async fn a_delay_hits_only_the_commits_of_one_document() {
    let (emulator, client) = start().await;
    let delay = emulator.inject(Fault::delay(SETTLE_TIME).document("a"));
    commit(&client, &[set("b", 1)]).await.unwrap();
    assert_eq!(delay.hits(), 0);
    let before = Instant::now();
    commit(&client, &[set("a", 1)]).await.unwrap();
    assert_eq!(delay.hits(), 1);
    assert!(before.elapsed() >= SETTLE_TIME);
}

#[tokio::test]
async fn faults_apply_to_reads_as_well() {
    let (emulator, client) = start().await;
    let refused = emulator.inject(Fault::refuse(Code::Unavailable).on(Rpc::BatchGetDocuments));
    commit(&client, &[set("a", 1)]).await.unwrap();
    assert_eq!(code_of(batch_get(&client, &["a"], None).await), Code::Unavailable);
    assert_eq!(refused.hits(), 1);
    assert_eq!(value(&client, "a").await, Some(1));
}

/// Returns the read time of a response, in seconds and nanoseconds.
fn read_time_of(response: &BatchGetDocumentsResponse) -> (i64, i32) {
    let Timestamp { seconds, nanos } = response.read_time.unwrap();
    (seconds, nanos)
}

/// Reads a document once, and returns the read time and its number.
async fn read_with_time(client: &Client, id: &str) -> ((i64, i32), Option<i64>) {
    let response = batch_get(client, &[id], None).await.unwrap().pop().unwrap();
    (read_time_of(&response), document(response).map(|document| number(&document)))
}

#[tokio::test]
async fn a_stale_read_returns_an_earlier_state_and_its_time() {
    let (emulator, client) = start().await;
    commit(&client, &[set("a", 1)]).await.unwrap();
    emulator.set_clock_offset(ClockOffset::Ahead(Duration::from_secs(30)));
    commit(&client, &[set("a", 2)]).await.unwrap();
    for (by, found) in [(0, Some(2)), (10, Some(1)), (40, None)] {
        let (before, _) = read_with_time(&client, "a").await;
        let stale = emulator.inject(Fault::stale(Duration::from_secs(by)).document("a"));
        let ((seconds, nanos), number) = read_with_time(&client, "a").await;
        assert_eq!((stale.hits(), number), (1, found), "{by} s ago");
        let (after, fresh) = read_with_time(&client, "a").await;
        assert_eq!(fresh, Some(2), "the next read is not stale");
        let then = (seconds + i64::try_from(by).unwrap(), nanos);
        assert!(before <= then && then <= after, "{by} s: {before:?} {then:?} {after:?}");
    }
}

#[tokio::test]
async fn a_stale_fault_does_not_affect_transactions_or_reads_as_of_a_time() {
    let (emulator, client) = start().await;
    let first = commit(&client, &[set("a", 1)]).await.unwrap().commit_time.unwrap();
    let transaction = begin(&client, None).await;
    let stale = emulator.inject(Fault::stale(Duration::from_secs(30)).times(2));
    for consistency in
        [ConsistencySelector::Transaction(transaction), ConsistencySelector::ReadTime(first)]
    {
        let mut responses = batch_get(&client, &["a"], Some(consistency)).await.unwrap();
        let found = responses.pop().and_then(document);
        assert_eq!(found.map(|document| number(&document)), Some(1));
    }
    assert_eq!(stale.hits(), 2);
}

#[tokio::test]
async fn a_commit_after_a_stale_read_fails_because_of_its_precondition() {
    let (emulator, client) = start().await;
    commit(&client, &[set("a", 1)]).await.unwrap();
    emulator.inject(Fault::stale(Duration::from_secs(30)));
    assert_eq!(value(&client, "a").await, None);
    let create = only_if(set("a", 2), ConditionType::Exists(false));
    assert_eq!(code_of(commit(&client, &[create]).await), Code::AlreadyExists);
    assert_eq!(value(&client, "a").await, Some(1));
}
