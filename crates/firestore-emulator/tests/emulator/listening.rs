//! Streams that report changes.

use firestore_emulator::{Fault, Rpc};
use gcloud_sdk::google::firestore::v1::{
    ListenRequest, ListenResponse, Target,
    listen_request::TargetChange as Change,
    listen_response::ResponseType,
    target::{DocumentsTarget, TargetType},
    target_change::TargetChangeType,
};
use tokio::sync::mpsc::{Sender, channel};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use super::{Client, DATABASE, SETTLE_TIME, commit, connect, delete, name, number, set, start};

/// A stream whose messages are returned in a short form.
struct Listener {
    requests: Sender<ListenRequest>,
    responses: Streaming<ListenResponse>,
}

impl Listener {
    async fn open(client: &Client) -> Self {
        let (requests, receiver) = channel(16);
        let responses = client.clone().listen(ReceiverStream::new(receiver)).await.unwrap();
        Self { requests, responses: responses.into_inner() }
    }

    async fn request(&self, change: Change) {
        let request = ListenRequest {
            database: DATABASE.into(),
            target_change: Some(change),
            ..ListenRequest::default()
        };
        self.requests.send(request).await.unwrap();
    }

    async fn add(&self, target_id: i32, ids: &[&str]) {
        let documents = ids.iter().map(|id| name(id)).collect();
        let target_type = Some(TargetType::Documents(DocumentsTarget { documents }));
        self.request(Change::AddTarget(Target { target_id, target_type, ..Target::default() }))
            .await;
    }

    async fn next(&mut self) -> Result<String, Status> {
        let response = self.responses.message().await?.expect("the stream goes on");
        Ok(match response.response_type.unwrap() {
            ResponseType::TargetChange(change) => {
                let kind = TargetChangeType::try_from(change.target_change_type).unwrap();
                assert_eq!(change.read_time.is_some(), !change.resume_token.is_empty());
                format!("{} {:?}", kind.as_str_name(), change.target_ids)
            }
            ResponseType::DocumentChange(change) => {
                format!("is {} {:?}", number(&change.document.unwrap()), change.target_ids)
            }
            ResponseType::DocumentDelete(change) => {
                format!("is gone {:?}", change.removed_target_ids)
            }
            other => panic!("{other:?} was not expected"),
        })
    }

    async fn expect(&mut self, expected: &[&str]) {
        for expected in expected {
            assert_eq!(self.next().await.unwrap(), *expected);
        }
    }
}

#[tokio::test]
async fn a_listener_receives_the_state_of_a_document_and_its_changes() {
    let (_emulator, client) = start().await;
    commit(&client, &[set("a", 1)]).await.unwrap();
    let mut listener = Listener::open(&client).await;
    listener.add(7, &["a"]).await;
    listener.expect(&["ADD [7]", "is 1 [7]", "CURRENT [7]", "NO_CHANGE []"]).await;
    commit(&client, &[set("a", 2)]).await.unwrap();
    listener.expect(&["is 2 [7]", "NO_CHANGE []"]).await;
    commit(&client, &[delete("a")]).await.unwrap();
    listener.expect(&["is gone [7]", "NO_CHANGE []"]).await;
}

#[tokio::test]
async fn a_listener_receives_the_creation_of_a_document() {
    let (_emulator, client) = start().await;
    let mut listener = Listener::open(&client).await;
    listener.add(1, &["a"]).await;
    listener.expect(&["ADD [1]", "is gone [1]", "CURRENT [1]", "NO_CHANGE []"]).await;
    commit(&client, &[set("a", 1)]).await.unwrap();
    listener.expect(&["is 1 [1]", "NO_CHANGE []"]).await;
}

#[tokio::test]
async fn each_target_of_a_stream_reports_its_own_documents() {
    let (_emulator, client) = start().await;
    commit(&client, &[set("a", 1), set("b", 1)]).await.unwrap();
    let mut listener = Listener::open(&client).await;
    listener.add(1, &["a"]).await;
    listener.expect(&["ADD [1]", "is 1 [1]", "CURRENT [1]", "NO_CHANGE []"]).await;
    listener.add(2, &["b"]).await;
    listener.expect(&["ADD [2]", "is 1 [2]", "CURRENT [2]", "NO_CHANGE []"]).await;
    commit(&client, &[set("b", 2)]).await.unwrap();
    listener.expect(&["is 2 [2]", "NO_CHANGE []"]).await;
    listener.request(Change::RemoveTarget(2)).await;
    listener.expect(&["REMOVE [2]"]).await;
    commit(&client, &[set("b", 3)]).await.unwrap();
    commit(&client, &[set("a", 4)]).await.unwrap();
    listener.expect(&["is 4 [1]", "NO_CHANGE []"]).await;
}

#[tokio::test]
async fn a_commit_is_reported_as_a_whole() {
    let (_emulator, client) = start().await;
    let mut listener = Listener::open(&client).await;
    for (target, id) in [(1, "a"), (2, "b")] {
        listener.add(target, &[id]).await;
        for _ in 0..4 {
            listener.next().await.unwrap();
        }
    }
    commit(&client, &[set("a", 1), set("b", 1)]).await.unwrap();
    listener.expect(&["is 1 [1]", "is 1 [2]", "NO_CHANGE []"]).await;
}

#[tokio::test]
async fn a_write_that_changes_nothing_is_not_reported() {
    let (_emulator, client) = start().await;
    commit(&client, &[set("a", 1)]).await.unwrap();
    let mut listener = Listener::open(&client).await;
    listener.add(1, &["a"]).await;
    listener.expect(&["ADD [1]", "is 1 [1]", "CURRENT [1]", "NO_CHANGE []"]).await;
    commit(&client, &[set("a", 1)]).await.unwrap();
    assert!(tokio::time::timeout(SETTLE_TIME, listener.next()).await.is_err());
}

#[tokio::test]
async fn a_listener_on_an_invalid_name_is_refused() {
    let (_emulator, client) = start().await;
    let mut listener = Listener::open(&client).await;
    listener.add(1, &["__x__"]).await;
    assert_eq!(listener.next().await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn an_open_stream_can_be_failed_silenced_or_cut() {
    let (emulator, _) = start().await;
    let failed = emulator.inject(Fault::answer(Code::PermissionDenied).on(Rpc::Listen));
    let mut listener = Listener::open(&connect(&emulator)).await;
    assert_eq!(listener.next().await.unwrap_err().code(), Code::PermissionDenied);
    let silent = emulator.inject(Fault::silence().on(Rpc::Listen));
    let mut listener = Listener::open(&connect(&emulator)).await;
    listener.add(1, &["a"]).await;
    assert!(tokio::time::timeout(SETTLE_TIME, listener.next()).await.is_err());
    let cut = emulator.inject(Fault::drop_reply().on(Rpc::Listen));
    let (requests, receiver) = channel(16);
    let opened = connect(&emulator).listen(ReceiverStream::new(receiver)).await;
    let ended = match opened {
        Ok(stream) => stream.into_inner().message().await.is_err(),
        Err(_) => true,
    };
    drop(requests);
    assert!(ended);
    assert_eq!([failed.hits(), silent.hits(), cut.hits()], [1; 3]);
}
