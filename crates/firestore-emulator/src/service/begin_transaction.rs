use std::sync::Arc;

use gcloud_sdk::google::firestore::v1::{BeginTransactionRequest, BeginTransactionResponse};
use tonic::Status;

use crate::{database::Database, name::DatabaseName};

pub(super) async fn answer(
    database: Arc<Database>,
    request: BeginTransactionRequest,
) -> Result<BeginTransactionResponse, Status> {
    let name = DatabaseName::parse(&request.database)?;
    let id = database.begin(name, request.options)?;
    Ok(BeginTransactionResponse { transaction: id.to_bytes() })
}
