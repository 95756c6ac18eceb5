use std::sync::Arc;

use gcloud_sdk::google::firestore::v1::{Document, ListDocumentsRequest, ListDocumentsResponse};
use tonic::Status;

use super::{consistency::Consistency, mask::Mask};
use crate::{
    database::Database,
    name::{CollectionName, DocumentName},
    query::{Cursor, Query},
};

/// The maximum and default number of documents in a page.
const MAX_PAGE: usize = 300;

pub(super) async fn answer(
    database: Arc<Database>,
    request: ListDocumentsRequest,
) -> Result<ListDocumentsResponse, Status> {
    if request.show_missing || !matches!(&request.order_by[..], "" | "__name__") {
        let what = "documents are listed here if they exist, and in the order of their names";
        return Err(Status::unimplemented(what));
    }
    let size = page_size(request.page_size)?;
    let collection = CollectionName::parse(&request.parent, &request.collection_id)?;
    let after = after(&collection, &request.page_token)?;
    let of = collection.database();
    let fields = Mask::parse(request.mask)?.into_fields();
    // One more than requested shows whether there is another page.
    let query = Query::page(collection, after, size + 1, fields);
    let (reading, _) = Consistency::from(request.consistency_selector).resolve(&database, &of)?;
    let mut found = database.query(reading, &query).await?.of;
    let more = found.len() > size;
    found.truncate(size);
    let last = found.last().filter(|_| more);
    Ok(ListDocumentsResponse {
        next_page_token: last.map_or(Ok(String::new()), |last| token(last))?,
        documents: found.iter().map(|document| query.project(document)).collect(),
    })
}

fn page_size(wanted: i32) -> Result<usize, Status> {
    match usize::try_from(wanted) {
        Ok(0) => Ok(MAX_PAGE),
        Ok(size) => Ok(size.min(MAX_PAGE)),
        Err(_) => Err(Status::invalid_argument("the page size is negative")),
    }
}

/// The id of the last document of a page. It is opaque to clients.
fn token(last: &Document) -> Result<String, Status> {
    Ok(DocumentName::parse(&last.name)?.id().to_owned())
}

fn after(collection: &CollectionName, token: &str) -> Result<Option<Cursor>, Status> {
    if token.is_empty() {
        return Ok(None);
    }
    let last = DocumentName::parse(&format!("{}{token}", collection.prefix()))?;
    Ok(Some(Cursor::after_document(&last)))
}
