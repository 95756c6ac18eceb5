use std::sync::Arc;

use gcloud_sdk::google::firestore::v1::{Document, GetDocumentRequest};
use tonic::Status;

use super::{consistency::Consistency, mask::Mask};
use crate::{database::Database, name::DocumentName};

pub(super) async fn answer(
    database: Arc<Database>,
    request: GetDocumentRequest,
) -> Result<Document, Status> {
    let name = DocumentName::parse(&request.name)?;
    let mask = Mask::parse(request.mask)?;
    let of = name.database();
    let (reading, _) = Consistency::from(request.consistency_selector).resolve(&database, &of)?;
    let read = database.read(&of, reading, std::slice::from_ref(&name)).await?;
    let stored = read.of.into_iter().next().flatten();
    let missing = || Status::not_found(format!("Document \"{name}\" not found."));
    stored.map(|document| mask.apply(&document)).ok_or_else(missing)
}
