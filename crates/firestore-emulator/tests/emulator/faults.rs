//! Faults on command, each of which is shown to have happened.

use firestore_emulator::{Fault, Rpc};
use gcloud_sdk::google::firestore::v1::{Write, precondition::ConditionType};
use syncguard_tests::asking::eventually;
use tokio::{task::JoinHandle, time::Instant};
use tonic::{Code, Status};

use super::{
    A_WHILE, Client, batch_get, code_of, commit, connect, only_if, set, start, value, waits,
};

/// Waits for a document to come about, whose commit nobody waits for.
async fn written(client: &Client, id: &str, n: i64) {
    eventually("it is written", async || value(client, id).await == Some(n)).await;
}

fn committing(client: &Client, write: Write) -> JoinHandle<Result<(), Status>> {
    let client = client.clone();
    tokio::spawn(async move { commit(&client, &[write]).await.map(drop) })
}

#[tokio::test]
async fn a_refused_commit_does_nothing_so_often_as_it_was_told() {
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
async fn a_commit_is_done_and_answered_with_an_error() {
    let (emulator, client) = start().await;
    for (n, code) in [(1, Code::Unavailable), (2, Code::DeadlineExceeded), (3, Code::Aborted)] {
        let lost = emulator.inject(Fault::answer(code));
        assert_eq!(code_of(commit(&client, &[set("a", n)]).await), code);
        assert_eq!((lost.hits(), value(&client, "a").await), (1, Some(n)));
    }
}

#[tokio::test]
async fn a_commit_is_done_and_its_connection_cut() {
    let (emulator, client) = start().await;
    let lost = emulator.inject(Fault::drop_reply());
    let code = code_of(commit(&client, &[set("a", 1)]).await);
    assert!(matches!(code, Code::Unavailable | Code::Cancelled | Code::Unknown), "{code:?}");
    assert_eq!(lost.hits(), 1);
    assert_eq!(value(&connect(&emulator), "a").await, Some(1));
    written(&client, "a", 1).await;
}

#[tokio::test]
async fn a_commit_is_done_and_never_answered() {
    let (emulator, client) = start().await;
    let lost = emulator.inject(Fault::silence());
    let mut call = committing(&client, set("a", 1));
    lost.happened(1).await;
    assert_eq!(value(&client, "a").await, Some(1));
    assert!(waits(&mut call).await);
}

#[tokio::test]
async fn a_commit_that_is_held_lands_when_it_is_released_though_its_caller_has_gone() {
    let (emulator, client) = start().await;
    let held = emulator.inject(Fault::hold());
    let call = committing(&client, set("a", 1));
    held.happened(1).await;
    call.abort();
    assert!(call.await.unwrap_err().is_cancelled());
    assert_eq!(value(&client, "a").await, None);
    held.release();
    written(&client, "a", 1).await;
}

#[tokio::test]
async fn a_commit_that_is_late_fails_by_its_precondition() {
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
async fn a_delay_hits_the_commits_of_one_document_alone() {
    let (emulator, client) = start().await;
    let delay = emulator.inject(Fault::delay(A_WHILE).document("a"));
    commit(&client, &[set("b", 1)]).await.unwrap();
    assert_eq!(delay.hits(), 0);
    let before = Instant::now();
    commit(&client, &[set("a", 1)]).await.unwrap();
    assert_eq!(delay.hits(), 1);
    assert!(before.elapsed() >= A_WHILE);
}

#[tokio::test]
async fn reads_fail_on_command_too() {
    let (emulator, client) = start().await;
    let refused = emulator.inject(Fault::refuse(Code::Unavailable).on(Rpc::BatchGetDocuments));
    commit(&client, &[set("a", 1)]).await.unwrap();
    assert_eq!(code_of(batch_get(&client, &["a"], None).await), Code::Unavailable);
    assert_eq!(refused.hits(), 1);
    assert_eq!(value(&client, "a").await, Some(1));
}
