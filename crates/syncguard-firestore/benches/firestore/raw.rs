use std::net::SocketAddr;

use gcloud_sdk::{
    GoogleAuthHeaders, GoogleAuthMiddleware,
    google::firestore::v1::{
        BatchGetDocumentsRequest, CommitRequest, Document, Precondition, Value, Write,
        batch_get_documents_response::Result as Found, firestore_client::FirestoreClient,
        precondition::ConditionType, value::ValueType, write::Operation,
    },
    google_cloud_auth::credentials::anonymous,
    tonic::{
        body::Body as RequestBody,
        client::GrpcService,
        codegen::{
            Body, Bytes, StdError,
            http::{HeaderMap, HeaderValue, header::AUTHORIZATION},
        },
        transport::Channel,
    },
};
use syncguard_core::LockId;

/// A client that makes the calls directly.
#[derive(Clone)]
pub(crate) struct Raw<S> {
    client: FirestoreClient<S>,
    database: String,
}

fn channel(server: SocketAddr) -> Channel {
    Channel::from_shared(format!("http://{server}")).unwrap().connect_lazy()
}

fn database() -> String {
    format!("projects/{}/databases/(default)", crate::PROJECT)
}

impl Raw<Channel> {
    /// Creates a client over a bare channel, without credentials or timeouts.
    pub(crate) fn bare(server: SocketAddr) -> Self {
        Self { client: FirestoreClient::new(channel(server)), database: database() }
    }
}

impl Raw<GoogleAuthMiddleware> {
    /// Creates a client over the driver, set up like its own client: with credentials, and without
    /// timeouts.
    pub(crate) fn driver(server: SocketAddr) -> Self {
        let headers = GoogleAuthHeaders::from(anonymous::Builder::new().build());
        let mut service =
            GoogleAuthMiddleware::new(channel(server), headers, Some(database())).unwrap();
        let owner = HeaderValue::from_static("Bearer owner");
        service.set_additional_headers(HeaderMap::from_iter([(AUTHORIZATION, owner)]));
        Self { client: FirestoreClient::new(service), database: database() }
    }
}

impl<S> Raw<S>
where
    S: GrpcService<RequestBody, Future: Send> + Clone + Send + Sync,
    S::Error: Into<StdError>,
    S::ResponseBody: Body<Data = Bytes> + Send + 'static,
    <S::ResponseBody as Body>::Error: Into<StdError> + Send,
{
    /// Acquires and releases with the three calls, each with its complete content.
    pub(crate) async fn acquire_and_release(&self, key: &str) {
        let id = LockId::mint().unwrap();
        let lock = format!("{}/documents/locks/{key}", self.database);
        let counter = format!("{}/documents/fence_counters/fence:{key}", self.database);
        let (now, last) = self.read(&lock, &counter).await;
        let (fence, condition) = match last {
            None => (1, ConditionType::Exists(false)),
            Some(document) => {
                let fence = text_of(&document, "fence").parse::<u64>().unwrap() + 1;
                (fence, ConditionType::UpdateTime(document.update_time.unwrap()))
            }
        };
        let fence = format!("{fence:015}");
        let fields = [
            ("lockId", text(id.as_str())),
            ("expiresAtMs", integer(now + 30_000)),
            ("acquiredAtMs", integer(now)),
            ("key", text(key)),
            ("fence", text(&fence)),
        ];
        let grant = vec![
            update(&lock, &fields, ConditionType::Exists(false)),
            update(&counter, &[("fence", text(&fence)), ("keyDebug", text(key))], condition),
        ];
        let version = self.commit(grant).await.unwrap();
        let release = Write {
            operation: Some(Operation::Delete(lock)),
            current_document: only_if(ConditionType::UpdateTime(version)),
            ..Write::default()
        };
        self.commit(vec![release]).await;
    }

    async fn read(&self, lock: &str, counter: &str) -> (i64, Option<Document>) {
        let request = BatchGetDocumentsRequest {
            database: self.database.clone(),
            documents: vec![lock.to_owned(), counter.to_owned()],
            ..BatchGetDocumentsRequest::default()
        };
        let mut client = self.client.clone();
        let mut stream = client.batch_get_documents(request).await.unwrap().into_inner();
        let (mut now, mut found) = (0, None);
        while let Some(response) = stream.message().await.unwrap() {
            let time = response.read_time.unwrap();
            now = time.seconds * 1_000 + i64::from(time.nanos) / 1_000_000;
            if let Some(Found::Found(document)) = response.result {
                assert_eq!(document.name, counter, "the lock is free");
                found = Some(document);
            }
        }
        (now, found)
    }

    async fn commit(&self, writes: Vec<Write>) -> Option<gcloud_sdk::prost_types::Timestamp> {
        let database = self.database.clone();
        let request = CommitRequest { database, writes, ..CommitRequest::default() };
        let response = self.client.clone().commit(request).await.unwrap().into_inner();
        response.write_results[0].update_time
    }
}

fn update(name: &str, fields: &[(&str, Value)], condition: ConditionType) -> Write {
    let fields = fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
    let document =
        Document { name: name.to_owned(), fields: fields.collect(), ..Document::default() };
    Write {
        operation: Some(Operation::Update(document)),
        current_document: only_if(condition),
        ..Write::default()
    }
}

fn only_if(condition: ConditionType) -> Option<Precondition> {
    Some(Precondition { condition_type: Some(condition) })
}

fn text(value: &str) -> Value {
    Value { value_type: Some(ValueType::StringValue(value.to_owned())) }
}

fn integer(value: i64) -> Value {
    Value { value_type: Some(ValueType::IntegerValue(value)) }
}

fn text_of<'a>(document: &'a Document, field: &str) -> &'a str {
    match &document.fields[field].value_type {
        Some(ValueType::StringValue(text)) => text,
        other => panic!("{other:?} is no text"),
    }
}
