//! The parts of a request that faults inspect and change: the documents that it names, and the time
//! as of which it reads them.

use gcloud_sdk::{
    google::firestore::v1::{
        BatchGetDocumentsRequest, BeginTransactionRequest, CommitRequest, GetDocumentRequest,
        ListDocumentsRequest, RollbackRequest, RunQueryRequest, Write,
        batch_get_documents_request as batch, get_document_request as get,
        list_documents_request as list, run_query_request as query, write::Operation,
    },
    prost_types::Timestamp,
};

pub(super) trait Documents {
    /// Returns the names of the documents to be read or written, as they are in the message.
    fn documents(&self) -> Vec<String> {
        Vec::new()
    }

    /// Turns a request for the latest state into one for the state of a time. Every other request
    /// stays unchanged.
    fn read_as_of(&mut self, _: Timestamp) {}
}

impl Documents for BatchGetDocumentsRequest {
    fn documents(&self) -> Vec<String> {
        self.documents.clone()
    }

    fn read_as_of(&mut self, time: Timestamp) {
        self.consistency_selector.get_or_insert(batch::ConsistencySelector::ReadTime(time));
    }
}

impl Documents for GetDocumentRequest {
    fn documents(&self) -> Vec<String> {
        vec![self.name.clone()]
    }

    fn read_as_of(&mut self, time: Timestamp) {
        self.consistency_selector.get_or_insert(get::ConsistencySelector::ReadTime(time));
    }
}

impl Documents for ListDocumentsRequest {
    fn read_as_of(&mut self, time: Timestamp) {
        self.consistency_selector.get_or_insert(list::ConsistencySelector::ReadTime(time));
    }
}

impl Documents for RunQueryRequest {
    fn read_as_of(&mut self, time: Timestamp) {
        self.consistency_selector.get_or_insert(query::ConsistencySelector::ReadTime(time));
    }
}

impl Documents for CommitRequest {
    fn documents(&self) -> Vec<String> {
        let name = |write: &Write| match &write.operation {
            Some(Operation::Update(document)) => Some(document.name.clone()),
            Some(Operation::Delete(name)) => Some(name.clone()),
            Some(Operation::Transform(transform)) => Some(transform.document.clone()),
            None => None,
        };
        self.writes.iter().filter_map(name).collect()
    }
}

impl Documents for BeginTransactionRequest {}
impl Documents for RollbackRequest {}
