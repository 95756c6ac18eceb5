use std::{collections::HashSet, sync::Arc};

use gcloud_sdk::google::firestore::v1::{
    BatchGetDocumentsRequest, BatchGetDocumentsResponse,
    batch_get_documents_response::Result as Outcome,
};
use tonic::Status;

use super::{consistency::Consistency, mask::Mask};
use crate::{
    database::Database,
    name::{DatabaseName, DocumentName},
};

pub(super) async fn answer(
    database: Arc<Database>,
    request: BatchGetDocumentsRequest,
) -> Result<Vec<BatchGetDocumentsResponse>, Status> {
    let of = DatabaseName::parse(&request.database)?;
    let names = request.documents.iter().map(|name| of.document(name));
    let mut names: Vec<DocumentName> = names.collect::<Result<_, _>>()?;
    // A repeated name is answered once.
    let mut seen = HashSet::new();
    names.retain(|name| seen.insert(name.clone()));
    let mask = Mask::parse(request.mask)?;
    let consistency = Consistency::from(request.consistency_selector);
    let (reading, begun) = consistency.resolve(&database, &of)?;
    let read = database.read(&of, reading, &names).await?;
    let response = |result| BatchGetDocumentsResponse {
        read_time: Some(read.at.into()),
        result,
        ..Default::default()
    };
    // A new transaction is reported before all documents, in a message of its own.
    let first =
        begun.map(|id| BatchGetDocumentsResponse { transaction: id.to_bytes(), ..response(None) });
    let documents = names.iter().zip(&read.of).map(|(name, stored)| {
        response(Some(match stored {
            Some(document) => Outcome::Found(mask.apply(document)),
            None => Outcome::Missing(name.to_string()),
        }))
    });
    Ok(first.into_iter().chain(documents).collect())
}
