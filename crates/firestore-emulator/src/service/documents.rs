//! Which documents a request names: faults can be meant for one document.

use gcloud_sdk::google::firestore::v1::{
    BatchGetDocumentsRequest, BeginTransactionRequest, CommitRequest, GetDocumentRequest,
    ListDocumentsRequest, RollbackRequest, RunQueryRequest, Write, write::Operation,
};

pub(super) trait Documents {
    /// The names of the documents that are to be read or written, as they stand in the message.
    fn documents(&self) -> Vec<String> {
        Vec::new()
    }
}

impl Documents for BatchGetDocumentsRequest {
    fn documents(&self) -> Vec<String> {
        self.documents.clone()
    }
}

impl Documents for GetDocumentRequest {
    fn documents(&self) -> Vec<String> {
        vec![self.name.clone()]
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
impl Documents for ListDocumentsRequest {}
impl Documents for RollbackRequest {}
impl Documents for RunQueryRequest {}
