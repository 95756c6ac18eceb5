//! Reading by name, by query and page by page.

use std::time::Duration;

use firestore_emulator::{Emulator, Rpc};
use gcloud_sdk::{
    google::firestore::v1::{
        BatchGetDocumentsRequest, Cursor, Document, DocumentMask, GetDocumentRequest,
        ListDocumentsRequest, RunQueryRequest, RunQueryResponse, StructuredQuery, Value,
        WriteRequest,
        batch_get_documents_request::ConsistencySelector,
        run_query_request::QueryType,
        structured_query::{
            CollectionSelector, CompositeFilter, Direction, FieldFilter, FieldReference, Filter,
            Order, composite_filter, field_filter::Operator, filter::FilterType,
        },
        transaction_options::{Mode, ReadOnly},
    },
    prost_types::Timestamp,
};
use tonic::{Code, Status};

use super::{
    Client, DATABASE, batch_get, begin, code_of, commit, connect, delete, document, integer, name,
    number, put, read_in, set, start, text,
};

fn query(filters: Vec<Filter>) -> StructuredQuery {
    let op = composite_filter::Operator::And.into();
    let all = FilterType::CompositeFilter(CompositeFilter { op, filters });
    let from = CollectionSelector { collection_id: "c".to_owned(), all_descendants: false };
    StructuredQuery {
        from: vec![from],
        r#where: Some(Filter { filter_type: Some(all) }),
        ..StructuredQuery::default()
    }
}

fn field(path: &str) -> Option<FieldReference> {
    Some(FieldReference { field_path: path.to_owned() })
}

fn filter(path: &str, op: Operator, value: Value) -> Filter {
    let filter = FieldFilter { field: field(path), op: op.into(), value: Some(value) };
    Filter { filter_type: Some(FilterType::FieldFilter(filter)) }
}

async fn run(client: &Client, query: StructuredQuery) -> Result<Vec<RunQueryResponse>, Status> {
    let request = RunQueryRequest {
        parent: format!("{DATABASE}/documents"),
        query_type: Some(QueryType::StructuredQuery(query)),
        ..RunQueryRequest::default()
    };
    let mut stream = client.clone().run_query(request).await?.into_inner();
    let mut responses = Vec::new();
    while let Some(response) = stream.message().await? {
        responses.push(response);
    }
    Ok(responses)
}

async fn find(client: &Client, query: StructuredQuery) -> Vec<String> {
    let responses = run(client, query).await.unwrap();
    ids(responses.iter().filter_map(|response| response.document.as_ref()))
}

fn ids<'a>(documents: impl Iterator<Item = &'a Document>) -> Vec<String> {
    documents.map(|document| document.name.rsplit('/').next().unwrap().to_owned()).collect()
}

/// Writes the documents a to e with the numbers 1 to 5, and with the letters x and y in turn.
async fn write_five(client: &Client) {
    let letters = ["x", "y", "x", "y", "x"].iter().zip(1..);
    let writes: Vec<_> = ["a", "b", "c", "d", "e"]
        .iter()
        .zip(letters)
        .map(|(id, (letter, n))| put(id, &[("n", integer(n)), ("l", text(letter))]))
        .collect();
    commit(client, &writes).await.unwrap();
}

#[tokio::test]
async fn each_response_has_a_read_time() {
    let (_emulator, client) = start().await;
    let written = commit(&client, &[set("a", 1)]).await.unwrap().commit_time.unwrap();
    let responses = batch_get(&client, &["a", "missing", "a"], None).await.unwrap();
    assert_eq!(responses.len(), 2, "a name that is given twice is answered once");
    for response in &responses {
        let time = response.read_time.unwrap();
        assert!((time.seconds, time.nanos) >= (written.seconds, written.nanos));
    }
}

#[tokio::test]
async fn a_commit_is_later_than_a_read_that_did_not_see_it() {
    let (_emulator, client) = start().await;
    let read = batch_get(&client, &["a"], None).await.unwrap()[0].read_time.unwrap();
    let written = commit(&client, &[set("a", 1)]).await.unwrap().commit_time.unwrap();
    assert!((written.seconds, written.nanos) > (read.seconds, read.nanos));
}

#[tokio::test]
async fn a_mask_selects_fields() {
    let (_emulator, client) = start().await;
    write_five(&client).await;
    let mask = DocumentMask { field_paths: vec!["n".to_owned()] };
    let request = BatchGetDocumentsRequest {
        database: DATABASE.into(),
        documents: vec![name("a")],
        mask: Some(mask.clone()),
        ..BatchGetDocumentsRequest::default()
    };
    let mut stream = client.clone().batch_get_documents(request).await.unwrap().into_inner();
    let found = document(stream.message().await.unwrap().unwrap()).unwrap();
    assert_eq!(found.fields.keys().collect::<Vec<_>>(), ["n"]);
    let request =
        GetDocumentRequest { name: name("a"), mask: Some(mask), ..GetDocumentRequest::default() };
    let found = client.clone().get_document(request).await.unwrap().into_inner();
    assert_eq!(found.fields.keys().collect::<Vec<_>>(), ["n"]);
}

#[tokio::test]
async fn a_missing_document_is_not_found() {
    let (_emulator, client) = start().await;
    let request = GetDocumentRequest { name: name("a"), ..GetDocumentRequest::default() };
    assert_eq!(code_of(client.clone().get_document(request).await), Code::NotFound);
}

#[tokio::test]
async fn an_earlier_version_is_read_as_of_its_time() {
    let (_emulator, client) = start().await;
    let first = commit(&client, &[set("a", 1)]).await.unwrap().commit_time.unwrap();
    commit(&client, &[delete("a")]).await.unwrap();
    let then = Some(ConsistencySelector::ReadTime(first));
    let responses = batch_get(&client, &["a"], then).await.unwrap();
    assert_eq!(responses[0].read_time, Some(first));
    assert_eq!(responses.into_iter().find_map(document).map(|d| number(&d)), Some(1));
}

#[tokio::test]
async fn times_before_the_retention_and_in_the_future_cannot_be_read() {
    let emulator = Emulator::builder().retention(Duration::ZERO).start().await.unwrap();
    let client = connect(&emulator);
    let first = commit(&client, &[set("a", 1)]).await.unwrap().commit_time.unwrap();
    commit(&client, &[set("a", 2)]).await.unwrap();
    let forgotten = batch_get(&client, &["a"], Some(ConsistencySelector::ReadTime(first))).await;
    assert_eq!(code_of(forgotten), Code::FailedPrecondition);
    let future = Timestamp { seconds: first.seconds + 3_600, nanos: 0 };
    let future = batch_get(&client, &["a"], Some(ConsistencySelector::ReadTime(future))).await;
    assert_eq!(code_of(future), Code::InvalidArgument);
}

#[tokio::test]
async fn a_transaction_reads_as_of_its_beginning_however_short_the_retention() {
    let emulator = Emulator::builder().retention(Duration::ZERO).start().await.unwrap();
    let client = connect(&emulator);
    commit(&client, &[set("a", 1)]).await.unwrap();
    let transaction = begin(&client, Some(Mode::ReadOnly(ReadOnly::default()))).await;
    for n in 2..5 {
        commit(&client, &[set("a", n)]).await.unwrap();
    }
    commit(&client, &[delete("a")]).await.unwrap();
    commit(&client, &[set("b", 1)]).await.unwrap();
    assert_eq!(read_in(&client, &transaction, "a").await.unwrap(), Some(1));
}

#[tokio::test]
async fn a_query_filters_by_equality_and_by_range() {
    let (_emulator, client) = start().await;
    write_five(&client).await;
    let x = || filter("l", Operator::Equal, text("x"));
    assert_eq!(find(&client, query(vec![x()])).await, ["a", "c", "e"]);
    let above = filter("n", Operator::GreaterThan, integer(1));
    let below = filter("n", Operator::LessThanOrEqual, integer(4));
    assert_eq!(find(&client, query(vec![x(), above, below])).await, ["c"]);
}

#[tokio::test]
async fn a_query_orders_limits_and_continues_after_a_cursor() {
    let (_emulator, client) = start().await;
    write_five(&client).await;
    let order = Order { field: field("n"), direction: Direction::Descending.into() };
    let page = |start_at| StructuredQuery {
        order_by: vec![order.clone()],
        limit: Some(2),
        start_at,
        ..query(vec![filter("n", Operator::GreaterThan, integer(0))])
    };
    assert_eq!(find(&client, page(None)).await, ["e", "d"]);
    let behind = Cursor { values: vec![integer(4)], before: false };
    assert_eq!(find(&client, page(Some(behind))).await, ["c", "b"]);
}

#[tokio::test]
async fn a_query_without_results_has_a_read_time() {
    let (_emulator, client) = start().await;
    let no_match = query(vec![filter("l", Operator::Equal, text("z"))]);
    let responses = run(&client, no_match).await.unwrap();
    assert_eq!(responses.len(), 1);
    assert!(responses[0].document.is_none() && responses[0].read_time.is_some());
}

#[tokio::test]
async fn a_collection_is_listed_page_by_page() {
    let (_emulator, client) = start().await;
    write_five(&client).await;
    let (mut pages, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = ListDocumentsRequest {
            parent: format!("{DATABASE}/documents"),
            collection_id: "c".to_owned(),
            page_size: 2,
            page_token,
            ..ListDocumentsRequest::default()
        };
        let page = client.clone().list_documents(request).await.unwrap().into_inner();
        pages.push(ids(page.documents.iter()).concat());
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(pages, ["ab", "cd", "e"]);
}

#[tokio::test]
async fn calls_are_counted_by_method() {
    let (emulator, client) = start().await;
    commit(&client, &[set("a", 1)]).await.unwrap();
    let before = emulator.calls();
    batch_get(&client, &["a"], None).await.unwrap();
    commit(&client, &[set("a", 2)]).await.unwrap();
    commit(&client, &[set("a", 3)]).await.unwrap();
    let calls = emulator.calls() - before;
    assert_eq!(calls.of(Rpc::BatchGetDocuments), 1);
    assert_eq!(calls.of(Rpc::Commit), 2);
    assert_eq!(calls.total(), 3);
}

#[tokio::test]
async fn a_method_that_is_not_emulated_returns_unimplemented() {
    let (_emulator, client) = start().await;
    let requests = tokio_stream::iter([WriteRequest::default()]);
    let refused = client.clone().write(requests).await.map(drop).unwrap_err();
    assert_eq!(refused.code(), Code::Unimplemented);
    assert!(refused.message().contains("Firestore/Write"), "{refused}");
}
