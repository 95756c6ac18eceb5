//! Transactions that detect conflicts at their commit.

use firestore_emulator::Concurrency;
use gcloud_sdk::google::firestore::v1::{
    RunQueryRequest, StructuredQuery,
    run_query_request::{ConsistencySelector, QueryType},
    structured_query::CollectionSelector,
};
use tonic::Code;

use super::{
    Client, DATABASE, begin, code_of, commit, commit_in, connect, delete, pessimistic::count,
    read_in, set, start, start_as, value,
};

async fn optimistic() -> (firestore_emulator::Emulator, Client) {
    start_as(Concurrency::Optimistic).await
}

/// Reads the whole collection in a transaction, and counts what is in it.
async fn count_all(client: &Client, transaction: &[u8]) -> usize {
    let from = CollectionSelector { collection_id: "c".to_owned(), all_descendants: false };
    let query = StructuredQuery { from: vec![from], ..StructuredQuery::default() };
    let request = RunQueryRequest {
        parent: format!("{DATABASE}/documents"),
        query_type: Some(QueryType::StructuredQuery(query)),
        consistency_selector: Some(ConsistencySelector::Transaction(transaction.into())),
        ..RunQueryRequest::default()
    };
    let mut stream = client.clone().run_query(request).await.unwrap().into_inner();
    let mut found = 0;
    while let Some(response) = stream.message().await.unwrap() {
        found += usize::from(response.document.is_some());
    }
    found
}

#[tokio::test]
async fn no_transaction_waits_and_the_second_commit_is_aborted() {
    let (_emulator, client) = optimistic().await;
    let (first, second) = (begin(&client, None).await, begin(&client, None).await);
    read_in(&client, &first, "a").await.unwrap();
    read_in(&client, &second, "a").await.unwrap();
    commit_in(&client, &second, &[set("a", 2)]).await.unwrap();
    assert_eq!(code_of(commit_in(&client, &first, &[set("a", 1)]).await), Code::Aborted);
    assert_eq!(value(&client, "a").await, Some(2));
}

#[tokio::test]
async fn the_deletion_of_a_document_that_was_read_is_a_conflict() {
    let (_emulator, client) = optimistic().await;
    commit(&client, &[set("a", 1)]).await.unwrap();
    let transaction = begin(&client, None).await;
    assert_eq!(read_in(&client, &transaction, "a").await.unwrap(), Some(1));
    commit(&client, &[delete("a")]).await.unwrap();
    assert_eq!(code_of(commit_in(&client, &transaction, &[set("b", 1)]).await), Code::Aborted);
    assert_eq!(value(&client, "b").await, None);
}

#[tokio::test]
async fn a_change_of_a_document_that_was_not_read_is_not_a_conflict() {
    let (_emulator, client) = optimistic().await;
    let transaction = begin(&client, None).await;
    read_in(&client, &transaction, "a").await.unwrap();
    commit(&client, &[set("b", 1)]).await.unwrap();
    commit_in(&client, &transaction, &[set("a", 1), set("b", 2)]).await.unwrap();
}

#[tokio::test]
async fn a_transaction_reads_one_state_throughout() {
    let (_emulator, client) = optimistic().await;
    commit(&client, &[set("a", 1), set("b", 1)]).await.unwrap();
    let transaction = begin(&client, None).await;
    assert_eq!(read_in(&client, &transaction, "a").await.unwrap(), Some(1));
    commit(&client, &[set("a", 2), set("b", 2)]).await.unwrap();
    assert_eq!(read_in(&client, &transaction, "b").await.unwrap(), Some(1));
}

#[tokio::test]
async fn an_additional_result_of_a_query_is_a_conflict_in_either_mode() {
    for (_emulator, client) in [optimistic().await, start().await] {
        commit(&client, &[set("a", 1)]).await.unwrap();
        let transaction = begin(&client, None).await;
        assert_eq!(count_all(&client, &transaction).await, 1);
        commit(&client, &[set("b", 1)]).await.unwrap();
        let conflict = commit_in(&client, &transaction, &[set("sum", 1)]).await;
        assert_eq!(code_of(conflict), Code::Aborted);
    }
}

#[tokio::test]
async fn a_query_with_the_same_results_is_not_a_conflict_in_either_mode() {
    for (_emulator, client) in [optimistic().await, start().await] {
        commit(&client, &[set("a", 1)]).await.unwrap();
        let transaction = begin(&client, None).await;
        assert_eq!(count_all(&client, &transaction).await, 1);
        commit_in(&client, &transaction, &[set("a", 2)]).await.unwrap();
    }
}

#[tokio::test]
async fn eight_clients_count_exactly() {
    let (emulator, client) = optimistic().await;
    let counts = (0..8).map(|_| tokio::spawn(count(connect(&emulator), 10)));
    for count in counts.collect::<Vec<_>>() {
        count.await.unwrap();
    }
    assert_eq!(value(&client, "a").await, Some(80));
}
