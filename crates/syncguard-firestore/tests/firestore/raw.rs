//! Direct access to the documents, without the backend.

use std::{collections::BTreeMap, net::SocketAddr};

use firestore_emulator::Emulator;
use gcloud_sdk::{
    google::firestore::v1::{
        ArrayValue, BatchGetDocumentsRequest, BeginTransactionRequest, CommitRequest, Document,
        ListDocumentsRequest, MapValue, RollbackRequest, RunQueryRequest, StructuredQuery, Value,
        Write, batch_get_documents_request::ConsistencySelector,
        batch_get_documents_response::Result as Found, firestore_client::FirestoreClient,
        run_query_request::QueryType, structured_query::CollectionSelector, value::ValueType,
        write::Operation,
    },
    tonic::{Status, transport::Channel},
};

use crate::PROJECT;

/// A client that shares no code with the backend.
#[derive(Clone)]
pub(crate) struct Raw(FirestoreClient<Channel>);

pub(crate) type Fields = BTreeMap<String, ValueType>;

fn database() -> String {
    format!("projects/{PROJECT}/databases/(default)")
}

fn name(path: &str) -> String {
    format!("{}/documents/{path}", database())
}

impl Raw {
    pub(crate) fn connect(emulator: &Emulator) -> Self {
        Self::at(emulator.address())
    }

    pub(crate) fn at(server: SocketAddr) -> Self {
        let endpoint = Channel::from_shared(format!("http://{server}")).unwrap();
        Self(FirestoreClient::new(endpoint.connect_lazy()))
    }

    /// Reads a document by its path, such as `locks/job`.
    pub(crate) async fn read(&self, path: &str) -> Option<Fields> {
        let request = BatchGetDocumentsRequest {
            database: database(),
            documents: vec![name(path)],
            ..BatchGetDocumentsRequest::default()
        };
        let mut client = self.0.clone();
        let mut stream = client.batch_get_documents(request).await.unwrap().into_inner();
        match stream.message().await.unwrap().unwrap().result {
            Some(Found::Found(document)) => Some(fields(document)),
            _ => None,
        }
    }

    /// Replaces a document.
    pub(crate) async fn set(&self, path: &str, fields: Fields) -> Result<(), Status> {
        self.commit(vec![replacing(path, fields)]).await
    }

    /// Replaces documents, all in one commit.
    pub(crate) async fn set_all(&self, documents: BTreeMap<String, Fields>) {
        let writes = documents.into_iter().map(|(path, fields)| replacing(&path, fields));
        self.commit(writes.collect()).await.unwrap();
    }

    /// Reads all documents of a collection, by their paths.
    pub(crate) async fn all(&self, collection: &str) -> BTreeMap<String, Fields> {
        let root = name("");
        let path = |document: &Document| document.name.strip_prefix(&root).unwrap().to_owned();
        let documents = self.list(collection).await.into_iter();
        documents.map(|document| (path(&document), fields(document))).collect()
    }

    pub(crate) async fn delete(&self, path: &str) {
        self.commit(vec![write(Operation::Delete(name(path)))]).await.unwrap();
    }

    /// Returns the ids of all documents in a collection.
    pub(crate) async fn ids(&self, collection: &str) -> Vec<String> {
        let id = |document: Document| document.name.rsplit('/').next().unwrap().to_owned();
        self.list(collection).await.into_iter().map(id).collect()
    }

    async fn list(&self, collection: &str) -> Vec<Document> {
        let request = ListDocumentsRequest {
            parent: format!("{}/documents", database()),
            collection_id: collection.to_owned(),
            page_size: 10_000,
            ..ListDocumentsRequest::default()
        };
        let listed = self.0.clone().list_documents(request).await.unwrap().into_inner();
        assert_eq!(listed.next_page_token, "", "one page shows all");
        listed.documents
    }

    /// Returns the paths of all documents in a collection and below it, in the order of their
    /// names.
    pub(crate) async fn below(&self, collection: &str) -> Vec<String> {
        let root = format!("{}/documents", database());
        let from = vec![CollectionSelector { all_descendants: true, ..Default::default() }];
        let query = StructuredQuery { from, ..StructuredQuery::default() };
        let query_type = Some(QueryType::StructuredQuery(query));
        let request =
            RunQueryRequest { parent: root.clone(), query_type, ..RunQueryRequest::default() };
        let mut stream = self.0.clone().run_query(request).await.unwrap().into_inner();
        let mut paths = Vec::new();
        while let Some(response) = stream.message().await.unwrap() {
            let name = response.document.map(|document| document.name).unwrap_or_default();
            let path = name.strip_prefix(&format!("{root}/")).unwrap_or_default();
            if path.starts_with(&format!("{collection}/")) {
                paths.push(path.to_owned());
            }
        }
        paths
    }

    /// Begins a read-write transaction, reads documents in it, and keeps it open. Returns its id.
    pub(crate) async fn open_transaction(&self, paths: &[&str]) -> Vec<u8> {
        let database = database();
        let begin = BeginTransactionRequest { database, ..BeginTransactionRequest::default() };
        let mut client = self.0.clone();
        let transaction =
            client.begin_transaction(begin).await.unwrap().into_inner().transaction.clone();
        let request = BatchGetDocumentsRequest {
            database: self::database(),
            documents: paths.iter().map(|path| name(path)).collect(),
            consistency_selector: Some(ConsistencySelector::Transaction(transaction.clone())),
            ..BatchGetDocumentsRequest::default()
        };
        let mut stream = client.batch_get_documents(request).await.unwrap().into_inner();
        while stream.message().await.unwrap().is_some() {}
        transaction
    }

    pub(crate) async fn roll_back(&self, transaction: Vec<u8>) {
        let database = database();
        let request = RollbackRequest { database, transaction, ..RollbackRequest::default() };
        self.0.clone().rollback(request).await.unwrap();
    }

    /// Acquires a key as the TypeScript client does: in a read-write transaction, by the clock of
    /// this host, replacing both documents. Returns whether the key was granted.
    pub(crate) async fn acquire_as_typescript(&self, key: &str, id: &str) -> bool {
        let (lock, counter) = (format!("locks/{key}"), format!("fence_counters/fence:{key}"));
        let transaction = self.open_transaction(&[&lock, &counter]).await;
        let now = now_ms();
        let expiry = self.read(&lock).await.map(|lock| match lock["expiresAtMs"] {
            ValueType::IntegerValue(expiry) => expiry,
            ref other => panic!("{other:?}"),
        });
        if expiry.is_some_and(|expiry| expiry > now - 1_000) {
            self.roll_back(transaction).await;
            return false;
        }
        let last = match self.read(&counter).await.map(|counter| counter["fence"].clone()) {
            Some(ValueType::StringValue(fence)) => fence.parse().unwrap(),
            _ => 0_u64,
        };
        let fence = || ("fence", text(&format!("{:015}", last + 1)));
        let granted = record([
            ("lockId", text(id)),
            ("expiresAtMs", integer(now + 30_000)),
            ("acquiredAtMs", integer(now)),
            ("key", text(key)),
            fence(),
        ]);
        let counted = record([fence(), ("keyDebug", text(key))]);
        let writes = vec![replacing(&counter, counted), replacing(&lock, granted)];
        let (database, mut client) = (database(), self.0.clone());
        let commit = CommitRequest { database, writes, transaction, ..CommitRequest::default() };
        client.commit(commit).await.unwrap();
        true
    }

    async fn commit(&self, writes: Vec<Write>) -> Result<(), Status> {
        let request = CommitRequest { database: database(), writes, ..CommitRequest::default() };
        self.0.clone().commit(request).await.map(drop)
    }
}

fn replacing(path: &str, fields: Fields) -> Write {
    let value = |value_type| Value { value_type: Some(value_type) };
    let fields = fields.into_iter().map(|(name, field)| (name, value(field))).collect();
    write(Operation::Update(Document { name: name(path), fields, ..Document::default() }))
}

fn write(operation: Operation) -> Write {
    Write { operation: Some(operation), ..Write::default() }
}

fn fields(document: Document) -> Fields {
    let value = |value: Value| value.value_type.unwrap();
    document.fields.into_iter().map(|(name, field)| (name, value(field))).collect()
}

/// Returns the time of this host.
pub(crate) fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_millis()).unwrap()
}

pub(crate) fn map<const N: usize>(fields: [(&str, ValueType); N]) -> ValueType {
    let value = |value_type| Value { value_type: Some(value_type) };
    let fields = fields.map(|(name, field)| (name.to_owned(), value(field))).into();
    ValueType::MapValue(MapValue { fields })
}

pub(crate) fn array<const N: usize>(values: [ValueType; N]) -> ValueType {
    let values = values.map(|value| Value { value_type: Some(value) }).into();
    ValueType::ArrayValue(ArrayValue { values })
}

pub(crate) fn text(value: &str) -> ValueType {
    ValueType::StringValue(value.to_owned())
}

pub(crate) fn integer(value: i64) -> ValueType {
    ValueType::IntegerValue(value)
}

pub(crate) fn double(value: f64) -> ValueType {
    ValueType::DoubleValue(value)
}

/// Returns a map of tombstones with one id.
pub(crate) fn tombstone(id: &str, at: i64) -> ValueType {
    let at = Value { value_type: Some(integer(at)) };
    ValueType::MapValue(MapValue { fields: [(id.to_owned(), at)].into() })
}

/// Returns the ids of the tombstones in a counter.
pub(crate) fn tombstones(fields: &Fields) -> Vec<String> {
    match fields.get("abandoned") {
        Some(ValueType::MapValue(MapValue { fields })) => fields.keys().cloned().collect(),
        _ => Vec::new(),
    }
}

pub(crate) fn record<const N: usize>(fields: [(&str, ValueType); N]) -> Fields {
    fields.map(|(name, value)| (name.to_owned(), value)).into()
}
