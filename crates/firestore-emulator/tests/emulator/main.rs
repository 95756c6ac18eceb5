//! Tests the guarantees of the double over TCP, with the client that is generated from Google's
//! definition of the service, and with Google's own client for Node.

#![cfg(test)]

mod faults;
mod listening;
mod node;
mod optimistic;
mod pessimistic;
mod program;
mod reads;
mod restarts;
mod storms;
mod writes;

use std::time::Duration;

use firestore_emulator::{Concurrency, Emulator};
use gcloud_sdk::google::firestore::v1::{
    BatchGetDocumentsRequest, BatchGetDocumentsResponse, BeginTransactionRequest, CommitRequest,
    CommitResponse, Document, Precondition, RollbackRequest, TransactionOptions, Value, Write,
    batch_get_documents_request::ConsistencySelector,
    batch_get_documents_response::Result as Found, firestore_client::FirestoreClient,
    precondition::ConditionType, transaction_options::Mode, value::ValueType, write::Operation,
};
use tonic::{Code, Status, transport::Channel};

const DATABASE: &str = "projects/p/databases/(default)";

/// Long enough for any pending effect to occur, so a call that is still pending afterwards is
/// waiting.
const SETTLE_TIME: Duration = Duration::from_millis(300);

type Client = FirestoreClient<Channel>;

async fn start() -> (Emulator, Client) {
    start_as(Concurrency::Pessimistic).await
}

async fn start_as(concurrency: Concurrency) -> (Emulator, Client) {
    let emulator = Emulator::builder().concurrency(concurrency).start().await.unwrap();
    let client = connect(&emulator);
    (emulator, client)
}

/// Opens a separate connection.
fn connect(emulator: &Emulator) -> Client {
    let endpoint = Channel::from_shared(format!("http://{}", emulator.address())).unwrap();
    FirestoreClient::new(endpoint.connect_lazy())
}

fn name(id: &str) -> String {
    format!("{DATABASE}/documents/c/{id}")
}

fn integer(value: i64) -> Value {
    Value { value_type: Some(ValueType::IntegerValue(value)) }
}

fn text(value: &str) -> Value {
    Value { value_type: Some(ValueType::StringValue(value.into())) }
}

/// Writes a document with one field.
fn set(id: &str, value: i64) -> Write {
    put(id, &[("n", integer(value))])
}

fn put(id: &str, fields: &[(&str, Value)]) -> Write {
    let fields = fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    let document = Document { name: name(id), fields, ..Document::default() };
    Write { operation: Some(Operation::Update(document)), ..Write::default() }
}

fn delete(id: &str) -> Write {
    Write { operation: Some(Operation::Delete(name(id))), ..Write::default() }
}

fn only_if(write: Write, condition: ConditionType) -> Write {
    let precondition = Precondition { condition_type: Some(condition) };
    Write { current_document: Some(precondition), ..write }
}

async fn commit(client: &Client, writes: &[Write]) -> Result<CommitResponse, Status> {
    commit_in(client, &[], writes).await
}

async fn commit_in(
    client: &Client,
    transaction: &[u8],
    writes: &[Write],
) -> Result<CommitResponse, Status> {
    let request = CommitRequest {
        database: DATABASE.into(),
        transaction: transaction.into(),
        writes: writes.into(),
        ..CommitRequest::default()
    };
    Ok(client.clone().commit(request).await?.into_inner())
}

async fn begin(client: &Client, mode: Option<Mode>) -> Vec<u8> {
    let request = BeginTransactionRequest {
        database: DATABASE.into(),
        options: mode.map(|mode| TransactionOptions { mode: Some(mode) }),
        ..BeginTransactionRequest::default()
    };
    client.clone().begin_transaction(request).await.unwrap().into_inner().transaction
}

async fn rollback(client: &Client, transaction: &[u8]) -> Result<(), Status> {
    let transaction = transaction.into();
    let request =
        RollbackRequest { database: DATABASE.into(), transaction, ..RollbackRequest::default() };
    client.clone().rollback(request).await.map(drop)
}

async fn batch_get(
    client: &Client,
    ids: &[&str],
    consistency: Option<ConsistencySelector>,
) -> Result<Vec<BatchGetDocumentsResponse>, Status> {
    let request = BatchGetDocumentsRequest {
        database: DATABASE.into(),
        documents: ids.iter().map(|id| name(id)).collect(),
        consistency_selector: consistency,
        ..BatchGetDocumentsRequest::default()
    };
    let mut stream = client.clone().batch_get_documents(request).await?.into_inner();
    let mut responses = Vec::new();
    while let Some(response) = stream.message().await? {
        responses.push(response);
    }
    Ok(responses)
}

async fn read(client: &Client, id: &str) -> Option<Document> {
    let responses = batch_get(client, &[id], None).await.unwrap();
    responses.into_iter().find_map(document)
}

async fn read_in(client: &Client, transaction: &[u8], id: &str) -> Result<Option<i64>, Status> {
    let transaction = ConsistencySelector::Transaction(transaction.into());
    let responses = batch_get(client, &[id], Some(transaction)).await?;
    Ok(responses.into_iter().find_map(document).map(|document| number(&document)))
}

/// Reads the field of a document that [`set`] wrote.
async fn value(client: &Client, id: &str) -> Option<i64> {
    read(client, id).await.map(|document| number(&document))
}

fn document(response: BatchGetDocumentsResponse) -> Option<Document> {
    match response.result {
        Some(Found::Found(document)) => Some(document),
        _ => None,
    }
}

fn number(document: &Document) -> i64 {
    match document.fields["n"].value_type {
        Some(ValueType::IntegerValue(value)) => value,
        ref other => panic!("{other:?} is no integer"),
    }
}

fn code_of<T: std::fmt::Debug>(result: Result<T, Status>) -> Code {
    result.unwrap_err().code()
}

/// Returns whether a call is still waiting after [`SETTLE_TIME`].
async fn is_waiting<T>(call: &mut tokio::task::JoinHandle<T>) -> bool {
    tokio::time::timeout(SETTLE_TIME, call).await.is_err()
}
