//! The effects of a commit, and the commits that are refused.

use firestore_emulator::Concurrency;
use gcloud_sdk::google::firestore::v1::{
    DocumentMask, Value, Write,
    batch_get_documents_request::ConsistencySelector,
    document_transform::{
        FieldTransform,
        field_transform::{ServerValue, TransformType},
    },
    precondition::ConditionType,
    value::ValueType,
};
use tonic::Code;

use super::{
    Client, batch_get, begin, code_of, commit, commit_in, delete, integer, name, only_if, put,
    read, set, start, start_as, text, value,
};

fn masked(write: Write, paths: &[&str]) -> Write {
    let field_paths = paths.iter().map(|path| (*path).to_owned()).collect();
    Write { update_mask: Some(DocumentMask { field_paths }), ..write }
}

fn transformed(write: Write, path: &str, transform: TransformType) -> Write {
    let transform = FieldTransform { field_path: path.to_owned(), transform_type: Some(transform) };
    Write { update_transforms: vec![transform], ..write }
}

async fn fields(client: &Client, id: &str) -> Vec<(String, Value)> {
    let mut fields: Vec<_> = read(client, id).await.unwrap().fields.into_iter().collect();
    fields.sort_by(|left, right| left.0.cmp(&right.0));
    fields
}

#[tokio::test]
async fn a_document_that_must_be_missing_is_not_written_twice() {
    let (_emulator, client) = start().await;
    let create = only_if(set("a", 1), ConditionType::Exists(false));
    commit(&client, std::slice::from_ref(&create)).await.unwrap();
    assert_eq!(code_of(commit(&client, &[create]).await), Code::AlreadyExists);
}

#[tokio::test]
async fn a_document_that_must_exist_is_not_created() {
    let (_emulator, client) = start().await;
    for write in [set("a", 1), delete("a")] {
        let write = only_if(write, ConditionType::Exists(true));
        assert_eq!(code_of(commit(&client, &[write]).await), Code::NotFound);
    }
    assert_eq!(value(&client, "a").await, None);
}

#[tokio::test]
async fn a_stale_update_time_fails() {
    let (_emulator, client) = start().await;
    let first = commit(&client, &[set("a", 1)]).await.unwrap().commit_time.unwrap();
    let second = only_if(set("a", 2), ConditionType::UpdateTime(first));
    commit(&client, std::slice::from_ref(&second)).await.unwrap();
    assert_eq!(code_of(commit(&client, &[second]).await), Code::FailedPrecondition);
    let stale = only_if(delete("a"), ConditionType::UpdateTime(first));
    assert_eq!(code_of(commit(&client, &[stale]).await), Code::FailedPrecondition);
    assert_eq!(value(&client, "a").await, Some(2));
}

#[tokio::test]
async fn an_update_time_of_a_deleted_document_fails() {
    let (_emulator, client) = start().await;
    let time = commit(&client, &[set("a", 1)]).await.unwrap().commit_time.unwrap();
    commit(&client, &[delete("a")]).await.unwrap();
    let late = only_if(set("a", 2), ConditionType::UpdateTime(time));
    assert_eq!(code_of(commit(&client, &[late]).await), Code::NotFound);
}

#[tokio::test]
async fn a_commit_is_all_or_nothing() {
    let (_emulator, client) = start().await;
    let impossible = only_if(set("b", 1), ConditionType::Exists(true));
    assert_eq!(code_of(commit(&client, &[set("a", 1), impossible]).await), Code::NotFound);
    assert_eq!(value(&client, "a").await, None);
    let created = only_if(set("b", 1), ConditionType::Exists(false));
    commit(&client, &[set("a", 1), created]).await.unwrap();
    let times =
        [read(&client, "a").await, read(&client, "b").await].map(|it| it.unwrap().update_time);
    assert_eq!(times[0], times[1]);
}

/// A create together with an update of a document that has changed, as in a client that acquires a
/// lock and increments a fence.
#[tokio::test]
async fn a_create_leaves_nothing_behind_if_another_write_of_its_commit_fails() {
    for concurrency in [Concurrency::Pessimistic, Concurrency::Optimistic] {
        let (_emulator, client) = start_as(concurrency).await;
        let known = commit(&client, &[set("counter", 1)]).await.unwrap().commit_time.unwrap();
        commit(&client, &[set("counter", 2)]).await.unwrap();
        let counter = read(&client, "counter").await;
        let create = only_if(set("lock", 1), ConditionType::Exists(false));
        let update = only_if(set("counter", 3), ConditionType::UpdateTime(known));
        let missing = only_if(set("missing", 3), ConditionType::Exists(true));
        for (failing, code) in [(update, Code::FailedPrecondition), (missing, Code::NotFound)] {
            for writes in [[create.clone(), failing.clone()], [failing, create.clone()]] {
                assert_eq!(code_of(commit(&client, &writes).await), code);
                let transaction = begin(&client, None).await;
                let ids = ["lock", "counter"];
                let seen = ConsistencySelector::Transaction(transaction.clone());
                batch_get(&client, &ids, Some(seen)).await.unwrap();
                let outcome = commit_in(&client, &transaction, &writes).await;
                assert_eq!(code_of(outcome), code, "in a transaction");
                assert_eq!(read(&client, "lock").await, None);
                assert_eq!(read(&client, "counter").await, counter, "with its version");
            }
        }
        commit(&client, &[create]).await.unwrap();
    }
}

#[tokio::test]
async fn a_write_sees_the_earlier_writes_of_its_commit() {
    let (_emulator, client) = start().await;
    let again = only_if(set("a", 2), ConditionType::Exists(true));
    commit(&client, &[set("a", 1), again]).await.unwrap();
    assert_eq!(value(&client, "a").await, Some(2));
}

#[tokio::test]
async fn each_commit_is_later_than_the_one_before() {
    let (_emulator, client) = start().await;
    let mut last = (0, 0);
    for round in 0..100 {
        let time = commit(&client, &[set("a", round)]).await.unwrap().commit_time.unwrap();
        assert!((time.seconds, time.nanos) > last);
        assert_eq!(time.nanos % 1_000, 0);
        last = (time.seconds, time.nanos);
    }
}

#[tokio::test]
async fn a_write_that_changes_nothing_keeps_the_update_time() {
    let (_emulator, client) = start().await;
    let first = commit(&client, &[set("a", 1)]).await.unwrap();
    let again = commit(&client, &[set("a", 1)]).await.unwrap();
    assert_eq!(again.write_results[0].update_time, first.commit_time);
    assert_ne!(again.commit_time, first.commit_time);
    let condition = ConditionType::UpdateTime(first.commit_time.unwrap());
    commit(&client, &[only_if(set("a", 2), condition)]).await.unwrap();
}

#[tokio::test]
async fn an_update_without_a_mask_replaces_the_document() {
    let (_emulator, client) = start().await;
    commit(&client, &[put("a", &[("x", integer(1)), ("y", integer(2))])]).await.unwrap();
    commit(&client, &[put("a", &[("x", integer(3))])]).await.unwrap();
    assert_eq!(fields(&client, "a").await, [("x".to_owned(), integer(3))]);
}

#[tokio::test]
async fn a_mask_writes_and_removes_only_the_fields_that_it_names() {
    let (_emulator, client) = start().await;
    let all = [("x", integer(1)), ("y", integer(2)), ("z", integer(3))];
    commit(&client, &[put("a", &all)]).await.unwrap();
    let write = put("a", &[("x", integer(9)), ("z", integer(9))]);
    commit(&client, &[masked(write, &["x", "y"])]).await.unwrap();
    let left = [("x".to_owned(), integer(9)), ("z".to_owned(), integer(3))];
    assert_eq!(fields(&client, "a").await, left);
}

#[tokio::test]
async fn an_increment_adds_and_returns_the_new_value() {
    let (_emulator, client) = start().await;
    let increment = || {
        let nothing = masked(put("a", &[]), &[]);
        transformed(nothing, "n", TransformType::Increment(integer(2)))
    };
    for count in [2, 4] {
        let response = commit(&client, &[increment()]).await.unwrap();
        assert_eq!(response.write_results[0].transform_results, [integer(count)]);
    }
    assert_eq!(value(&client, "a").await, Some(4));
}

#[tokio::test]
async fn the_server_time_is_the_commit_time() {
    let (_emulator, client) = start().await;
    let now = TransformType::SetToServerValue(ServerValue::RequestTime as i32);
    let response = commit(&client, &[transformed(set("a", 1), "at", now)]).await.unwrap();
    let time = ValueType::TimestampValue(response.commit_time.unwrap());
    let document = read(&client, "a").await.unwrap();
    assert_eq!(document.fields["at"].value_type, Some(time));
    assert_eq!(document.update_time, response.commit_time);
}

#[tokio::test]
async fn a_deletion_has_no_update_time() {
    let (_emulator, client) = start().await;
    commit(&client, &[set("a", 1)]).await.unwrap();
    let response = commit(&client, &[delete("a"), delete("never")]).await.unwrap();
    assert!(response.write_results.iter().all(|result| result.update_time.is_none()));
}

#[tokio::test]
async fn a_document_that_is_created_again_has_a_new_create_time() {
    let (_emulator, client) = start().await;
    commit(&client, &[set("a", 1)]).await.unwrap();
    let made = read(&client, "a").await.unwrap().create_time;
    commit(&client, &[set("a", 2)]).await.unwrap();
    assert_eq!(read(&client, "a").await.unwrap().create_time, made);
    commit(&client, &[delete("a")]).await.unwrap();
    commit(&client, &[set("a", 3)]).await.unwrap();
    assert_ne!(read(&client, "a").await.unwrap().create_time, made);
}

#[tokio::test]
async fn reserved_ids_are_refused() {
    let (_emulator, client) = start().await;
    let long = "x".repeat(1_501);
    for id in [".", "..", "__x__", "x/y", &long] {
        let code = code_of(commit(&client, &[set(id, 1)]).await);
        assert_eq!(code, Code::InvalidArgument, "{id}");
    }
}

#[tokio::test]
async fn a_document_has_at_most_a_mebibyte() {
    let (_emulator, client) = start().await;
    let id = "large";
    // The size besides the text: the name, the name of the field, a byte and a constant.
    let others = 16 + "c".len() + 1 + id.len() + 1 + "t".len() + 1 + 1 + 32;
    let fits = "x".repeat(1_048_576 - others);
    commit(&client, &[put(id, &[("t", text(&fits))])]).await.unwrap();
    let too_large = put(id, &[("t", text(&(fits + "x")))]);
    assert_eq!(code_of(commit(&client, &[too_large]).await), Code::InvalidArgument);
}

#[tokio::test]
async fn a_document_of_another_database_is_refused() {
    let (_emulator, client) = start().await;
    let mut write = delete("a");
    let other = name("a").replace("(default)", "other");
    write.operation = Some(gcloud_sdk::google::firestore::v1::write::Operation::Delete(other));
    assert_eq!(code_of(commit(&client, &[write]).await), Code::InvalidArgument);
}
